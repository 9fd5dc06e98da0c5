"""`make verify`: equal to the bit on the same machine, within the intervals elsewhere."""

import copy

import pandas as pd
import pytest
import verify


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tables").mkdir()
    main = {"method": ["heal", "star"], "benchmark": "paths-hard", "metric": "avg@2", "mean": [0.3, 0.1],
            "ci_low": [0.2, 0.0], "ci_high": [0.4, 0.2], "training_seconds": [1.0, 2.0]}
    pd.DataFrame(main).to_csv(tmp_path / "tables" / "main_results.csv", index=False)
    pd.DataFrame({"a": [1.0]}).to_csv(tmp_path / "tables" / "other.csv", index=False)
    return tmp_path


def change(folder, name, column, value):
    path = folder / "tables" / name
    frame = pd.read_csv(path)
    frame.loc[0, column] = value
    frame.to_csv(path, index=False)
    return verify.found(folder)


def test_here_every_digit_but_times_must_be_the_same(folder):
    committed = verify.found(folder)
    assert verify.differences(change(folder, "main_results.csv", "training_seconds", 9.0), committed) == []
    assert verify.differences(change(folder, "other.csv", "a", 1.00001), committed) == ["other.csv"]
    (folder / "tables" / "other.csv").unlink()
    assert verify.differences(verify.found(folder), committed) == ["other.csv"]


def test_elsewhere_intervals_must_meet(folder):
    committed = copy.deepcopy(verify.found(folder))
    committed["environment"]["cpu"] = "another one"
    assert verify.differences(change(folder, "main_results.csv", "ci_low", 0.35), committed) == []
    assert verify.differences(change(folder, "other.csv", "a", 2.0), committed) == []
    assert verify.differences(change(folder, "main_results.csv", "ci_low", 0.41), committed) == [
        "heal paths-hard avg@2"]

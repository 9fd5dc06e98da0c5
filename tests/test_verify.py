"""`make verify`: equal to the bit on the same kind of processor, within the intervals elsewhere."""

import pandas as pd
import pytest
import verify

from heal_lib.stage import Stage
from heal_lib.store import Store


def rows(*, n, folder):
    (folder / "data").write_text(str(n))


@pytest.fixture
def folder(tmp_path):
    return leave(tmp_path / "one")


def leave(folder, n=3):
    """What a run leaves, of which `n` is a stage's content."""
    Store(folder / "cache").get(Stage("rows", rows, {"n": n}))
    tables = folder / "results" / "tables"
    tables.mkdir(parents=True)
    main = {"method": ["heal", "star"], "benchmark": "paths-hard", "metric": "avg@2", "mean": [0.3, 0.1],
            "ci_low": [0.2, 0.0], "ci_high": [0.4, 0.2], "training_seconds": [1.0, 2.0]}
    pd.DataFrame(main).to_csv(tables / "main_results.csv", index=False)
    pd.DataFrame({"a": [1.0]}).to_csv(tables / "other.csv", index=False)
    return folder


def change(folder, name, column, value):
    path = folder / "results" / "tables" / name
    frame = pd.read_csv(path)
    frame.loc[0, column] = value
    frame.to_csv(path, index=False)
    return verify.found(folder)


def test_here_every_digit_but_times_must_be_the_same(folder, tmp_path):
    committed = {"here": verify.found(folder)}

    def differences(found):
        return verify.differences(found, "here", committed)

    assert differences(change(folder, "main_results.csv", "training_seconds", 9.0)) == []
    assert differences(change(folder, "other.csv", "a", 1.00001)) == ["other.csv"]
    (folder / "results" / "tables" / "other.csv").unlink()
    assert differences(verify.found(folder)) == ["other.csv"]
    assert differences(verify.found(leave(tmp_path / "again"))) == []
    assert differences(verify.found(leave(tmp_path / "another", n=4))) == ["rows"]


@pytest.mark.parametrize("elsewhere", ["another processor", "other versions"])
def test_elsewhere_intervals_must_meet(folder, elsewhere):
    committed = {"here": verify.found(folder)}
    if elsewhere == "other versions":
        committed["here"]["versions"] = {"torch": "0.0"}

    def differences(found):
        return verify.differences(found, "here" if elsewhere == "other versions" else elsewhere, committed)

    assert differences(change(folder, "main_results.csv", "ci_low", 0.35)) == []
    assert differences(change(folder, "other.csv", "a", 2.0)) == []
    assert differences(change(folder, "main_results.csv", "ci_low", 0.41)) == ["heal paths-hard avg@2"]

"""A sweep: every value is checked before anything runs, and table and figure hold them all, in order."""

import json
from pathlib import Path

import pandas as pd
import pytest

from heal_lib import ablate, llm, notebooks, run, tables
from heal_lib.errors import HealError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (*notebooks.QUIET, "JUPYTER_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # so that what the command sets is undone


def test_values_are_read_as_data():
    assert ablate.values("window", "1/2, 1.0,difference") == [0.5, 1.0, "difference"]
    with pytest.raises(HealError, match="VALUES"):
        ablate.values("window", " , ")


def test_a_hint_of_none_is_a_value_of_its_own_and_not_the_default():
    tried = ablate.values("hint", "none,wrong")
    assert [cfg.hint for cfg in ablate.settings("smoke", "hint", tried).values()] == ["answer", "none", "wrong"]


def test_what_cannot_be_is_named_before_anything_runs():
    with pytest.raises(HealError, match="did you mean window"):
        ablate.settings("smoke", "windw", [0.5])
    with pytest.raises(HealError, match="window"):
        ablate.settings("smoke", "window", [0.5, "wide"])
    assert ablate.main(["no_such_switch", "1", "--scale", "smoke"]) == 2


def test_the_default_is_there_once_and_first():
    assert list(ablate.settings("smoke", "window", [0.5, 1 / 3])) == ["window=0.3333 (default)", "window=0.5"]
    assert list(ablate.settings("smoke", "surge", ["value"])) == ["surge=difference (default)", "surge=value"]


@pytest.mark.parametrize(("levels", "together"), [
    (("equations-easy", "equations-hard"), tables.POOLED), (("stories-one", "stories-two"), llm.POOLED)])
def test_every_value_gets_its_line_and_its_place_in_the_figure(tmp_path, monkeypatch, capsys, levels, together):
    def sweep(configs):
        return pd.DataFrame([{"method": name, "benchmark": level, "problem_id": f"p{i}", "seed": seed,
                              "sample": 0, "correct": cfg.window > 0.6}
                             for name, cfg in configs.items() for level in levels for i in range(3) for seed in (0, 1)])

    monkeypatch.setattr(ablate, "sweep", sweep)
    monkeypatch.setattr(ablate, "given", lambda configs: pd.DataFrame({"setting": list(configs), "rows": range(3)}))
    monkeypatch.setattr(ablate, "ROOT", tmp_path)
    assert ablate.main(["--scale", "smoke", "window", "0.5,1.0", "--json"]) == 0
    found = json.loads((said := capsys.readouterr()).out)
    folder = Path(found["folder"])
    table = pd.read_csv(folder / "tables" / "ablate_window.csv")
    assert [row["method"] for row in found["table"]] == list(table["method"])
    assert found["given"] == pd.read_csv(folder / "tables" / "ablate_window_data.csv").to_dict("records")
    assert [row["rows"] for row in found["given"]] == [0, 1, 2]
    pooled = table[table["benchmark"] == together]
    assert list(pooled["method"]) == ["window=0.3333 (default)", "window=0.5", "window=1.0"]
    assert list(pooled["mean"]) == [0, 0, 1] and list(pooled["minus_default"])[1:] == [0, 1]
    assert pooled["minus_default"].isna()[pooled.index[0]]
    assert (folder / "figures" / "ablate_window.png").stat().st_size > 1000 and "window=1.0" in said.err
    assert said.err.count(together) == 3


def test_what_a_strong_knob_changes_shows_before_any_student_is_trained(says):
    from micro import micro

    usual, strict = micro(pure_lambda=0.0), micro(pure_lambda=0.9)
    table = ablate.given({"usual": usual, "strict": strict}).set_index("setting")
    rows = table["hint rows"] + table["repair rows"]
    assert table["teacher tokens"].nunique() == table["verified repairs"].nunique() == 1  # it filters, no more
    assert 0 < rows["strict"] < rows["usual"] and table["base rows"].nunique() == 1


def test_an_empty_switch_is_named_before_its_values(capsys):
    assert ablate.main(["", "", "--scale", "smoke"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("heal: SWITCH is empty") and "SWITCH=window VALUES=" in said and said.count("\n") == 1


def test_results_that_cannot_be_written_are_named_before_any_work(tmp_path, monkeypatch, capsys):
    def read_only(path, *_):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(ablate, "sweep", lambda configs: pytest.fail("worked"))
    monkeypatch.setattr(ablate, "ROOT", tmp_path)
    monkeypatch.setattr(run, "open", read_only, raising=False)
    assert ablate.main(["--scale", "smoke", "window", "0.5"]) == 2
    assert capsys.readouterr().err.startswith(f"heal: {tmp_path}/results/smoke+window=sweep: cannot be written")
    (tmp_path / "results" / "smoke+surge=sweep").write_text("")
    assert ablate.main(["--scale", "smoke", "surge", "value"]) == 2 and "results" in capsys.readouterr().err

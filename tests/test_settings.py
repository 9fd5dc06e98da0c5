"""One folder is of one setting, and up to date only as long as all that it rests on is the same."""

import json

import pytest
from driven import drive, names, notebook

from heal_lib import notebooks, provenance, readme, reproduce, scales
from heal_lib.errors import HealError


def test_what_is_overridden_is_told_to_every_kernel(project, executed, monkeypatch):
    """So that a folder is of one setting, whichever notebooks declare it."""
    told, whole = [], notebooks.execute
    monkeypatch.setattr(notebooks, "execute", lambda *given: told.append(json.loads(given[3]["HEAL_OVERRIDES"]))
                        or whole(*given))
    notebook(project / "notebooks" / "02_gear.ipynb", "", 'scale = "s"\nprice = 1.0\nseeds = None')
    assert drive("-p", "window", "1/4", "-p", "price", "2", "-p", "seeds", "3,") == 0
    assert told == [{"window": 0.25, "seeds": [3]}] * 4


@pytest.mark.parametrize(("price", "folder"), [
    ("1", "s"), ("2", "s+price=2"), ("'a/b'", "s+"), ("[1,2]", "s+"), ("x" * 99, "s+")])
def test_a_parameter_that_no_scale_has_overwrites_nothing_either(project, executed, monkeypatch, price, folder):
    notebook(project / "notebooks" / "02_gear.ipynb", "", 'scale = "s"\nprice = 1.0')
    assert drive("--only", "02") == 0
    before = (project / "results" / "s" / "run.json").read_bytes()
    assert drive("--only", "02", "-p", "price", price) == 0
    (found,) = [it.name for it in (project / "results").iterdir() if it.name != "s"] or ["s"]
    assert found == folder or folder == "s+" and len(found) == 14
    assert found == "s" or (project / "results" / "s" / "run.json").read_bytes() == before
    monkeypatch.setenv("HEAL_RESULTS", str(project / "mine"))
    assert drive("--only", "02", "-p", "price", price) == 0 and (project / "mine" / "run.json").is_file()


def test_other_data_make_notebooks_anew(project, executed, monkeypatch, tmp_path):
    """A file of problems, the page of the explorer, how several processes train."""
    file = tmp_path / "mine.jsonl"
    file.write_text("{}")
    asked = scales.Scale("s", window=0.5, worlds=("math",), difficulties=(str(file),), benchmarks=("own",), processes=2)
    monkeypatch.setitem(scales.SCALES, "s", asked)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "heal_lib")
    (tmp_path / "heal_lib" / "plots").mkdir(parents=True)

    def again():
        return drive("--only", "00") == 0 and names(executed) == ["00_tour"]

    assert again() and not again()
    for changed in (file, tmp_path / "heal_lib" / "plots" / "explorer.html", tmp_path / "accelerate.yaml"):
        changed.write_text("new")
        monkeypatch.setenv("ACCELERATE_CONFIG", str(changed) if changed.suffix == ".yaml" else "")
        assert again() and not again()
    monkeypatch.setenv("ACCELERATE_CONFIG", str(tmp_path / "gone"))
    assert drive("--only", "00") == 2


def test_the_report_is_up_to_date_only_if_the_first_page_is(project, executed, monkeypatch):
    assert drive() == 0 and len(names(executed)) == 4
    monkeypatch.setattr(readme, "fills", lambda cfg: cfg.name == "s")
    for shown in (True, False, HealError("README.md has no marks"), FileNotFoundError("llm_cuts.csv")):
        def current(shown=shown):
            if isinstance(shown, Exception):
                raise shown
            return shown

        monkeypatch.setattr(readme, "is_current", current)
        assert drive() == 0 and names(executed) == ["99_report"] * (shown is not True)


def test_an_override_reaches_a_notebook_that_does_not_declare_it(project):
    body = "from heal_lib import scales; cfg = scales.get(scale); print('window is', cfg.window, cfg.seeds)"
    notebook(project / "notebooks" / "02_gear.ipynb", body, 'scale = "demo"')
    assert reproduce.main(["--scale", "demo", "--only", "01", "02", "-p", "window", "0.25"]) == 0
    text = (project / "results" / "demo+window=0.25" / "notebooks" / "02_gear.ipynb").read_text()
    assert "window is 0.25 (0, 1, 2, 3, 4)" in text

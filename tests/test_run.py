"""What a run leaves in its folder, and what it says where it cannot go on."""

import ast
import re
import socket

import pytest

from heal_lib import ablate, cli, console, notebooks, places, run, workers
from heal_lib.errors import HealError
from heal_lib.files import disk_error, file_hash
from heal_lib.run import Run


@pytest.fixture
def left(tmp_path):
    """A folder with files of a last run, and a function that tells which of them stay after the next."""
    it, folder = Run.__new__(Run), tmp_path / "results"
    (folder / "tables").mkdir(parents=True)
    for path in (*(folder / "tables" / f"{name}.csv" for name in "abcd"), tmp_path / "outside.csv"):
        path.write_text(path.name)
    known = {f"tables/{name}.csv": file_hash(folder / "tables" / f"{name}.csv") for name in "abc"}
    it.folder, it.last, it.record = folder, {"02_gear": {"outputs": known}}, {"notebooks": {}}

    def stay(*outputs):
        it._drop_stale("02_gear", dict.fromkeys(f"tables/{name}.csv" for name in outputs))
        return "".join(sorted(path.stem for path in (folder / "tables").iterdir()))

    return it, stay


def test_what_a_notebook_does_not_make_any_more_is_deleted(left):
    _, stay = left
    assert stay("a", "b", "c") == "abcd"
    assert stay("a") == "ad"  # d is in no record: somebody else's


def test_what_was_changed_or_is_another_notebook_s_too_stays(left):
    it, stay = left
    (it.folder / "tables" / "b.csv").write_text("by hand")
    it.record["notebooks"]["05_main"] = {"outputs": {"tables/c.csv": "whatever it is now"}}
    assert stay() == "bcd"
    it.last = {}
    assert stay() == "bcd"


def test_a_record_can_name_no_file_outside_the_folder(left, tmp_path):
    it, stay = left
    (it.folder / "tables" / "link.csv").symlink_to(tmp_path / "outside.csv")
    there = file_hash(tmp_path / "outside.csv")
    it.last["02_gear"]["outputs"] = dict.fromkeys(
        ("../outside.csv", str(tmp_path / "outside.csv"), "tables/link.csv", "tables/gone.csv", "tables"), there)
    assert stay() == "abcdlink" and (tmp_path / "outside.csv").exists()


def test_a_pool_that_was_killed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAL_POOL", str(tmp_path / "pool"))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "pool"))  # its name is left, and nobody listens
    for _ in range(2):
        with pytest.raises(HealError, match="pool of workers was killed; run the same command again"):
            workers.Kernel([], {}, ".")
        (tmp_path / "pool").unlink(missing_ok=True)


def said_by_the_library():
    """Every text of the library that names `make`, but docstrings and what is written into README."""
    for path in places.PACKAGE.rglob("*.py"):
        if path.name in ("report.py", "premises.py", "console.py"):
            continue
        tree = ast.parse(path.read_text())
        told = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in told | inside:
                yield node.value


def test_an_installed_package_names_no_make(tmp_path, monkeypatch):
    known = "setup|reproduce|smollm|bench|site|paper|ablate|x"
    named = [text for text in said_by_the_library() if re.search(rf"\bmake ({known})\b|'\.\[", text)]
    named += [ablate.EXAMPLE]
    assert len(named) > 8 and all(console.here(text) == text for text in named)  # a checkout has it
    monkeypatch.setattr(console, "PACKAGE", tmp_path / "heal_lib")
    assert not [text for text in named if re.search(rf"\bmake ({known})\b|'\.\[", console.here(text))]
    assert console.here("run make reproduce SCALE=smoke") == "run heal reproduce --scale smoke"
    assert console.here("run make setup, or pip install '.[docs]'") == "run pip install 'heal-lib[docs]'"


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A notebook's shell, in this process."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    yield InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}), colors="nocolor")
    InteractiveShell.clear_instance()


def test_a_notebook_s_errors_name_what_can_be_run_there(shell, tmp_path, monkeypatch, capsys):
    cell = ("from heal_lib import plots\nfrom heal_lib.errors import HealError\nplots.style()\n"
            "raise HealError('smollm: no such folder; run: make smollm')")
    for package, mend in ((places.PACKAGE, "make smollm"), (tmp_path / "heal_lib", "python -m heal_lib.smollm")):
        monkeypatch.setattr(console, "PACKAGE", package)
        found = shell.run_cell(cell).error_in_exec
        assert isinstance(found, HealError) and str(found) == f"smollm: no such folder; run: {mend}"
        said = capsys.readouterr().out
        assert f"HealError: {found}" in said.splitlines()[-1] and "---> 4 raise" in said
    assert shell.run_cell("1 / 0").error_in_exec and "ZeroDivisionError" in capsys.readouterr().out


def test_results_that_are_not_there_are_told_by_those_that_are(tmp_path, monkeypatch):
    monkeypatch.setattr(console, "ROOT", tmp_path)
    for name in ("demo", "llm"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "run.json").write_text("{}")
    assert console.results("demo") == tmp_path / "results" / "demo"
    for scale, mend in (("nosuch", "give another"), ("smoke", "run make reproduce SCALE=smoke")):
        with pytest.raises(HealError, match=f"results/{scale}: no results of a run; {mend}; there are demo, llm"):
            console.results(scale)
    assert cli.main(["show", "nosuch"]) == cli.main(["paper", "nosuch"]) == 2


def test_an_error_names_no_hidden_file_and_no_world_that_its_reader_cannot_choose():
    assert console.words(HealError("/a/.123.table.csv: cannot be written")) == "/a/table.csv: cannot be written"
    assert console.words(HealError("'x'; use a world that the model knows")) == "'x'; use a model that can"


def test_a_deleted_notebook_comes_back_from_git(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "notebooks")
    for name in (".git", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "notebooks" / "02_gear.ipynb").write_text("{}")
    with pytest.raises(HealError, match="'01'; if it was deleted, restore it with git checkout notebooks/; known: 02"):
        notebooks.select(["01"], "smoke")
    with pytest.raises(HealError, match="'gear'; did you mean 02_gear"):
        notebooks.select(["gear"], "smoke")


def test_a_warning_of_the_library_is_one_line():
    facts = (UserWarning, str(places.PACKAGE / "sampling.py"), 41)
    assert console.warned("no chat template; an instruct model is expected", *facts, line="draw()") == (
        "heal: no chat template; an instruct model is expected\n")
    assert "/other.py:41: UserWarning" in console.warned("else", UserWarning, "/other.py", 41, line="x")


def test_a_full_disk_is_told_by_its_folder(monkeypatch):
    def said(path):
        return console.words(disk_error(OSError(28, "No space left on device"), path))

    monkeypatch.setattr(console, "ROOT", places.Path("/here"))
    monkeypatch.setenv("HEAL_RESULTS", "")
    assert said("/cache/pool-1").endswith("move the cache with HEAL_CACHE")
    words = said("/here/results/demo/tables/gear.csv")
    assert words.startswith("/here/results/demo/tables/gear.csv: no room left on the disk; free some, or")
    assert words.endswith("make /here/results a link to a folder on another disk")
    monkeypatch.setenv("HEAL_RESULTS", "/there")
    assert said("/there/run.json").endswith("or point HEAL_RESULTS to another disk")


# --- what a run from nothing took

def record_of(*found, scale="demo"):
    """A record of all notebooks of a scale, of which those named found a stage in the cache that none made."""
    names = [path.stem for path in notebooks.select(None, scale)]
    return {"notebooks": {name: {"seconds": 60.0, "outputs": {}, "commit": "abc", "stages": {
        f"stage of {name}": {"made": int(name[:2] not in found), "seconds_to_make": 5.0}}} for name in names}}


def test_what_a_run_from_nothing_took_is_kept_when_something_is_drawn_anew():
    whole, again = record_of(), record_of("06")
    n = len(whole["notebooks"]) - 1  # 99 writes the first page before its own time is known
    took = {"seconds": 60.0 * n, "commit": "abc"}
    assert run._from_nothing(whole, "demo", {}) == took
    assert run._from_nothing({**again, "from_nothing": took}, "demo", {}) == took
    assert run._from_nothing({**record_of(scale="llm")}, "llm", {}) == {"seconds": 60.0, "commit": "abc"}


def test_what_a_run_from_nothing_took_is_not_said_of_another_size():
    """Known wrong turn: `demo` got two more draws of the teacher, and README would have gone on with its old time."""
    took = {"seconds": 60.0, "commit": "abc"}
    last = {**record_of("06"), "from_nothing": took, "config": {"seeds": [0, 1], "n_test": 50}}
    assert run._from_nothing(last, "demo", {"seeds": (0, 1), "n_test": 50, "new": 1}) == took
    assert run._from_nothing(last, "demo", {"seeds": (0, 1), "n_test": 60}) is None


def test_a_part_of_a_run_or_one_that_was_interrupted_is_no_run_from_nothing():
    part = record_of()
    del part["notebooks"]["05_main_results"]
    for record in ({}, part, record_of("06")):
        assert run._from_nothing(record, "demo", {}) is None


def test_a_notebook_that_the_record_has_lost_is_run_again(tmp_path):
    """Another kernel of the machine began a new record: a run without it would refuse its files as nobody's."""
    it = Run.__new__(Run)
    it.folder, it.record = tmp_path, {"notebooks": {}}
    it.notes, it.fingerprint = {"02_gear": {"fingerprint": "same", "outputs": {}}}, lambda path: "same"
    assert not it.up_to_date(tmp_path / "02_gear.ipynb")
    it.record["notebooks"]["02_gear"] = {}
    assert it.up_to_date(tmp_path / "02_gear.ipynb")

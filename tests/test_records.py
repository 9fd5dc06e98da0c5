"""What a results folder may hold: no edited notebook's, one state of the code, and a record that says which."""

import dataclasses
import json
import os
import subprocess

import pytest
from driven import drive, names, notebook

from heal_lib import embedded, notebooks, provenance, reproduce, run, scales
from heal_lib.errors import HealError
from heal_lib.stage import Stage
from heal_lib.store import Store


def test_an_edited_and_saved_parameter_does_not_pass_for_the_scale_s(project, executed, capsys):
    notebook(project / "notebooks" / "01_ceiling.ipynb", "print(window)", 'scale = "s"\nwindow = 1 / 4  # a try')
    assert drive() == 2 and executed == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heal: 01_ceiling.ipynb: its parameters cell has window = 1 / 4, s has 0.5; put that back")
    assert drive("--only", "02") == 0  # the others are as they were
    assert drive("-p", "window", "1/4") == 0  # what is given counts, not what stands there
    assert dict(executed)["01_ceiling"] == {"scale": "s", "window": 0.25}


@pytest.mark.parametrize("written", ["0.5", "1 / 2", "5e-1", "None", "0.5 if scale else 1"])
def test_what_a_parameters_cell_means_counts_not_how_it_is_written(project, executed, written, capsys):
    notebook(project / "notebooks" / "01_ceiling.ipynb", "", f'scale = "s"\nwindow: float = {written}')
    plain = "if" not in written
    assert drive("--only", "01") == (0 if plain else 2) and bool(executed) == plain
    assert plain or "window = 0.5 if scale else 1" in capsys.readouterr().err


def test_a_real_run_of_an_edited_notebook_leaves_nothing_in_the_scale_s_folder(project, capsys):
    for path, default in ((project / "notebooks" / "01_ceiling.ipynb", "0.3"), (None, None)):
        if path:
            notebook(path, "import os; open(os.environ['HEAL_RESULTS'] + '/tables/w.csv', 'w').write(str(window))",
                     f'scale = "s"\nwindow = {default}')
    assert drive("--only", "01") == 2 and not list((project / "results" / "s" / "tables").iterdir())
    (project / "results" / "s+window=0.25" / "tables").mkdir(parents=True)
    assert drive("--only", "01", "-p", "window", "1/4") == 0
    assert (project / "results" / "s+window=0.25" / "tables" / "w.csv").read_text() == "0.25"
    record = json.loads((project / "results" / "s+window=0.25" / "run.json").read_text())
    assert record["overrides"] == {"window": 0.25} and record["notebooks"]["01_ceiling"]["parameters"]["window"] == 0.25


def test_tuples_and_texts_arrive_as_they_were_meant(project, executed, monkeypatch):
    monkeypatch.setattr(embedded, "model_hash", lambda name: "a hash")
    parameters = 'scale = "s"\nseeds = None\nstep_delimiter = ""\nteacher = None\nmine = 3'
    notebook(project / "notebooks" / "02_gear.ipynb", "", parameters)
    for typed in ("0,1", "(0, 1)", "[0, 1]"):
        others = ["-p", "step_delimiter", r"\n", "-p", "teacher", "007"]
        assert drive("--only", "02", "--force", "-p", "seeds", typed, *others) == 0
        assert executed.pop()[1] == {"scale": "s", "seeds": [0, 1], "step_delimiter": "\n", "teacher": "007"}
    assert drive("--only", "02") == 0
    record = json.loads((project / "results" / "s" / "run.json").read_text())
    assert record["notebooks"]["02_gear"]["parameters"] == {"scale": "s", "mine": "3"}  # its own are on record as well


def test_the_record_says_what_computed_and_another_type_or_model_makes_notebooks_anew(project, executed, monkeypatch):
    def record():
        return json.loads((project / "results" / "s" / "run.json").read_text())

    assert drive("--only", "01") == drive("--only", "01") == 0 and names(executed) == ["01_ceiling"]
    assert record()["computed"] == {"device": "cpu", "dtype": "float32"}
    monkeypatch.setenv("DTYPE", "bfloat16")
    assert drive("--only", "01") == 0 and names(executed) == ["01_ceiling"]
    assert record()["computed"] == {"device": "cpu", "dtype": "bfloat16"}
    monkeypatch.setattr(embedded, "model_hash", lambda name: f"hash of {name}")
    for scale in ("teacher", "mine"):
        monkeypatch.setitem(scales.SCALES, "s", dataclasses.replace(scales.SCALES["s"], teacher=scale))
        assert drive("--only", "01") == 0 and names(executed) == ["01_ceiling"] * (scale == "mine")
    assert record()["models"]["mine"] == "hash of mine"


def test_a_model_that_is_not_there_is_named_before_anything_runs(project, executed, capsys):
    notebook(project / "notebooks" / "02_gear.ipynb", "", 'scale = "s"\nteacher = None')
    embedded.model_hash.cache_clear()
    assert drive("--only", "02", "-p", "teacher", "smollm2-135m-instruct") == 2
    assert "run: make smollm" in capsys.readouterr().err and not executed


def test_many_seeds_make_a_short_folder_and_the_record_says_which(project, executed):
    notebook(project / "notebooks" / "02_gear.ipynb", "", 'scale = "s"\nseeds = None')
    assert drive("--only", "02", "-p", "seeds", str(list(range(100)))) == 0
    (folder,) = (project / "results").glob("s+*")
    assert len(folder.name) < 20 and json.loads((folder / "run.json").read_text())["overrides"]["seeds"][99] == 99


@pytest.mark.parametrize("variable", ["HEAL_CACHE", "HEAL_RESULTS"])
@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_folder_that_is_a_file_is_named(project, executed, capsys, monkeypatch, variable, below):
    (project / "file").write_text("")
    monkeypatch.setenv(variable, str(project / "file" / below))
    assert drive() == 2 and executed == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"heal: {project / 'file'} is not a folder; point {variable} to one"


def test_help_offers_the_scales_there_are(capsys):
    with pytest.raises(SystemExit):
        reproduce.main(["--help"])
    said = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # lines break at hyphens
    assert f"one of {', '.join(scales.names())}; demo by default" in said


# --- one state of the code per results folder
def git(project, *arguments):
    who = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x", "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x"}
    return subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True, text=True,
                          env={**os.environ, **who}).stdout.strip()


@pytest.fixture
def committed(project):
    """The project as a repository, with a library of one module; returns a function that commits all of it."""
    (project / "heal_lib").mkdir()
    for name in ("__init__", "gear"):
        (project / "heal_lib" / f"{name}.py").write_text("x = 1\n")
    (project / ".gitignore").write_text("results\ncache\n")
    git(project, "init", "-q")

    def commit():
        git(project, "add", "-A")
        git(project, "commit", "-qm", "x", "--allow-empty")
        return git(project, "rev-parse", "HEAD")

    commit()
    return commit


def facts(project):
    return json.loads((project / "results" / "s" / "run.json").read_text())["notebooks"]


def test_every_notebook_has_the_commit_and_the_code_that_it_ran_under(project, executed, committed):
    head = git(project, "rev-parse", "HEAD")
    assert drive("--only", "00", "01") == 0
    provenance.check_committed(project / "results" / "s")
    (project / "heal_lib" / "new.py").write_text("y = 1\n")  # untracked counts
    assert drive("--only", "02") == 0
    found = facts(project)
    assert {name: (f["commit"], f["dirty"]) for name, f in found.items()} == {
        "00_tour": (head, False), "01_ceiling": (head, False), "02_gear": (head, True)}
    assert len({f["code"] for f in found.values()}) == 1  # all are of the code that ran, which is elsewhere
    with pytest.raises(HealError, match="s/notebooks/02_gear.ipynb: not made from a clean commit; commit heal_lib/"):
        provenance.check_committed(project / "results" / "s")


@pytest.mark.parametrize("file", ["README.md", "results/x.csv"])
def test_what_no_result_depends_on_may_differ_from_the_commit(project, executed, committed, file):
    (project / file).write_text("new")
    assert drive("--only", "00") == 0 and facts(project)["00_tour"]["dirty"] is False


def test_a_results_folder_of_two_commits_or_of_two_codes_is_refused(project, executed, committed, monkeypatch, capsys):
    folder = project / "results" / "s"
    assert drive("--only", "00") == 0
    committed()
    assert drive("--only", "01") == 0
    with pytest.raises(HealError, match="01_ceiling.ipynb: made at another commit than 00_tour"):
        provenance.check_committed(folder)
    assert drive("--only", "00", "01", "--force") == 0
    provenance.check_committed(folder)
    monkeypatch.setattr(run, "code_hash", lambda *_: "other code")
    assert drive("--only", "01") == 0
    with pytest.raises(HealError, match="01_ceiling.ipynb: made at another code than 00_tour"):
        provenance.check_committed(folder)
    folder.rename(project / "results" / "demo")
    assert drive("--check-readme") == 2 and "another code" in capsys.readouterr().err


def test_every_folder_that_readme_shows_is_checked(project, monkeypatch):
    checked = []
    monkeypatch.setattr(provenance, "check_committed", lambda folder: checked.append(folder.name))
    monkeypatch.setattr("heal_lib.readme.is_current", lambda: True)
    for name in ("llm", "full"):
        (project / "results" / name).mkdir()
        assert drive("--check-readme") == 0
    assert checked == ["demo", "llm", "demo", "full", "llm"]


def test_readme_is_written_on_demand_from_what_may_be_shown(project, monkeypatch):
    done = []
    monkeypatch.setattr(provenance, "check_committed", lambda folder: done.append(folder.name))
    monkeypatch.setattr("heal_lib.readme.write", lambda: done.append("written"))
    monkeypatch.setattr("heal_lib.readme.is_current", lambda: "written" in done)
    assert drive("--check-readme") == 1 and drive("--write-readme") == 0 == drive("--check-readme")
    assert done == ["demo", "demo", "written", "demo"]


def test_results_from_no_checkout_are_nobody_s_commit(project, executed):
    assert drive("--only", "00") == 0
    with pytest.raises(HealError, match="not made from a clean commit"):
        provenance.check_committed(project / "results" / "s")


def test_a_repository_that_does_not_hold_the_library_says_nothing_of_its_commit(project, executed, committed):
    """A ZIP that was unpacked below somebody's repository of dotfiles."""
    git(project, "rm", "-rq", "--cached", ".")
    git(project, "commit", "-qm", "other files")
    (project / ".gitignore").write_text("*\n")
    assert provenance.git_state() == {"commit": None, "dirty": None}


@pytest.mark.parametrize("record", ["[]", "3", "{}", '{"notebooks": []}', '{"notebooks": {}}', "not json", None])
def test_a_run_file_that_is_none_is_one_line(project, capsys, record):
    folder = project / "results" / "demo"
    folder.mkdir()
    if record is not None:
        (folder / "run.json").write_text(record)
    assert drive("--check-readme") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heal: demo/run.json: ") and "make reproduce" in line


def test_on_another_machine_the_other_notebooks_stay_on_record_and_are_made_anew_when_asked_for(
        project, executed, monkeypatch):
    folder, here = project / "results" / "s", provenance.environment()
    assert drive() == 0 and len(names(executed)) == 4
    monkeypatch.setattr(provenance, "environment", lambda: {**here, "cpu": "another"})
    assert drive("--only", "00") == 0 and names(executed) == ["00_tour"]
    provenance.check(folder)  # nobody's files are a stranger's
    assert {name: f.get("elsewhere") for name, f in facts(project).items()} == {
        "00_tour": None, **dict.fromkeys(["01_ceiling", "02_gear", "99_report"], {"cpu": here["cpu"]})}
    assert drive() == 0 and names(executed) == ["01_ceiling", "02_gear", "99_report"]
    assert not [f for f in facts(project).values() if "elsewhere" in f]


def during(monkeypatch, name, what):
    """Has something happen while the notebook of that name runs."""
    whole = notebooks.execute

    def execute(path, *others):
        if path.stem == name:
            what()
        whole(path, *others)

    monkeypatch.setattr(notebooks, "execute", execute)


def test_a_commit_in_the_middle_of_a_run_is_noticed(project, executed, committed, monkeypatch):
    first, later = git(project, "rev-parse", "HEAD"), []
    during(monkeypatch, "01_ceiling", lambda: later.append(committed()))
    assert drive() == 0
    assert [f["commit"] for f in facts(project).values()] == [first, first, *later, *later]
    with pytest.raises(HealError, match="02_gear.ipynb: made at another commit"):
        provenance.check_committed(project / "results" / "s")


@pytest.mark.parametrize(("file", "noted"), [
    ("heal_lib/gear.py", ["00_tour"]), ("notebooks/01_ceiling.ipynb", ["00_tour"]),
    ("notebooks/99_report.ipynb", ["00_tour", "01_ceiling", "02_gear"])])
def test_code_that_changes_in_a_run_ends_it(project, executed, committed, monkeypatch, capsys, file, noted):
    edit = [lambda: (project / file).write_text((project / file).read_text() + "\n")]
    during(monkeypatch, "01_ceiling", lambda: edit and edit.pop()())
    assert drive() == 2 and list(facts(project)) == noted
    assert f"heal: {file}: changed while the run went on; run again" in capsys.readouterr().err
    assert drive() == 0 and len(facts(project)) == 4


def test_git_is_asked_once_for_what_differs(project, executed, committed, monkeypatch):
    asked, ask = [], provenance.output
    monkeypatch.setattr(provenance, "output", lambda command: asked.append(command[:2]) or ask(command))
    assert drive() == 0 and len(executed) == 4 and asked.count(["git", "status"]) == 1


def test_whether_a_model_may_think_counts(monkeypatch, tmp_path):
    def key():
        return Store(tmp_path).task(Stage("s", embedded.computed, {})).key

    thinks, told = key(), embedded.computed()
    monkeypatch.setenv("HEAL_THINKING", "0")
    assert key() != thinks and embedded.computed() == {**told, "thinking": "off"}

"""The driver on throw-away notebooks: order, parameters, what is skipped, and how it fails."""

import dataclasses
import json
import os
import random
import subprocess
import sys

import nbformat
import pytest

from heal_lib import embedded, notebooks, provenance, reproduce, run, scales, workers
from heal_lib.embedded import pretrain
from heal_lib.errors import HealError

BODIES = {
    "00_tour": "open('../results/s/tables/tour.csv', 'w').write('a')",
    "01_ceiling": "import os, sys, warnings as w; w.warn(os.getcwd() + '/x'); print(window, sys.executable)",
    "02_gear": "import os; open(os.environ['HEAL_RESULTS'] + '/tables/gear.csv', 'w').write(scale)",
    "08_llm": "1 / 0",
    "99_report": "print(open('../results/s/tables/tour.csv').read())",
}


def notebook(path, body, parameters):
    cells = [nbformat.v4.new_code_cell(source) for source in (parameters, body)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture
def project(tmp_path, monkeypatch, kernels):
    """A project of five notebooks; `window` is declared by 01 and 99."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "results" / "s" / "tables").mkdir(parents=True)
    for name, body in BODIES.items():
        parameters = 'scale = "s"' + ("\nwindow = 0.5" if name[:2] in ("01", "99") else "")
        notebook(tmp_path / "notebooks" / f"{name}.ipynb", body, parameters)
    for name in ("s", "llm"):
        monkeypatch.setitem(scales.SCALES, name, scales.Scale(name, window=0.5, seeds=(0, 1)))
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "notebooks")
    for module in (embedded, notebooks, reproduce, provenance, scales):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path / "cache"))
    for name in ("HEAL_EVENTS", "HEAL_RESULTS", "JUPYTER_PATH", *notebooks.QUIET, "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # so that what the driver sets is undone
    return tmp_path


@pytest.fixture
def executed(monkeypatch):
    """Replaces execution by a note of (notebook, parameters), with outputs as a real one leaves them."""
    calls = []

    def execute(path, folder, parameters, environment):
        calls.append((path.stem, parameters))
        for kind, suffix in (("notebooks", "ipynb"), ("html", "html")):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{path.stem}.{suffix}").write_text(path.read_text())
        if path.stem == "00_tour":
            (folder / "tables").mkdir(exist_ok=True)
            (folder / "tables" / "tour.csv").write_text(path.read_text())

    monkeypatch.setattr(notebooks, "execute", execute)
    return calls


def drive(*arguments):
    return reproduce.main(["--scale", "s", *arguments])


def names(executed):
    found = [name for name, _ in executed]
    executed.clear()
    return found


def test_a_real_run_leaves_notebooks_html_and_a_record(project, capsys):
    assert drive("--only", "00", "01_ceiling", "-p", "window", "1/4") == 0
    folder = project / "results" / "s+window=0.25"
    text = (folder / "notebooks" / "01_ceiling.ipynb").read_text()
    assert "0.25" in text and sys.prefix not in text and str(project) not in text and "papermill" not in text
    assert "cell:1: UserWarning" in text and "ipykernel_" not in text
    assert "./notebooks/x" in text and "0.25" in (folder / "html" / "01_ceiling.html").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert record["seeds"] == [0, 1] and record["config"]["window"] == 0.25
    assert record["git"] == {"commit": None, "dirty": None}
    assert record["notebooks"]["01_ceiling"]["parameters"] == {"scale": "s", "window": 0.25}
    assert record["notebooks"]["00_tour"]["parameters"] == {"scale": "s"}
    assert {"python", "cpu", "cores", "memory_gib", "versions"} <= set(record["environment"])
    assert str(project) not in json.dumps(record) and sys.prefix not in json.dumps(record)
    assert "[1/2] 00_tour: done in 0:" in capsys.readouterr().out


def test_libraries_that_were_imported_before_a_kernel_was_forked_know_that_they_are_in_a_notebook(project):
    body = "import sys, pandas\nassert 'matplotlib' in sys.modules\nimport matplotlib.pyplot as plt\n" \
           "plt.plot([1])\nprint('columns', pandas.get_option('display.max_columns'))"
    notebook(project / "notebooks" / "02_gear.ipynb", body, 'scale = "s"')
    assert drive("--only", "02") == 0
    text = (project / "results" / "s" / "notebooks" / "02_gear.ipynb").read_text()
    assert "columns 20" in text and "image/png" in text


def test_outputs_are_found_where_the_run_writes_them(project):
    (project / "results" / "s+window=0.25" / "tables").mkdir(parents=True)
    assert drive("--only", "01", "02", "-p", "window", "0.25") == 0
    notes = json.loads((project / "cache" / "runs" / "s+window=0.25.json").read_text())["notebooks"]
    assert set(notes["02_gear"]["outputs"]) == {"tables/gear.csv", "notebooks/02_gear.ipynb", "html/02_gear.html"}


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("1 / 0", 1, "02_gear: ZeroDivisionError: division by zero"),
        ("from heal_lib.errors import HealError\nraise HealError('no world; use paths')", 2, "no world; use"),
        ("raise OSError(28, 'No space left on device')", 2, "no room left"),
    ],
)
def test_a_failing_cell_stops_the_run_and_is_named(project, capsys, body, code, said):
    notebook(project / "notebooks" / "02_gear.ipynb", body, 'scale = "s"')
    assert drive("--only", "02") == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("heal:")]
    assert said in line and "02_gear" in line
    left = sorted(path.name for path in (project / "results" / "s" / "notebooks").iterdir())
    assert left == ["02_gear.failed.ipynb"] and not (project / "results" / "s" / "run.json").exists()


def test_a_pool_of_workers_that_was_killed_between_notebooks_is_one_line(project, capsys, monkeypatch):
    monkeypatch.setenv("HEAL_POOL", str(project / "gone"))
    assert drive("--only", "01") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heal: the pool of workers was killed; run the same command again")


def test_a_table_that_a_notebook_does_not_write_any_more_goes_with_its_next_run(project):
    tables = project / "results" / "s" / "tables"
    (tables / "mine.csv").write_text("no notebook's")
    assert drive("--only", "02") == 0 and (tables / "gear.csv").exists()
    notebook(project / "notebooks" / "02_gear.ipynb", BODIES["02_gear"].replace("gear.csv", "cut.csv"), 'scale = "s"')
    assert drive("--only", "02") == 0
    assert sorted(path.name for path in tables.iterdir()) == ["cut.csv", "mine.csv"]


def test_notebooks_run_in_order_without_the_gpu_one(project, executed):
    assert drive() == 0
    assert names(executed) == ["00_tour", "01_ceiling", "02_gear", "99_report"]
    assert reproduce.main(["--scale", "llm"]) == 0
    assert names(executed) == ["08_llm"]


def test_a_parameter_reaches_only_those_that_declare_it(project, executed):
    assert drive("-p", "window", "0.25") == 0
    assert dict(executed)["01_ceiling"] == {"scale": "s", "window": 0.25}
    assert dict(executed)["02_gear"] == {"scale": "s"}


def test_what_is_up_to_date_is_skipped(project, executed, capsys):
    drive()
    names(executed)
    assert drive() == 0 and names(executed) == []
    assert "02_gear: up to date" in capsys.readouterr().out
    assert drive("--force", "--only", "02") == 0 and names(executed) == ["02_gear"]


def test_only_what_depends_on_a_change_runs_again(project, executed, monkeypatch):
    drive()
    names(executed)
    notebook(project / "notebooks" / "00_tour.ipynb", "print('new')", 'scale = "s"')
    drive()
    assert names(executed) == ["00_tour", "99_report"]  # the report reads what the tour wrote
    (project / "results" / "s" / "html" / "02_gear.html").unlink()
    drive()
    assert names(executed)[0] == "02_gear"
    (project / "results" / "s" / "tables" / "tour.csv").write_text("by hand")
    drive()
    assert names(executed)[0] == "00_tour"
    monkeypatch.setattr(run, "code_hash", lambda *_: "other code")
    drive()
    assert len(names(executed)) == 4


def test_a_killed_run_goes_on_where_it_was(project, executed, monkeypatch, capsys):
    whole = notebooks.execute

    def killed(path, folder, parameters, environment):
        if path.stem == "02_gear":
            raise KeyboardInterrupt
        whole(path, folder, parameters, environment)

    monkeypatch.setattr(notebooks, "execute", killed)
    assert drive() == 130 and names(executed) == ["00_tour", "01_ceiling"]
    monkeypatch.setattr(notebooks, "execute", whole)
    assert drive() == 0 and names(executed) == ["02_gear", "99_report"]
    assert "left" in capsys.readouterr().out


def test_a_fresh_clone_with_committed_results_computes_them(project, executed, monkeypatch, tmp_path):
    drive()
    names(executed)
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path / "empty"))
    drive()
    assert len(names(executed)) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scale", "huge"], "unknown scale 'huge'"),
        (["--only", "02_gaer"], "did you mean 02_gear"),
        (["-p", "windwo", "1"], "did you mean window"),
        (["--only", "02", "-p", "window", "1"], "unknown parameter 'window' for 02_gear"),
        (["-p", "scale", "x"], "use --scale"),
        (["--only", ""], "unknown notebook ''"),
        (["--only", "."], "unknown notebook '.'"),
        (["-p", "window", "2"], "window is 2; give a share of the trajectory, above 0 up to 1"),
        (["-p", "window", "1e400"], "window is inf; give a share"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(project, executed, capsys, arguments, said):
    assert drive(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heal: ") and said in line and executed == []


def test_a_file_that_is_no_notebook_is_named(project, executed, capsys):
    (project / "notebooks" / "02_gear.ipynb").write_text("not json")
    assert drive() == 2 and "02_gear.ipynb: not a notebook" in capsys.readouterr().err


def trained(*, name, folder):
    (folder / name).mkdir()
    (folder / name / "model.safetensors").write_text(name)


def test_from_scratch_trains_the_models_side_by_side_and_uses_them(project, executed, monkeypatch, capsys):
    monkeypatch.setenv("HEAL_MODELS", "")
    monkeypatch.setattr(pretrain, "model", trained)
    asked, have = [], workers.have

    def one_by_one(store, stages, n):
        asked.append(n)
        have(store, stages)

    monkeypatch.setattr(workers, "have", one_by_one)
    assert drive("--from-scratch") == 0 and drive("--from-scratch") == 0
    out = capsys.readouterr().out
    assert [out.count(f"made model {name}") for name in pretrain.PLANS] == [1] * len(pretrain.PLANS)
    assert asked == [min(len(pretrain.PLANS), len(os.sched_getaffinity(0)))] * 2
    record = json.loads((project / "results" / "s" / "run.json").read_text())
    assert {f"{name}/model.safetensors" for name in pretrain.PLANS} <= set(record["models"])


def test_values_are_read_as_data_and_never_run():
    read = {"0.5": 0.5, "3": 3, "1/3": 1 / 3, "true": True, "None": None, "[1, 2]": [1, 2], "paths": "paths"}
    assert {text: notebooks.parse_value(text) for text in read} == read
    assert notebooks.parse_value("__import__('os')") == "__import__('os')"


def test_a_folder_that_mixes_runs_is_refused_by_the_name_of_the_file(project, executed, monkeypatch):
    folder = project / "results" / "s"
    with pytest.raises(HealError, match="s/run.json: missing"):
        provenance.check(folder)

    def refused(words, besides=()):
        with pytest.raises(HealError, match=words) as caught:
            provenance.check(folder, besides)
        assert "make reproduce" in str(caught.value)

    assert drive() == 0
    provenance.check(folder)
    table = folder / "tables" / "tour.csv"
    written = table.read_text()
    table.write_text(written + "one more line")
    refused("s/tables/tour.csv: not what a notebook")
    table.unlink()
    refused("s/tables/tour.csv: missing")
    table.write_text(written)
    (folder / "tables" / "older.csv").write_text("left by somebody")
    with pytest.raises(HealError, match="s/tables/older.csv: not what a notebook of this run wrote; delete it"):
        provenance.check(folder)
    (folder / "tables" / "older.csv").unlink()
    provenance.check(folder)
    monkeypatch.setattr(run, "code_hash", lambda *files: "other code")
    assert drive("--only", "02") == 0
    refused("(01_ceiling|02_gear|99_report).ipynb: made with other code")
    refused("made with other code", besides=("99_report",))


@pytest.mark.parametrize("which", ["cache/runs/s.json", "results/s/run.json"])
def test_a_damaged_note_of_a_run_costs_time_and_nothing_else(project, executed, which):
    """Any byte flipped, cut anywhere, gone, or JSON of another kind: the run is made again, and its record is whole."""
    drive()
    executed.clear()
    file, rng = project / which, random.Random(0)
    whole = file.read_bytes()
    flips = [whole[:i] + bytes([whole[i] ^ 1 << rng.randrange(8)]) + whole[i + 1 :]
             for i in rng.sample(range(len(whole)), 12)]
    kinds = [b"[]", b"3", b"null", b'{"notebooks": []}', b'{"02_gear": 1}', b'{"02_gear": {"fingerprint": 1}}']
    for damaged in [*flips, *(whole[: rng.randrange(len(whole))] for _ in range(5)), *kinds]:
        file.write_bytes(damaged)
        assert drive("--only", "02") == 0
        assert drive() == 0 and (again := names(executed))  # of a note at least what it stood for, of a record all
        assert which.startswith("cache") or again == ["02_gear", "00_tour", "01_ceiling", "99_report"]
        provenance.check(project / "results" / "s")
    file.unlink()
    assert drive() == 0 and len(names(executed)) == 4 and file.is_file()


def test_a_second_run_into_the_same_folder_is_refused_whatever_its_cache(project, executed, capsys, monkeypatch):
    with run.alone(run.Run("s", notebooks.select(["02"], "s"), [])):
        monkeypatch.setenv("HEAL_CACHE", str(project / "another"))
        assert drive() == 2
    assert "another run writes there" in capsys.readouterr().err


# --- what a run may not take for its scale's, and where it may not write
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
    said = " ".join(capsys.readouterr().out.split())
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
    (project / "heal_lib" / "gear.py").write_text("x = 1\n")
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


def test_results_from_no_checkout_are_nobody_s_commit(project, executed):
    assert drive("--only", "00") == 0
    with pytest.raises(HealError, match="not made from a clean commit"):
        provenance.check_committed(project / "results" / "s")


@pytest.mark.parametrize("record", ["[]", "3", "{}", '{"notebooks": []}', '{"notebooks": {}}', "not json", None])
def test_a_run_file_that_is_none_is_one_line(project, capsys, record):
    folder = project / "results" / "demo"
    folder.mkdir()
    if record is not None:
        (folder / "run.json").write_text(record)
    assert drive("--check-readme") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heal: demo/run.json: ") and "make reproduce" in line


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

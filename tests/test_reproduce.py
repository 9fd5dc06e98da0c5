"""The driver on throw-away notebooks: order, parameters, what is skipped, and how it fails."""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import nbformat
import pytest

from heal_lib import notebooks, provenance, reproduce
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
def project(tmp_path, monkeypatch):
    """A project of five notebooks; `window` is declared by 01 and 99."""

    @dataclasses.dataclass(frozen=True)
    class Scale:
        name: str
        window: float = 0.5
        seeds: tuple = (0, 1)

        @property
        def results_dir(self):
            return Path("results", self.name if self.window == 0.5 else f"{self.name}+window={self.window:g}")

    def get(name, **overrides):
        if name not in ("s", "llm"):
            raise HealError(f"unknown scale {name!r}; known: s, llm")
        return Scale(name, **overrides)

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "results" / "s" / "tables").mkdir(parents=True)
    for name, body in BODIES.items():
        parameters = 'scale = "s"' + ("\nwindow = 0.5" if name[:2] in ("01", "99") else "")
        notebook(tmp_path / "notebooks" / f"{name}.ipynb", body, parameters)
    monkeypatch.setitem(sys.modules, "heal_lib.scales", types.SimpleNamespace(get=get))
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "notebooks")
    for module in (notebooks, reproduce, provenance):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path / "cache"))
    for name in ("HEAL_EVENTS", "JUPYTER_PATH", *notebooks.QUIET, "HF_HUB_OFFLINE"):
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
    assert "./notebooks/x" in text and "0.25" in (folder / "html" / "01_ceiling.html").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert record["seeds"] == [0, 1] and record["config"]["window"] == 0.25
    assert record["git"] == {"commit": None, "dirty": None}
    assert record["notebooks"]["01_ceiling"]["parameters"] == {"scale": "s", "window": 0.25}
    assert record["notebooks"]["00_tour"]["parameters"] == {"scale": "s"}
    assert {"python", "cpu", "cores", "memory_gib", "versions"} <= set(record["environment"])
    assert str(project) not in json.dumps(record) and sys.prefix not in json.dumps(record)
    assert "[1/2] 00_tour: done in 0:0" in capsys.readouterr().out


def test_outputs_are_found_where_the_run_writes_them(project):
    (project / "results" / "s+window=0.25" / "tables").mkdir(parents=True)
    assert drive("--only", "01", "02", "-p", "window", "0.25") == 0
    notes = json.loads((project / "cache" / "runs" / "s+window=0.25.json").read_text())
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
    monkeypatch.setattr(reproduce, "code_hash", lambda *_: "other code")
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
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(project, executed, capsys, arguments, said):
    assert drive(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("heal: ") and said in line and executed == []


def test_a_file_that_is_no_notebook_is_named(project, executed, capsys):
    (project / "notebooks" / "02_gear.ipynb").write_text("not json")
    assert drive() == 2 and "02_gear.ipynb: not a notebook" in capsys.readouterr().err


def test_from_scratch_uses_the_retrained_models(project, executed, monkeypatch):
    trained = []

    def train(command):
        folder = Path(command[-1])
        (folder / "teacher.safetensors").write_text("weights")
        trained.append(folder)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setenv("HEAL_MODELS", "")
    monkeypatch.setattr(reproduce.subprocess, "run", train)
    monkeypatch.setattr(provenance, "output", lambda command: None)
    assert drive("--from-scratch") == 0 and drive("--from-scratch") == 0 and len(trained) == 1
    record = json.loads((project / "results" / "s" / "run.json").read_text())
    assert list(record["models"]) == ["teacher.safetensors"]


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
    refused("s/tables/older.csv: not what a notebook")
    (folder / "tables" / "older.csv").unlink()
    provenance.check(folder)
    monkeypatch.setattr(reproduce, "code_hash", lambda *files: "other code")
    assert drive("--only", "02") == 0
    refused("(01_ceiling|02_gear|99_report).ipynb: made with other code")
    refused("made with other code", besides=("99_report",))


@pytest.mark.parametrize("which", ["cache/runs/s.json", "results/s/run.json"])
def test_a_damaged_note_of_a_run_costs_time_and_nothing_else(project, executed, which):
    """Any byte flipped, cut anywhere, or JSON of another kind: the run is made again, and its record is whole."""
    drive()
    file, rng = project / which, random.Random(0)
    whole = file.read_bytes()
    flips = [whole[:i] + bytes([whole[i] ^ 1 << rng.randrange(8)]) + whole[i + 1 :]
             for i in rng.sample(range(len(whole)), 12)]
    kinds = [b"[]", b"3", b"null", b'{"notebooks": []}', b'{"02_gear": 1}', b'{"02_gear": {"fingerprint": 1}}']
    for damaged in [*flips, *(whole[: rng.randrange(len(whole))] for _ in range(5)), *kinds]:
        file.write_bytes(damaged)
        assert drive("--only", "02") == 0
        assert drive() == 0 and set(json.loads((project / "cache/runs/s.json").read_text())) >= set(BODIES) - {"08_llm"}


def test_a_second_run_into_the_same_folder_is_refused(project, executed, capsys):
    run = reproduce.Run("s", notebooks.select(["02"], "s"), [])
    with reproduce.alone(run):
        assert drive() == 2
    assert "another run writes there" in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on_and_leaves_no_kernel(project, how):
    """The real thing, in a process of its own: the notebook sleeps, the driver is told to stop."""
    started = project / "started"
    notebook(project / "notebooks" / "02_gear.ipynb",
             f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)", 'scale = "smoke"')
    script = f"""
import runpy, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, these tests perhaps, ignore it
from heal_lib import notebooks, provenance, store
store.ROOT = provenance.ROOT = Path({str(project)!r})
notebooks.ROOT, notebooks.FOLDER = store.ROOT, store.ROOT / "notebooks"
(store.ROOT / "heal_lib").mkdir()
sys.argv = ["reproduce", "--scale", "smoke", "--only", "02"]
runpy.run_module("heal_lib.reproduce", run_name="__main__")
"""
    driver = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    while not started.exists() or not started.read_text():
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.05)
    driver.send_signal(how)
    said = driver.communicate(timeout=60)[1].splitlines()
    assert driver.returncode == 130 and said[-1] == "heal: interrupted; the same command goes on from here"
    assert not [line for line in said if "Traceback" in line]
    assert gone(int(started.read_text()))
    assert not list((project / "results").rglob("*02_gear*"))


def gone(process):
    """Whether a process ends, within a minute."""
    for _ in range(600):
        state = Path(f"/proc/{process}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False

"""A project of throw-away notebooks, and the driver run on it: fixtures of several test files."""


import nbformat
import pytest

from heal_lib import embedded, notebooks, provenance, reproduce, scales

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

"""Nothing let in, nothing let out: model text is text, settings stay in their folder, secrets are not written."""

import ast
import html.parser
import json
import re
import tomllib
from pathlib import Path

import nbformat
import pytest

from heal_lib import console, notebooks, scales
from heal_lib.errors import HealError
from heal_lib.files import ROOT

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Elements(html.parser.HTMLParser):
    """All elements of a page with their attributes, and the text of scripts."""

    def __init__(self, page):
        super().__init__()
        self.found, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] == "script":
            self.scripts.append(data)


def run_notebook(tmp_path, *cells):
    """Text of the executed notebook and its HTML."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(made, tmp_path / "00_x.ipynb")
    notebooks.execute(tmp_path / "00_x.ipynb", tmp_path / "out", {})
    return [(tmp_path / "out" / place).read_text() for place in ("notebooks/00_x.ipynb", "html/00_x.html")]


def test_model_text_is_shown_and_never_run(tmp_path, kernels):
    """However a notebook shows it: printed, as a value, in a table, as coloured tokens, in a report's Markdown."""
    _, page = run_notebook(
        tmp_path, f"text = {ATTACK!r}", "print(text)", "text", "import pandas as pd; pd.DataFrame({'text': [text]})",
        "from heal_lib.plots import trajectories as t; t.show([text], [0.5], [(0, 'hint', text)], title=text)",
        "from IPython.display import Markdown; from heal_lib import report\n"
        "Markdown(report.markdown(pd.DataFrame({'text': [text]})))",
        "import sys; print(text, file=sys.stderr)")
    elements = Elements(page)
    assert page.count("&lt;script&gt;") >= 7
    assert not any("onerror" in attributes for _, attributes in elements.found)
    assert not any("alert(1)" in script for script in elements.scripts)


def test_a_failed_cell_s_words_are_text_too(tmp_path):
    """A traceback that quotes the model."""
    with pytest.raises(console.NotebookFailed):
        run_notebook(tmp_path, f"raise ValueError({ATTACK!r})")
    failed = nbformat.read(tmp_path / "out" / "notebooks" / "00_x.failed.ipynb", 4)
    assert {output.output_type for cell in failed.cells for output in cell.get("outputs", [])} <= {"error"}


def test_secrets_are_not_written_out(tmp_path, monkeypatch):
    from heal_lib import provenance

    secrets = {name: f"secret-{name.lower()}" for name in ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    written = run_notebook(tmp_path, "from heal_lib import stage, scales\nstage.versions()", "scales.get('smoke')")
    written.append(json.dumps([provenance.environment(), provenance.git_state(), provenance.models()]))
    assert not any(value in text for value in secrets.values() for text in written)


@pytest.mark.parametrize("value", ["../../out", "/etc/passwd", "..", "a/../../b", "\\\\x\\y", "~root", "a\0b", "%2e."])
def test_a_setting_cannot_lead_out_of_the_results_folder(value, monkeypatch):
    monkeypatch.delenv("HEAL_RESULTS", raising=False)
    folder = scales.get("smoke", teacher=value).results_dir
    assert folder.parent == ROOT / "results" and folder.resolve() == folder and folder.name.startswith("smoke+")
    with pytest.raises(HealError, match="hint is .*; give answer, first_step"):
        scales.get("smoke", hint=value)
    with pytest.raises(HealError, match="unknown scale"):
        scales.get(value)


def test_the_linter_refuses_what_runs_data_as_code():
    chosen = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert {"S102", "S301", "S307", "S506", "TID251"} <= set(chosen["select"]) and "ignore" not in chosen
    assert {"pickle", "torch.load"} <= chosen["flake8-tidy-imports"]["banned-api"].keys()
    assert not {rule for rules in chosen["per-file-ignores"].values() for rule in rules if rule.startswith("S")}


RUNS_CODE = {"eval", "exec", "compile", "__import__"}
LOADS = r"(?<!PeftModel)\.from_(pretrained|config)$"  # what may bring code of its own; adapters are weights alone
UNPICKLES = {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "dill.load", "yaml.load", "os.system"}


def sources():
    for path in sorted([*(ROOT / "heal_lib").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]):
        cells = nbformat.read(path, 4).cells if path.suffix == ".ipynb" else []
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "code") if cells else path.read_text()
        yield path.name, ast.parse(text)


def test_no_source_runs_data_as_code_whatever_the_linter_knows():
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called, words = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
                assert called not in RUNS_CODE | UNPICKLES, (name, called)
                on = {word for word, value in words.items() if value == "True"}
                assert not on & {"shell", "trust_remote_code", "allow_pickle"}, (name, called, on)
                assert words.get("weights_only") != "False", (name, called)
                if re.search(LOADS, called):
                    assert words.get("trust_remote_code") == "False", (name, ast.unparse(node))
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not {alias.name for alias in node.names} & {"pickle", "dill", "shelve", "marshal"}, name


def test_weights_are_read_from_safetensors_alone(tmp_path, models_folder):
    """A pickle beside or instead of them is not looked at."""
    import shutil

    from heal_lib import embedded

    for file in (models_folder / "teacher").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(HealError, match="pickled weights only"):
        embedded.load(str(tmp_path))


def test_every_dependency_is_pinned():
    project = tomllib.loads((Path(ROOT) / "pyproject.toml").read_text())["project"]
    pins = [*project["dependencies"], *(pin for extra in project["optional-dependencies"].values() for pin in extra)]
    assert all("==" in pin and "*" not in pin for pin in pins)

"""The files a stranger meets first: pins that agree, stripped notebooks, a package that imports quickly."""

import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml

from heal_lib.store import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_conda_and_pip_install_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (conda,) = [
        part["pip"]
        for part in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
        if isinstance(part, dict)
    ]
    pins = [pin for pin in conda if pin != "-e ."]
    assert pins == project["dependencies"] + extras["gpu"] + extras["dev"]
    assert pins[0].startswith("torch==") and any(pin.startswith("unsloth==") for pin in pins)
    assert all("==" in pin for pin in pins)


def test_what_is_installed_is_what_is_pinned():
    from importlib.metadata import PackageNotFoundError, version

    for pin in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        name, pinned = pin.split("==")
        try:
            assert version(name).split("+")[0] == pinned, f"{name}: run make setup"
        except PackageNotFoundError:
            pytest.fail(f"{name} is not installed; run make setup")


def test_importing_the_library_loads_no_torch():
    code = "import sys, heal_lib, heal_lib.store, heal_lib.reproduce; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_submodules_load_on_first_use_and_others_do_not_exist():
    import heal_lib

    assert heal_lib.store.ROOT == ROOT and callable(heal_lib.load_model)
    with pytest.raises(AttributeError):
        _ = heal_lib.no_such_module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_and_have_one_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and not cell.outputs for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and "scale" in tagged[0].source
    assert notebook.metadata.kernelspec.name == "python3"


def test_notebooks_are_numbered_without_gaps():
    on_a_laptop = [path.name[:2] for path in NOTEBOOKS if not path.name.startswith("08")]
    assert on_a_laptop == [f"{number:02}" for number in (*range(8), 9, 99)]

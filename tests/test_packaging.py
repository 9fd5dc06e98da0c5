"""The files a stranger meets first: pins that agree, stripped notebooks, a package that imports quickly."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import nbformat
import pytest
import yaml
from driven import notebook

from heal_lib import embedded
from heal_lib.files import ROOT

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
    """Nor what checks notebooks: the driver starts at once, and so do notebooks that read what others made."""
    code = ("import sys, heal_lib, heal_lib.store, heal_lib.reproduce, heal_lib.experiment, heal_lib.readme, "
            "heal_lib.plots.results; sys.exit(not sys.modules.keys().isdisjoint({'torch', 'nbformat'}))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_submodules_load_on_first_use_and_others_do_not_exist():
    import heal_lib

    assert heal_lib.files.ROOT == ROOT and callable(heal_lib.load_model)
    with pytest.raises(AttributeError):
        _ = heal_lib.no_such_module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_and_have_one_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and not cell.outputs for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and ("measured" if path.stem == "10_speed" else "scale") in tagged[0].source
    assert notebook.metadata.kernelspec.name == "python3"


def test_notebooks_are_numbered_without_gaps():
    on_a_laptop = [path.name[:2] for path in NOTEBOOKS if not path.name.startswith("08")]
    assert on_a_laptop == [f"{number:02}" for number in (*range(8), 9, 10, 99)]


def test_what_mypy_is_told_to_ignore_has_a_kind_and_a_reason():
    lines = [line for path in (ROOT / "heal_lib").rglob("*.py") for line in path.read_text().splitlines()]
    assert not [line for line in lines if "type: ignore" in line and not re.search(r"ignore\[[\w-]+\]  # \w+", line)]


def test_a_user_s_mistake_is_seen_in_the_public_names_types(tmp_path):
    """The package says that it is typed; then its names have types, not Any."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("needs mypy: make setup")
    code = tmp_path / "user.py"
    code.write_text("from heal_lib import evaluation, stats, store, worlds\n"
                    "a: str = stats.auroc([0.1], [1])\nb: str = store.default_root()\n"
                    "c: int = worlds.get('paths').problems('test', 1, 0, 'easy')\nevaluation.avg_at_k()\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "--config-file", "pyproject.toml"]
    done = subprocess.run([*command, str(code)], cwd=ROOT, capture_output=True, text=True)
    wrong = [int(line) for line in re.findall(r"user\.py:(\d+): error", done.stdout)]
    assert wrong == [2, 3, 4, 5] and "Found 4 errors in 1 file" in done.stdout, done.stdout


# --- installed without a checkout
@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package's code in a folder of its own, as pip leaves it, and a working folder; returns a function that runs
    Python there, and both folders."""
    site, work = tmp_path_factory.mktemp("site-packages"), tmp_path_factory.mktemp("work")
    for path in (ROOT / "heal_lib").rglob("*.py"):
        (site / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, site / path.relative_to(ROOT))

    def run(*arguments):
        environment = {k: v for k, v in os.environ.items() if k not in ("HEAL_CACHE", "HEAL_RESULTS", "HEAL_MODELS")}
        return subprocess.run([sys.executable, *arguments], cwd=work, capture_output=True, text=True,
                              env={**environment, "PYTHONPATH": str(site)})

    return run, site, work


def test_results_and_cache_of_an_installed_package_are_in_the_working_folder(installed):
    run, site, work = installed
    code = "from heal_lib import places, scales; print(places.default_root(), scales.get('smoke').results_dir)"
    assert run("-c", code).stdout.split() == [str(work / ".cache" / "heal"), str(work / "results" / "smoke")]


def test_an_installed_package_names_what_it_lacks(installed):
    run, site, work = installed
    before = sorted(site.rglob("*.json"))
    done = run("-m", "heal_lib.reproduce", "--scale", "smoke")
    assert done.returncode == 2 and done.stderr == (
        "heal: no notebooks found in notebooks/; restore them with git checkout, or run this elsewhere\n")
    assert list(work.iterdir()) == [] and sorted(site.rglob("*.json")) == before


def test_an_installed_package_copies_its_notebooks_to_the_working_folder_once(installed):
    run, site, work = installed
    (site / "heal_lib" / "story").mkdir()
    shutil.copy(NOTEBOOKS[0], site / "heal_lib" / "story")
    try:
        first, again = (run("-m", "heal_lib.cli", "reproduce", "--list").stdout for _ in range(2))
        assert "the notebooks are in" in first and "the notebooks are in" not in again and "00_tour scale=" in again
        assert (work / "notebooks" / NOTEBOOKS[0].name).read_bytes() == NOTEBOOKS[0].read_bytes()
        shutil.copy(NOTEBOOKS[1], work / "notebooks")
        (work / "notebooks" / NOTEBOOKS[0].name).unlink()
        said = run("-m", "heal_lib.cli", "reproduce", "--list", "--only", "00").stderr
        assert f"heal: unknown notebook '00'; if it was deleted, copy it from {site}/heal_lib/story; known: 01" in said
    finally:
        shutil.rmtree(site / "heal_lib" / "story")
        shutil.rmtree(work / "notebooks")


def wheel_of(folder):
    """The package's wheel, built in a folder."""
    source = folder / "source"  # where pip may write beside the code
    shutil.copytree(ROOT / "heal_lib", source / "heal_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("needs setuptools")
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_notebooks_models_and_types_and_is_small(tmp_path):
    wheel = wheel_of(tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"heal_lib/py.typed", "heal_lib/plots/explorer.html", "heal_lib/fsdp.yaml"} <= names
    assert {f"heal_lib/story/{path.name}" for path in NOTEBOOKS} <= names
    assert {f"heal_lib/embedded/weights/{name}/model.safetensors" for name in embedded.SHIPPED
            if embedded.folder(name).is_dir()} <= names
    assert wheel.stat().st_size < 10e6  # 6 MB of it are the weights of the four models, in 16 bits


def test_an_installed_package_runs_notebooks_of_the_working_folder(installed):
    run, site, work = installed
    (work / "notebooks").mkdir()
    body = "from heal_lib import places, scales\nprint(places.default_root(), scales.get(scale).results_dir)"
    notebook(work / "notebooks" / "00_tour.ipynb", body, 'scale = "smoke"')
    code = ("import sys\nsys.modules['rfc3987_syntax'] = None  # takes nbformat a second to read\n"
            "from heal_lib import reproduce, workers\nworkers.PRELOADED = ()\n"
            "sys.exit(reproduce.main(['--scale', 'smoke']))")
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    text = (work / "results" / "smoke" / "notebooks" / "00_tour.ipynb").read_text()
    assert f"./.cache/heal {work}/results/smoke" in text.replace("./results", f"{work}/results")
    assert (work / ".cache" / "heal" / "runs" / "smoke.json").is_file()
    assert not [path for path in site.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]


def test_hashing_the_library_s_code_imports_none_of_it():
    code = ("import sys; from heal_lib import codehash, run; codehash.code_hash(*run.modules()); "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0

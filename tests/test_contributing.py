"""CONTRIBUTING.md does what it says: its examples, written where it tells, work without a change of any other file."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from heal_lib.files import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def patched(text: str, diff: str) -> str:
    """A file after a unified diff without line numbers: each hunk's old lines, found once, give way to its new ones."""
    for hunk in diff.split("\n@@\n")[1:]:
        lines = hunk.rstrip("\n").split("\n")
        old = "\n".join(line[1:] for line in lines if line[:1] != "+")
        new = "\n".join(line[1:] for line in lines if line[:1] != "-")
        assert text.count(old) == 1, f"CONTRIBUTING.md changes what is not there:\n{old}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a contributor has after following the page; returns (folder, the tests among the files written)."""
    folder, written = tmp_path_factory.mktemp("checkout"), []
    shutil.copytree(ROOT / "heal_lib", folder / "heal_lib", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for name in ("pyproject.toml", "tests/conftest.py", "tests/micro.py", "tests/driven.py", "tests/test_protocols.py"):
        shutil.copy(ROOT / name, folder / name)
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        path = folder / re.match(r"# (\S+\.py)\n", block)[1]
        assert not path.exists()
        path.write_text(block.split("\n", 1)[1], encoding="utf-8")
        written.append(path.relative_to(folder).as_posix())
    for diff in re.findall(r"```diff\n(.*?)```", PAGE, re.S):
        path = folder / re.search(r"^\+\+\+ b/(\S+)$", diff, re.M)[1]
        path.write_text(patched(path.read_text(encoding="utf-8"), diff), encoding="utf-8")
    return folder, written


def test_a_world_an_engine_and_a_baseline_are_one_file_each(checkout):
    folder, written = checkout
    before = {path.relative_to(ROOT): path.read_bytes() for path in (ROOT / "heal_lib").rglob("*.py")}
    after = {path.relative_to(folder): path.read_bytes() for path in (folder / "heal_lib").rglob("*.py")}
    changed = sorted(str(path) for path in after if after[path] != before.get(path))
    assert changed == ["heal_lib/baselines.py", "heal_lib/engines/generate.py", "heal_lib/worlds/sums.py"]
    assert sorted(written) == [*changed[1:], "tests/test_generate.py", "tests/test_short.py", "tests/test_sums.py"]


def run(folder, *arguments):
    """What pytest says of tests in that folder; they have to pass."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments], cwd=folder,
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_of_a_world_runs(checkout):
    """Without the one of its tests that draws from a model."""
    assert re.search(r"\b2 passed", run(checkout[0], "tests/test_sums.py", "-k", "not evaluated"))


@pytest.mark.slow
def test_the_examples_run_and_keep_the_protocols(checkout):
    folder, written = checkout
    tests = [name for name in written if name.startswith("tests/")]
    chosen = ["-k", "sums or generate or row_of_the_main_table"]
    assert re.search(r"\b13 passed", said := run(folder, *tests, "tests/test_protocols.py", *chosen)), said


def test_the_examples_pass_the_linter(checkout):
    folder, written = checkout
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", *written, "heal_lib/baselines.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_hunk_that_fits_nothing_is_an_error():
    with pytest.raises(AssertionError, match="changes what is not there"):
        patched("a\nb\n", "--- a/x\n+++ b/x\n@@\n c\n+d\n")
    assert patched("a\nb\n", "--- a/x\n+++ b/x\n@@\n a\n-b\n+c\n") == "a\nc\n"

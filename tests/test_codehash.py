"""The code that a result rests on, found by the import graph."""

import sys
import textwrap

import pytest

from heal_lib import codehash
from heal_lib.codehash import closure, code_hash


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes modules of a package `some`; returns a function that writes another text into one."""
    monkeypatch.syspath_prepend(tmp_path)
    codehash._file.cache_clear()

    def write(name, text):
        path = tmp_path / "some" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    write("__init__", "")
    write("stage", "from some import near\ndef f(x):\n    from some.late import g\n    return near.h(g(x))\n")
    write("near", "import json\nfrom .far import h\n")
    write("far", "def h(x):\n    return x + 1\n")
    write("late", "def g(x):\n    return x\n")
    write("figures", "from some import stage\n")
    yield write
    codehash._file.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "some"]:
        del sys.modules[name]


def test_what_a_module_imports_is_found_wherever_the_import_stands(package):
    assert set(closure("some.stage")) == {"some", "some.stage", "some.near", "some.far", "some.late"}


@pytest.mark.parametrize("name, counts", [("far", True), ("late", True), ("near", True), ("stage", True),
                                          ("__init__", True), ("figures", False)])
def test_a_change_of_what_is_imported_counts_and_of_nothing_else(package, name, counts):
    first = code_hash("some.stage")
    imports = {"stage": "from some import near, late\n", "near": "from .far import h\n"}
    package(name, "CHANGED = 1\n" + imports.get(name, ""))
    assert (code_hash("some.stage") != first) is counts


def test_comments_and_docstrings_do_not_count(package):
    first = code_hash("some.stage")
    package("far", '''
        """A module."""
        # a comment
        def h(x):
            """Adds one."""
            return x + 1  # one
    ''')
    assert code_hash("some.stage") == first


@pytest.mark.parametrize("stage, not_in", [
    ("heal_lib.sampling", {"gear", "pure", "pace", "baselines"}), ("heal_lib.gear", {"pure", "pace", "baselines"}),
    ("heal_lib.pure", {"gear", "pace", "baselines"}), ("heal_lib.pace", {"gear", "pure", "baselines", "worlds.paths"})])
def test_a_stage_rests_on_nothing_that_comes_after_it(stage, not_in):
    """A change of figures, reports, sizes or the driver makes no result anew."""
    found = {name.removeprefix("heal_lib.") for name in closure(stage)}
    never = {"plots", "report", "tables", "scales", "store", "experiment", "teacher", "students", "reproduce", "stats"}
    assert not found & (never | not_in)

"""The code that a result rests on, found by the import graph."""

import os
import sys
import textwrap

import pytest

from heal_lib import codehash
from heal_lib.codehash import closure, code_hash
from heal_lib.errors import HealError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes modules of a package `some`; returns a function that writes another text into one."""
    monkeypatch.syspath_prepend(tmp_path)
    codehash._file.cache_clear()

    def write(name, text):
        path = tmp_path / "some" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        for known in (codehash._began, codehash._noted):  # as another process sees it
            known.pop(path, None)

    write("__init__", "")
    write("stage", "from some import near\ndef f(x):\n    from some.late import g\n    return near.h(g(x))\n")
    write("near", "import json\nfrom .far import h\n")
    write("far", "def h(x):\n    return x + 1\n")
    write("late", "def g(x):\n    return x\n")
    write("figures", "from some import stage\n")
    yield write
    codehash._file.cache_clear()
    codehash._noted.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "some"]:
        del sys.modules[name]


def test_what_a_module_imports_is_found_wherever_the_import_stands(package):
    assert set(closure("some.stage")) == {"some", "some.stage", "some.near", "some.far", "some.late"}


def test_a_module_elsewhere_rests_on_what_it_is_made_of_here(package):
    """An external world's steps and hints are those of `Prose`, which it may reach through another module."""
    package("stage", "from some.near import Prose\nclass World(Prose): pass\n")
    package("near", "from heal_lib.worlds.prose import Prose\n")
    assert {"some.near", "heal_lib.worlds.prose", "heal_lib.worlds.base"} <= set(closure("some.stage"))
    assert "some" not in {name.partition(".")[0] for name in closure("heal_lib.worlds.prose")}


@pytest.mark.parametrize("name, counts", [("far", True), ("late", True), ("near", True), ("stage", True),
                                          ("__init__", True), ("figures", False)])
def test_a_change_of_what_is_imported_counts_and_of_nothing_else(package, name, counts):
    first = code_hash("some.stage")
    imports = {"stage": "from some import near, late\n", "near": "from .far import h\n"}
    package(name, "CHANGED = 1\n" + imports.get(name, ""))
    assert (code_hash("some.stage") != first) is counts


def test_comments_docstrings_and_types_do_not_count(package):
    first = code_hash("some.stage")
    package("far", '''
        """A module."""
        from __future__ import annotations
        from typing import TYPE_CHECKING, Any
        if TYPE_CHECKING:
            from some import figures
        # a comment
        def h(x: figures.Some) -> Any:
            """Adds one."""
            return x + 1  # one
    ''')
    assert code_hash("some.stage") == first and "some.figures" not in closure("some.stage")


@pytest.mark.parametrize("before, after, counts", [
    ("y: int = x", "y = x", False),
    ("y = x", "y = 2 * x", True),
    ("y = 1\n    if TYPE:\n        y = x", "y = 1\n    if not TYPE:\n        y = x", True),
    ("y = 1\n    if not TYPE_CHECKING:\n        y = 1", "y = 1\n    if not TYPE_CHECKING:\n        y = x", True),
    ("if TYPE_CHECKING:\n        y = 2\n    else:\n        y = 3", "y = 3", False),
    ("class C:\n        y: int = 1", "class C:\n        y: float = 1", True),
    ("class C:\n        def f(self, y: int): pass", "class C:\n        def f(self, y): pass", False),
    ("class C:\n        def f(self, y=1): pass", "class C:\n        def f(self, y=2): pass", True),
])
def test_a_type_counts_where_it_is_read(package, before, after, counts):
    hashes = []
    for body in (before, after):
        package("far", f"def h(x):\n    {body}\n    return x")
        hashes.append(code_hash("some.stage"))
    assert (hashes[0] != hashes[1]) is counts


@pytest.mark.parametrize("stage, not_in", [
    ("heal_lib.sampling", {"gear", "pure", "pace", "baselines"}), ("heal_lib.gear", {"pure", "pace", "baselines"}),
    ("heal_lib.pure", {"gear", "pace", "baselines"}), ("heal_lib.pace", {"gear", "pure", "baselines", "worlds.paths"})])
def test_a_stage_rests_on_nothing_that_comes_after_it(stage, not_in):
    """A change of figures, reports, sizes or the driver makes no result anew."""
    found = {name.removeprefix("heal_lib.") for name in closure(stage)}
    never = {"plots", "report", "tables", "scales", "store", "experiment", "teacher", "students", "reproduce", "stats",
             "progress"}
    assert not found & (never | not_in)


@pytest.mark.parametrize("file", ["far.py", "stage.py"])
def test_code_that_changes_under_a_process_is_refused_by_name(package, tmp_path, file):
    """It runs what it has imported: the new text's hash would be that of other code."""
    first = code_hash("some.stage")
    (tmp_path / "some" / "figures.py").write_text("nothing rests on it")
    assert code_hash("some.stage") == first
    (tmp_path / "some" / file).write_text("CHANGED = 1\n")
    for again in (lambda: code_hash("some.stage"), lambda: code_hash("some.near"), codehash.unchanged):
        with pytest.raises(HealError, match=rf"^{file}: changed while the work went on; run again"):
            again()


def test_what_a_worker_has_imported_is_asked_for_by_its_place_in_the_checkout(monkeypatch):
    monkeypatch.setattr(codehash, "_noted", {})
    codehash.unchanged(codehash.imported())
    gear = next(path for path in codehash._began if path.name == "gear.py")
    monkeypatch.setitem(codehash._began, gear, 1)
    codehash.unchanged()  # nobody has asked for it yet
    with pytest.raises(HealError, match="^heal_lib/gear.py: changed"):
        codehash.unchanged([gear])


def test_a_file_that_is_written_anew_and_says_the_same_has_not_changed(package, tmp_path):
    before, far = code_hash("some.far"), tmp_path / "some" / "far.py"
    text = far.read_text()
    os.utime(far, ns=(1, 1))
    assert code_hash("some.far") == before
    far.write_text(text + "# why\n")
    assert code_hash("some.far") == before
    far.write_text(text.replace("1", "2"))
    with pytest.raises(HealError, match="changed while the work went on"):
        code_hash("some.far")
    far.write_text(text)
    assert code_hash("some.far") == before

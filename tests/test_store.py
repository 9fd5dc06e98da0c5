"""The store: reused when nothing changed, remade when anything did, whole or not at all."""

import errno
import fcntl
import importlib
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from heal_lib import codehash, progress
from heal_lib import stage as stage_module
from heal_lib.errors import HealError
from heal_lib.files import ROOT, read_json
from heal_lib.places import PACKAGE
from heal_lib.stage import Keyed, Stage
from heal_lib.store import Store

calls = []


@pytest.fixture
def store(tmp_path):
    calls.clear()
    return Store(tmp_path / "cache")


def write(*, folder, text="hello", **others):
    calls.append(text)
    (folder / "part").mkdir()
    (folder / "part" / "data.txt").write_text(text)


def other_write(*, folder, **inputs):
    write(folder=folder, **inputs)


def rows(*, n):
    from datasets import Dataset

    return Dataset.from_dict({"n": list(range(n))})


def total(*, of, also=(), folder):
    (folder / "total.txt").write_text(str(sum(of["n"]) + sum(sum(each["n"]) for each in also)))


def failing(*, error):
    raise {"full": OSError(errno.ENOSPC, "No space left on device"), "wrong": ValueError("wrong"),
           "torch": RuntimeError("I/O error: No space left on device (os error 28)"),
           "read-only": OSError(errno.EROFS, "Read-only file system"), "interrupt": KeyboardInterrupt()}[error]


def full(*, folder):
    (folder / "data").symlink_to("/dev/full")
    (folder / "data").write_text("x")


def full_of_nothing():
    return None


def pool(**inputs):
    return Stage("pool", write, inputs)


def left_over(store):
    return [path.name for path in store.root.iterdir() if path.name != ".locks"]


def test_the_same_inputs_are_made_once(store, capsys):
    first = store.get(Stage("sampled pool", write, {"seed": 1, "scale": (1, 2)}))
    again = Store(store.root)
    assert again.get(Stage("sampled pool", write, {"scale": [1, 2], "seed": 1})) == first and len(calls) == 1
    assert (first.folder / "part" / "data.txt").read_text() == "hello"
    (made,) = capsys.readouterr().out.splitlines()
    assert made.startswith("made sampled pool [")
    assert [event.what for event in store.events + again.events] == ["made", "reused"]


@pytest.mark.parametrize("change", ["name", "input", "content", "version", "function", "code", "device"])
def test_anything_that_determines_the_result_changes_the_key(store, monkeypatch, change):
    first = store.get(pool(seed=1, model=Keyed("teacher", "abc"))).folder
    if change == "version":
        monkeypatch.setattr(stage_module, "versions", lambda: {"torch": "0.0"})
    if change == "code":
        monkeypatch.setattr(stage_module, "code_hash", lambda module: "other")
    if change == "device":
        monkeypatch.setenv("DEVICE", "cuda")
    inputs = {"seed": 2 if change == "input" else 1, "model": Keyed("teacher", "b" if change == "content" else "abc")}
    second = Stage("other" if change == "name" else "pool", other_write if change == "function" else write, inputs)
    assert store.get(second).folder != first and len(calls) == 2


@pytest.mark.parametrize("changes", ["before", "while it is made"])
def test_nothing_is_kept_of_code_that_changed_while_it_ran(store, monkeypatch, tmp_path, changes):
    """The process still runs what it has imported, and the key would be that of what stands on the disk."""
    code = tmp_path / f"changed_{changes[:5]}.py"
    code.write_text(f"def make(*, folder):\n    open({str(code)!r}, 'a').write('other = 1')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(codehash, "_noted", {})
    stage = Stage("pool", importlib.import_module(code.stem).make)
    if changes == "before":
        store.task(stage)
        code.write_text("")
    with pytest.raises(HealError, match=f"^{code.name}: changed while the work went on; run again"):
        store.get(stage)
    assert left_over(store) == [] and not store.noted(stage)


def test_a_worker_keeps_nothing_if_anything_that_it_has_imported_changed(store, monkeypatch):
    """It imports worlds and engines by name, of which the code of the function does not tell."""
    monkeypatch.setattr(codehash, "_noted", {})
    monkeypatch.setitem(codehash._began, PACKAGE / "engines" / "__init__.py", 1)
    monkeypatch.setenv(progress.IN_WORKER, "1")
    with pytest.raises(HealError, match="^heal_lib/engines/__init__.py: changed"):
        store.get(Stage("pool", full_of_nothing))
    assert left_over(store) == []
    monkeypatch.delenv(progress.IN_WORKER)
    store.get(Stage("pool", full_of_nothing))  # in a notebook's own process all sorts of modules are there


def test_what_is_noted_is_what_was_made(store, monkeypatch):
    """A key that was worked out again after the work would name a folder that is not there."""
    stage = pool()
    made = store.fill(store.task(stage))
    monkeypatch.setattr(stage_module, "code_hash", lambda module: "other")
    store.note(stage, *made)
    assert store.get(stage).folder.is_dir()


def test_a_thing_by_another_name_is_the_same(store):
    first = store.get(pool(model=Keyed("teacher", "abc")))
    assert store.get(pool(model=Keyed("/elsewhere/teacher", "abc"))) == first and len(calls) == 1


def test_a_stage_is_known_by_what_the_stages_before_it_hold(store, monkeypatch):
    """Code that changed and gave the same rows makes nothing after it anew."""
    some = Stage("rows", rows, {"n": 4})
    first = store.get(Stage("total", total, {"of": some, "also": [Stage("rows", rows, {"n": 3})]}))
    assert (first.folder / "total.txt").read_text() == "9"
    real = stage_module.code_hash
    monkeypatch.setattr(stage_module, "code_hash", lambda module: "new" + real(module))
    again = Store(store.root)
    again.get(Stage("rows", rows, {"n": 4}))
    assert again.events[-1].what == "made"
    monkeypatch.undo()
    other = Store(store.root)
    more = Stage("total", total, {"of": Stage("rows", rows, {"n": 4}), "also": [some]})
    assert other.get(more).folder != first.folder
    assert other.data(some)["n"] == [0, 1, 2, 3]


def test_the_manifest_says_what_the_result_depends_on(store):
    manifest = read_json(store.get(pool(temperature=np.float64(0.5))).folder / "manifest.json")
    assert manifest["inputs"] == {"temperature": 0.5} and "torch" in manifest["versions"]
    assert manifest["function"].endswith("test_store.write")
    assert set(manifest["files"]) == {"part/data.txt"} and manifest["seconds"] >= 0


@pytest.mark.parametrize("harm", ["flip", "remove", "shorten", "manifest", "no manifest", "another's"])
def test_a_damaged_result_is_named_and_made_again(store, capsys, harm):
    folder = store.get(pool()).folder
    file = folder / ("part/data.txt" if harm in ("flip", "remove", "shorten") else "manifest.json")
    if harm in ("remove", "no manifest"):
        file.unlink()
    elif harm == "another's":  # whole in itself, and of another stage
        file.write_text((store.get(pool(seed=1)).folder / "manifest.json").read_text())
    else:
        file.write_text({"flip": "jello", "shorten": "hell", "manifest": "{"}[harm])
    before = len(calls)
    Store(store.root).get(pool())
    assert len(calls) == before + 1 and (folder / "part" / "data.txt").read_text() == "hello"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pool: {folder.name}/{file.relative_to(folder)} is damaged")


def test_every_byte_of_a_result_counts(store, capsys):
    """One bit of any byte of any file, the manifest's included; a file cut at any length; one file too many."""
    folder = store.get(pool(temperature=0.5)).folder
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(whole) == 2
    for path, data in whole.items():
        spoilt = [data[:i] + bytes([byte ^ 1 << i % 8]) + data[i + 1 :] for i, byte in enumerate(data)]
        for damage in [*spoilt, *(data[:i] for i in range(0, len(data), 7)), data + b" "]:
            path.write_bytes(damage)
            assert store._sound(folder, "pool") is None, damage
            assert f"{folder.name}/{path.relative_to(folder)} is damaged" in capsys.readouterr().err
            path.write_bytes(data)
    (folder / "stage-4").write_text("put there by hand")
    assert store._sound(folder, "pool") is None and "stage-4" in capsys.readouterr().err
    Store(store.root).get(pool(temperature=0.5))
    assert len(calls) == 2 and not (folder / "stage-4").exists()


@pytest.mark.parametrize("error", ["full", "torch", "read-only"])
def test_a_disk_without_room_is_one_line_and_leaves_nothing(store, error):
    with pytest.raises(HealError, match="HEAL_CACHE") as caught:
        store.get(Stage("pool", failing, {"error": error}))
    assert str(store.root) in str(caught.value) and "\n" not in str(caught.value)
    assert left_over(store) == []


@pytest.mark.parametrize("error, kind", [("wrong", ValueError), ("interrupt", KeyboardInterrupt)])
def test_other_errors_pass_through_and_leave_nothing(store, error, kind):
    with pytest.raises(kind):
        store.get(Stage("pool", failing, {"error": error}))
    assert left_over(store) == [] and store.events == []


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HealError, match="HEAL_CACHE"):
        Store(tmp_path / "file" / "cache")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_device_is_noticed_when_it_happens(store):
    with pytest.raises(HealError, match="no room"):
        store.get(Stage("pool", full))
    assert left_over(store) == []


@pytest.mark.parametrize("part", [{1, 2}, float("nan"), object(), pathlib.Path()])
def test_an_input_that_is_not_plain_data_is_refused(store, part):
    with pytest.raises(HealError):
        store.get(pool(part=part))


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_holds_is_not(store):
    made = store.get(pool()).folder
    for left in (".tmp-dead-1", ".tmp-alive-2", ".part-dead-1", f".part-{made.name}"):
        (store.root / left).mkdir()
    with open(store.root / ".locks" / "alive-2", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        Store(store.root)
    assert sorted(left_over(store)) == [".part-dead-1", ".tmp-alive-2", made.name]


def test_two_processes_make_a_thing_once(tmp_path):
    (tmp_path / "slow.py").write_text(textwrap.dedent("""
        import sys, time
        from heal_lib.stage import Stage
        from heal_lib.store import Store
        def make(*, folder):
            (folder / "data").write_text("x")
            time.sleep(0.5)
        if __name__ == "__main__":
            import slow
            store = Store(sys.argv[1])
            store.get(Stage("pool", slow.make))
            print(store.events[0].what)
    """))
    command = [sys.executable, "slow.py", str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
                             env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(2)]
    words = sorted(process.communicate(timeout=60)[0].split()[-1] for process in both)
    assert words == ["made", "reused"]

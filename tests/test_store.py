"""The store: reused when nothing changed, remade when anything did, whole or not at all."""

import errno
import fcntl
import os
import subprocess
import sys
import textwrap
import types

import numpy as np
import pandas as pd
import pytest

from heal_lib import store as store_module
from heal_lib.errors import HealError
from heal_lib.store import (
    Store,
    atomic,
    code_hash,
    hash_of,
    load_dataset,
    read_json,
    save_dataset,
    write_json,
    write_table,
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def writer(text="hello"):
    """A `make` that counts its calls."""

    def make(folder):
        make.calls += 1
        (folder / "part").mkdir()
        (folder / "part" / "data.txt").write_text(text)

    make.calls = 0
    return make


def left_over(store):
    return [path.name for path in store.root.iterdir() if path.name != ".locks"]


def test_the_same_inputs_are_made_once(store, capsys):
    make = writer()
    first = store.stage("sampled pool", {"seed": 1, "scale": (1, 2)}, make)
    again = Store(store.root).stage("sampled pool", {"scale": [1, 2], "seed": 1}, make)
    assert first == again and make.calls == 1
    assert (first / "part" / "data.txt").read_text() == "hello"
    made, reused = capsys.readouterr().out.splitlines()
    assert made.startswith("made sampled pool [") and reused.startswith("reused sampled pool [")
    assert [event.what for event in store.events] == ["made"]


@pytest.mark.parametrize("change", ["name", "part", "version", "code"])
def test_anything_that_determines_the_result_changes_the_key(store, monkeypatch, change):
    make = writer()
    first = store.stage("pool", {"seed": 1}, make, code=[hash_of])
    if change == "version":
        monkeypatch.setattr(store_module, "versions", lambda: {"torch": "0.0"})
    name, parts = ("other" if change == "name" else "pool"), {"seed": 2 if change == "part" else 1}
    second = store.stage(name, parts, make, code=[code_hash if change == "code" else hash_of])
    assert first != second and make.calls == 2


def test_the_manifest_says_what_the_result_depends_on(store):
    manifest = read_json(store.stage("pool", {"temperature": np.float64(0.5)}, writer()) / "manifest.json")
    assert manifest["key_parts"] == {"temperature": 0.5} and "torch" in manifest["versions"]
    assert set(manifest["files"]) == {"part/data.txt"} and manifest["seconds"] >= 0


@pytest.mark.parametrize("harm", ["flip", "remove", "shorten", "manifest", "no manifest"])
def test_a_damaged_result_is_named_and_made_again(store, capsys, harm):
    make = writer()
    folder = store.stage("pool", {}, make)
    file = folder / ("manifest.json" if "manifest" in harm else "part/data.txt")
    if harm in ("remove", "no manifest"):
        file.unlink()
    else:
        file.write_text({"flip": "jello", "shorten": "hell", "manifest": "{"}[harm])
    store.stage("pool", {}, make)
    assert make.calls == 2 and (folder / "part" / "data.txt").read_text() == "hello"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pool: {folder.name}/{file.relative_to(folder)} is damaged")


def test_every_byte_of_a_result_counts(store, capsys):
    """One bit of any byte of any file, the manifest's included; a file cut at any length; one file too many."""
    make = writer()
    folder = store.stage("pool", {"temperature": 0.5}, make)
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
    store.stage("pool", {"temperature": 0.5}, make)
    assert make.calls == 2 and not (folder / "stage-4").exists()


def test_a_manifest_of_an_older_cache_still_counts(store):
    """They say nothing of themselves; making a month's work again would be no gain."""
    make = writer()
    path = store.stage("pool", {}, make) / "manifest.json"
    write_json({key: value for key, value in read_json(path).items() if key != "manifest"}, path)
    store.stage("pool", {}, make)
    assert make.calls == 1


def failing(error):
    def make(folder):
        (folder / "half").write_text("half")
        raise error

    return make


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        OSError(errno.EROFS, "Read-only file system"),
    ],
)
def test_a_disk_without_room_is_one_line_and_leaves_nothing(store, error):
    with pytest.raises(HealError, match="HEAL_CACHE") as caught:
        store.stage("pool", {}, failing(error))
    assert str(store.root) in str(caught.value) and "\n" not in str(caught.value)
    assert left_over(store) == []


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_other_errors_pass_through_and_leave_nothing(store, error):
    with pytest.raises(type(error)):
        store.stage("pool", {}, failing(error))
    assert left_over(store) == [] and store.events == []


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HealError, match="HEAL_CACHE"):
        Store(tmp_path / "file" / "cache")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_device_is_noticed_when_it_happens(store):
    def make(folder):
        (folder / "data").symlink_to("/dev/full")
        (folder / "data").write_text("x")

    with pytest.raises(HealError, match="no room"):
        store.stage("pool", {}, make)
    assert left_over(store) == []


@pytest.mark.parametrize("part", [{1, 2}, float("nan"), object(), store_module.ROOT])
def test_a_key_part_that_is_not_plain_data_is_refused(store, part):
    with pytest.raises(HealError):
        store.stage("pool", {"part": part}, writer())


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_holds_is_not(store):
    made = store.stage("made", {}, writer())
    for left in (".tmp-dead-1", ".tmp-alive-2", ".part-dead-1", f".part-{made.name}"):
        (store.root / left).mkdir()
    with open(store.root / ".locks" / "alive-2", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        Store(store.root)
    assert sorted(left_over(store)) == [".part-dead-1", ".tmp-alive-2", made.name]


def test_two_processes_make_a_thing_once(tmp_path):
    script = textwrap.dedent("""
        import sys, time
        from heal_lib.store import Store
        def make(folder):
            (folder / "data").write_text("x")
            time.sleep(0.5)
        Store(sys.argv[1]).stage("pool", {}, make)
    """)
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    words = sorted(process.communicate(timeout=30)[0].split()[0] for process in both)
    assert words == ["made", "reused"]


def module(tmp_path, source):
    path = tmp_path / "some_module.py"
    path.write_text(textwrap.dedent(source))
    found = types.ModuleType("some_module")
    found.__file__ = str(path)
    return found


def test_code_hash_ignores_comments_and_docstrings_only(tmp_path):
    plain = code_hash(module(tmp_path, "def f(x):\n    return x + 1\n"))
    documented = '''
        """A module."""
        # a comment
        def f(x):
            """Adds one."""
            return x + 1  # one
    '''
    assert code_hash(module(tmp_path, documented)) == plain
    other = code_hash(module(tmp_path, "def f(x):\n    return x + 2\n"))
    assert other != plain and other == code_hash(tmp_path / "some_module.py")


def test_an_atomic_file_appears_whole_or_not(tmp_path):
    with pytest.raises(ValueError), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    with atomic(tmp_path / "deep" / "a.svg") as temporary:
        assert temporary.suffix == ".svg"
        temporary.write_text("whole")
    assert (tmp_path / "deep" / "a.svg").read_text() == "whole"


def test_what_a_killed_process_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".{gone.pid}.t.csv").write_text("half")
    (tmp_path / f".{os.getppid()}.t.csv").write_text("being written")
    (tmp_path / f".{gone.pid}.other.csv").write_text("half")
    with atomic(tmp_path / "t.csv") as temporary:
        temporary.write_text("whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"t.csv", f".{os.getppid()}.t.csv", f".{gone.pid}.other.csv"}


def test_tables_are_written_alike_every_time(tmp_path):
    frame = pd.DataFrame({"method": ["heal"], "mean": [1 / 3], "n": [30]})
    write_table(frame, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"method,mean,n\nheal,0.333333,30\n"


def test_a_dataset_survives_a_round_trip(tmp_path):
    from datasets import Dataset, Features, Sequence, Value

    lists = {"entropy": Sequence(Value("float32")), "empty": Sequence(Value("int32"))}
    features = Features({"text": Value("string"), **lists})
    rows = {"text": ["a", "b", "c"], "entropy": [[0.5], [], [1.0, 2.0]], "empty": [[], [], []]}
    data = Dataset.from_dict(rows, features=features)
    save_dataset(data.select([0, 2]), tmp_path / "d.parquet")
    loaded = load_dataset(tmp_path / "d.parquet")
    assert loaded.features == features and loaded["entropy"] == [[0.5], [1.0, 2.0]]

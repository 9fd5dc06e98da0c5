"""What a run leaves in its folder, and what it says where it cannot go on."""

import socket

import pytest

from heal_lib import console, places, workers
from heal_lib.errors import HealError
from heal_lib.files import disk_error, file_hash
from heal_lib.run import Run


@pytest.fixture
def left(tmp_path):
    """A folder with files of a last run, and a function that tells which of them stay after the next."""
    it, folder = Run.__new__(Run), tmp_path / "results"
    (folder / "tables").mkdir(parents=True)
    for path in (*(folder / "tables" / f"{name}.csv" for name in "abcd"), tmp_path / "outside.csv"):
        path.write_text(path.name)
    known = {f"tables/{name}.csv": file_hash(folder / "tables" / f"{name}.csv") for name in "abc"}
    it.folder, it.last, it.record = folder, {"02_gear": {"outputs": known}}, {"notebooks": {}}

    def stay(*outputs):
        it._drop_stale("02_gear", dict.fromkeys(f"tables/{name}.csv" for name in outputs))
        return "".join(sorted(path.stem for path in (folder / "tables").iterdir()))

    return it, stay


def test_what_a_notebook_does_not_make_any_more_is_deleted(left):
    _, stay = left
    assert stay("a", "b", "c") == "abcd"
    assert stay("a") == "ad"  # d is in no record: somebody else's


def test_what_was_changed_or_is_another_notebook_s_too_stays(left):
    it, stay = left
    (it.folder / "tables" / "b.csv").write_text("by hand")
    it.record["notebooks"]["05_main"] = {"outputs": {"tables/c.csv": "whatever it is now"}}
    assert stay() == "bcd"
    it.last = {}
    assert stay() == "bcd"


def test_a_record_can_name_no_file_outside_the_folder(left, tmp_path):
    it, stay = left
    (it.folder / "tables" / "link.csv").symlink_to(tmp_path / "outside.csv")
    there = file_hash(tmp_path / "outside.csv")
    it.last["02_gear"]["outputs"] = dict.fromkeys(
        ("../outside.csv", str(tmp_path / "outside.csv"), "tables/link.csv", "tables/gone.csv", "tables"), there)
    assert stay() == "abcdlink" and (tmp_path / "outside.csv").exists()


def test_a_pool_that_was_killed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAL_POOL", str(tmp_path / "pool"))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "pool"))  # its name is left, and nobody listens
    for _ in range(2):
        with pytest.raises(HealError, match="pool of workers was killed; run the same command again"):
            workers.Kernel([], {}, ".")
        (tmp_path / "pool").unlink(missing_ok=True)


def test_a_full_disk_is_told_by_its_folder(monkeypatch):
    def said(path):
        return console.words(disk_error(OSError(28, "No space left on device"), path))

    monkeypatch.setattr(console, "ROOT", places.Path("/here"))
    monkeypatch.setenv("HEAL_RESULTS", "")
    assert said("/cache/pool-1").endswith("move the cache with HEAL_CACHE")
    words = said("/here/results/demo/tables/gear.csv")
    assert words.startswith("/here/results/demo/tables/gear.csv: no room left on the disk; free some, or")
    assert words.endswith("make /here/results a link to a folder on another disk")
    monkeypatch.setenv("HEAL_RESULTS", "/there")
    assert said("/there/run.json").endswith("or point HEAL_RESULTS to another disk")

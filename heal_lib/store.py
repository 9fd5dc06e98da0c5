"""Results of stages on disk, found again by everything that determines them.

    Stage(name, function, inputs)      a result that can be had: what `function` makes of `inputs`, and of nothing else
    store.get(stage)                   its folder, made or reused, after those of the stages among its inputs

A function sees its inputs alone, and its key holds them all: the inputs, by content where they are other stages; the
code of the function's module and of all that this imports (`codehash`); library versions. So a changed switch makes
anew what depends on it and nothing else. A folder is whole or absent, and is checked when read [R]. What is made while
the code changes is dropped."""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from heal_lib import progress
from heal_lib.codehash import imported, unchanged
from heal_lib.errors import HealError
from heal_lib.files import (
    default_root,
    disk_error,
    disk_trouble,
    facts_of,
    file_hash,
    hash_of,
    json_text,
    load_dataset,
    making,
    save_dataset,
    sync,
    unfinished,
    write_json,
)
from heal_lib.stage import Keyed, Stage, determined, each

DATA = "data.parquet"  # what a function that returns rows leaves
_MANIFEST = {"name", "function", "inputs", "versions", "code", "device", "seconds", "files"}


class Made(NamedTuple):
    """A stage that is there: its folder, what it holds (a hash of its files), and the seconds it took when made."""

    folder: Path
    content: str
    seconds: float


class Task(NamedTuple):
    """A stage whose inputs are there: all that a worker needs to make it."""

    name: str
    function: Callable[..., Any]
    inputs: dict[str, Any]  # stages replaced by their folders
    parts: dict[str, Any]  # all that determines it
    key: str

    @property
    def entry(self) -> str:
        """The name of its folder."""
        return re.sub(r"\W+", "-", self.name)[:80] + "-" + self.key


class Event(NamedTuple):
    """One use of a stage: `what` is "made", "reused" or "kept" (`kept`); `seconds` is what making it cost, whenever."""

    what: str
    name: str
    key: str
    seconds: float


class Store:
    """A folder of stages. `events` lists what was made and what was reused, in order."""

    def __init__(self, root: str | Path | None = None):
        self.root: Path = Path(root or default_root()).absolute()
        self.events: list[Event] = []
        self._made: dict[Stage, Made] = {}  # a stage is looked up, and checked, once
        self._keys: dict[str, Made] = {}
        self._tasks: dict[Stage, Task] = {}
        try:
            (self.root / ".locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            other = HealError(f"{self.root}: not a folder ({error.strerror}); point HEAL_CACHE to one")
            raise disk_error(error, self.root) or other from error
        self._sweep()

    def get(self, stage: Stage) -> Made:
        """A stage's result, made now if it is not there. Raises HealError if the disk is full or read-only; whatever
        its function raises passes through, and leaves nothing behind."""
        if stage not in self._made:
            for each in stage.before():
                self.get(each)
            if not self._known(stage, task := self.task(stage)):
                self.note(stage, *self.fill(task))
        return self._made[stage]

    def data(self, stage: Stage) -> Any:
        """The data set of a stage."""
        return load_dataset(self.get(stage).folder / DATA)

    def noted(self, stage: Stage) -> bool:
        """Whether a stage was looked up."""
        return stage in self._made

    def find(self, stage: Stage) -> bool:
        """Notes a stage that is there, and says so. The stages before it must have been noted."""
        if stage not in self._made and not self._known(stage, task := self.task(stage)):
            with self._lock(task.entry):
                if (manifest := self._sound(self.root / task.entry, task.name)) is None:
                    return False
            self.note(stage, "reused", manifest)
        return True

    def _known(self, stage, task) -> bool:
        """Whether a stage is one already looked up, declared once more."""
        if task.key in self._keys:
            self._made[stage] = self._keys[task.key]
        return task.key in self._keys

    def note(self, stage: Stage, what: str, manifest: dict[str, Any]) -> None:
        """Takes down that a stage was made or reused."""
        task = self.task(stage)
        made = Made(self.root / task.entry, hash_of(manifest["files"]), manifest["seconds"])
        self._made[stage] = self._keys[task.key] = made
        self.tell(Event(what, task.name, task.key, manifest["seconds"]))

    def tell(self, event: Event) -> None:
        """Takes down an event."""
        self.events.append(event)
        if log := os.environ.get("HEAL_EVENTS"):  # the driver collects the events of a notebook's kernel
            with open(log, "a") as handle:
                handle.write(json.dumps(event) + "\n")

    def task(self, stage: Stage) -> Task:
        """What there is to do for a stage whose inputs were noted, and its key: the same each time it is asked for."""
        def part(value, of_key):
            value = self._made[value] if isinstance(value, Stage) else value
            return value[of_key] if isinstance(value, Made | Keyed) else value  # both begin (given, what counts)

        if stage not in self._tasks:
            given = each(stage.inputs, lambda value: part(value, False))
            parts = determined(stage, lambda value: part(value, True))
            self._tasks[stage] = Task(stage.name, stage.function, given, parts, hash_of(parts)[:16])
        return self._tasks[stage]

    def fill(self, task: Task) -> tuple[str, dict[str, Any]]:
        """("made" or "reused", manifest): makes what is not there. Two processes never make the same."""
        folder = self.root / task.entry
        with self._lock(task.entry):
            manifest, what = self._sound(folder, task.name), "reused"
            if manifest is None:
                with disk_trouble(folder):
                    manifest, what = self._make(folder, task), "made"
        if what == "made":
            progress.say(f"made {task.name} [{task.key[:6]}] in {manifest['seconds']:.1f} s")
        return what, manifest

    def _make(self, folder, task):
        temporary = self.root / f".tmp-{folder.name}"  # one per key: the lock is held
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            start = time.perf_counter()
            with making(temporary):
                _call(task, temporary)
            unchanged(imported() if progress.IN_WORKER in os.environ else ())
            seconds = round(time.perf_counter() - start, 3)
            manifest = {**task.parts, "seconds": seconds, "files": facts_of(temporary)}
            write_json({**manifest, "manifest": hash_of(manifest)}, temporary / "manifest.json")
            for path in [*temporary.rglob("*"), temporary]:
                sync(path)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary, folder)
            sync(self.root)
            shutil.rmtree(unfinished(temporary), ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return manifest

    def _sound(self, folder, name):
        """The manifest of a folder that is what its name says, whose files are as they were written, and no more; else
        None, naming the damage."""
        if not folder.exists():
            return None
        damaged = "manifest.json"
        try:
            text = (folder / damaged).read_text()
            manifest = json.loads(text)
            promise = manifest.pop("manifest")
            key = hash_of({part: manifest[part] for part in _MANIFEST - {"seconds", "files"}})[:16]
            if (promise != hash_of(manifest) or manifest.keys() != _MANIFEST or not folder.name.endswith(f"-{key}")
                    or text != json_text({**manifest, "manifest": promise})):
                raise ValueError
            there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
            for file in sorted(there - {damaged} | manifest["files"].keys()):
                damaged, path = file, folder / file
                facts = manifest["files"][file]
                if path.stat().st_size != facts["size"] or file_hash(path) != facts["sha256"]:
                    raise ValueError
            return manifest
        except (OSError, ValueError, KeyError, TypeError, AttributeError, HealError):
            print(f"{name}: {folder.name}/{damaged} is damaged, missing or not its own; made again", file=sys.stderr)
            return None

    @contextlib.contextmanager
    def _lock(self, entry, wait=True):
        """Holds the lock of an entry; yields False at once if `wait` is false and another holds it."""
        with disk_trouble(self.root), open(self.root / ".locks" / entry, "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                print(f"waiting for another process that makes {entry}", file=sys.stderr)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield True

    def _sweep(self):
        """Removes what a killed process left: a temporary folder whose lock is free has no owner, and of a stage that
        is made nothing is unfinished."""
        for left in (*self.root.glob(".tmp-*"), *self.root.glob(".part-*")):
            kind, _, entry = left.name.partition("-")
            with self._lock(entry, wait=False) as free:
                if free and (kind == ".tmp" or (self.root / entry).exists()):
                    shutil.rmtree(left, ignore_errors=True)


def _call(task: Task, folder: Path) -> None:
    """Runs a task's function on its inputs, data sets in place of the folders that hold them, and saves its rows."""
    given = each(task.inputs, lambda value: load_dataset(value / DATA)
                 if isinstance(value, Path) and (value / DATA).is_file() else value)
    if "folder" in inspect.signature(task.function).parameters:
        given["folder"] = folder
    rows = task.function(**given)
    if rows is not None:
        save_dataset(rows, folder / DATA)

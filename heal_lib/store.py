"""Results of stages on disk, found again by everything that determines them.

A stage's folder is named by a hash of its inputs, its code and the library versions, so a changed switch
recomputes what depends on it and nothing else. A folder is whole or absent, and is checked when read [R].
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import errno
import fcntl
import functools
import glob
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from heal_lib import progress
from heal_lib.errors import HealError

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "tokenizers", "trl", "accelerate", "numpy", "datasets")
_MANIFEST = {"name", "key_parts", "versions", "code", "device", "seconds", "files"}
NO_ROOM, NO_RIGHT = (errno.ENOSPC, errno.EDQUOT), (errno.EROFS, errno.EACCES, errno.EPERM)


class Event(NamedTuple):
    """One use of the store: `what` is "made" or "reused"; `seconds` is what making it cost, whenever."""

    what: str
    name: str
    key: str
    seconds: float


def default_root() -> Path:
    """The folder of the cache: HEAL_CACHE, or `.cache/heal` of this checkout."""
    return Path(os.environ.get("HEAL_CACHE") or ROOT / ".cache" / "heal")


def disk_error(error: object, path: str | Path) -> HealError | None:
    """The HealError for a full or read-only disk, or None if `error` is something else.

    torch and safetensors wrap the system's error in their own, so its text counts as well."""
    code, text = getattr(error, "errno", None), str(error)
    if code in NO_ROOM or "No space left" in text or "os error 28" in text:
        return HealError(f"{path}: no room left on the disk; free some, or move the cache with HEAL_CACHE")
    if code in NO_RIGHT or "Read-only file system" in text:
        return HealError(f"{path}: cannot be written; make it writable, or move the cache with HEAL_CACHE")
    return None


@contextlib.contextmanager
def _disk_trouble(path):
    try:
        yield
    except Exception as error:
        trouble = disk_error(error, getattr(error, "filename", None) or path)
        if trouble is None:
            raise
        raise trouble from error


def _sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path (same suffix) that becomes `path` if the block succeeds."""
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    with _disk_trouble(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep_files(path)
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)  # the new name has to last as well
        finally:
            temporary.unlink(missing_ok=True)


def _sweep_files(path):
    """Removes the temporary files that killed processes left of this one."""
    for left in path.parent.glob(f".*.{glob.escape(path.name)}"):
        try:
            os.kill(int(left.name[1:].split(".")[0]), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (ValueError, OSError):  # no process's number, or somebody else's process
            continue


def _json_text(value):
    return json.dumps(value, indent=1, sort_keys=True, default=_plain) + "\n"


def write_json(value: Any, path: str | Path) -> None:
    """`value` as indented JSON with sorted keys, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(_json_text(value))


def read_json(path: str | Path) -> Any:
    """The value of a JSON file."""
    return json.loads(Path(path).read_text())


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """A DataFrame as CSV, atomically; six significant digits, so that equal runs give equal files."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def save_dataset(dataset: Dataset, path: str | Path) -> None:
    """A datasets.Dataset as one parquet file, atomically."""
    with atomic(path) as temporary:
        dataset.to_parquet(str(temporary))


def load_dataset(path: str | Path) -> Dataset:
    """The datasets.Dataset of a parquet file, in memory (`from_parquet` would make a second copy on disk)."""
    import pyarrow.parquet
    from datasets import Dataset

    return Dataset(pyarrow.parquet.read_table(path))


def file_hash(path: str | Path) -> str:
    """sha256 of a file, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def facts_of(folder: Path, besides: str | None = None) -> dict[str, dict]:
    """{file: its size in bytes and sha256} of all files below a folder, `besides` one."""
    made = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: {"size": path.stat().st_size, "sha256": file_hash(path)}
            for name, path in made.items() if name != besides}


def code_hash(*code) -> str:
    """sha256 of the syntax of modules, functions, classes or files: comments and docstrings do not count."""
    digest = hashlib.sha256()
    for part in code:
        file = str(part.__file__) if isinstance(part, ModuleType) else part
        is_file = isinstance(file, str | Path)
        tree = ast.parse(Path(file).read_text() if is_file else textwrap.dedent(inspect.getsource(part)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
        digest.update(ast.dump(tree).encode() + b"\0")
    return digest.hexdigest()


@functools.cache
def versions(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, str | None]:
    """{library: installed version or None}, without importing any, and the Python's minor version."""
    found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
    for library in libraries:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found


def _plain(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return value.tolist()
    mend = "pass file_hash(path)" if isinstance(value, Path) else "use numbers, strings, lists or dicts"
    raise HealError(f"a {type(value).__name__} cannot be part of a key or a JSON file; {mend}")


def hash_of(value: Any) -> str:
    """sha256 of the canonical JSON of `value`, in hex; HealError for what JSON cannot hold."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise HealError(f"a key must be plain data ({error}); use finite numbers and strings") from None
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(name: str, key_parts: dict, code: Iterable = ()) -> tuple[dict, str]:
    """(all that determines a stage, its key): the arguments are those of `Store.stage`."""
    parts = {"name": name, "key_parts": key_parts, "versions": versions(), "code": code_hash(*code),
             "device": os.environ.get("DEVICE") or "cpu"}
    return parts, hash_of(parts)[:16]


def unfinished(folder: Path) -> Path:
    """Where the `make` of a stage, which is given `folder`, may keep what a next attempt can go on from.

    It outlives a kill; it is dropped when the stage is made."""
    return folder.with_name(folder.name.replace(".tmp-", ".part-", 1))


class Store:
    """A folder of stages. `events` lists what was made and what was reused, in order."""

    def __init__(self, root: str | Path | None = None):
        self.root = Path(root or default_root()).absolute()
        self.events: list[Event] = []
        try:
            (self.root / ".locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            other = HealError(f"{self.root}: not a folder ({error.strerror}); point HEAL_CACHE to one")
            raise disk_error(error, self.root) or other from error
        self._sweep()

    def stage(self, name: str, key_parts: dict, make: Callable[[Path], object], code: Iterable = ()) -> Path:
        """The folder of a stage: reused if it is there and sound, else filled by `make(folder)`.

        name: what a reader calls it ("sampled pool"); key_parts: plain data that determines the result;
        code: modules or functions that determine it. Raises HealError if the disk is full or read-only;
        whatever `make` raises passes through, and leaves nothing behind.
        """
        parts, key = key_of(name, key_parts, code)
        entry = re.sub(r"\W+", "-", name) + "-" + key
        folder = self.root / entry
        with self._lock(entry):
            manifest, reused = self._sound(folder, name), True
            if manifest is None:
                with _disk_trouble(folder):
                    manifest, reused = self._make(folder, parts, make), False
        what, seconds = "reused" if reused else "made", manifest["seconds"]
        self.events.append(Event(what, name, key, seconds))
        if log := os.environ.get("HEAL_EVENTS"):  # the driver collects the events of a notebook's kernel
            with open(log, "a") as handle:
                handle.write(json.dumps(self.events[-1]) + "\n")
        progress.say(f"{what} {name} [{key[:6]}]" + ("" if reused else f" in {seconds:.1f} s"))
        return folder

    def _make(self, folder, parts, make):
        temporary = self.root / f".tmp-{folder.name}"  # one per key: the lock is held
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            start = time.perf_counter()
            make(temporary)
            seconds = round(time.perf_counter() - start, 3)
            manifest = {**parts, "seconds": seconds, "files": facts_of(temporary)}
            write_json({**manifest, "manifest": hash_of(manifest)}, temporary / "manifest.json")
            for path in [*temporary.rglob("*"), temporary]:
                _sync(path)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary, folder)
            _sync(self.root)
            shutil.rmtree(unfinished(temporary), ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return manifest

    def _sound(self, folder, name):
        """The manifest of a folder whose files are as they were written, and no more, else None, naming the damage."""
        if not folder.exists():
            return None
        damaged = "manifest.json"
        try:
            text = (folder / damaged).read_text()
            manifest = json.loads(text)
            sound = text == _json_text(manifest) and manifest.keys() - {"manifest"} == _MANIFEST
            if not sound or manifest.pop("manifest", None) not in (None, hash_of(manifest)):  # old ones promise nothing
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
        with _disk_trouble(self.root), open(self.root / ".locks" / entry, "w") as handle:
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

"""Files: written whole or not at all, hashed, read back; a full or read-only disk is named. Knows no stage."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal_lib.errors import HealError
from heal_lib.places import ROOT as ROOT
from heal_lib.places import default_root as default_root

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

NO_ROOM, NO_RIGHT = (errno.ENOSPC, errno.EDQUOT), (errno.EROFS, errno.EACCES, errno.EPERM)


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
def disk_trouble(path: str | Path) -> Iterator[None]:
    """Turns the system's error for a full or read-only disk into a HealError."""
    try:
        yield
    except Exception as error:
        trouble = disk_error(error, getattr(error, "filename", None) or path)
        if trouble is None:
            raise
        raise trouble from error


def sync(path: str | Path) -> None:
    """Puts a file or folder on the disk for good."""
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
    with disk_trouble(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep_files(path)
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)  # the new name has to last as well
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


def json_text(value: Any) -> str:
    """`value` as indented JSON with sorted keys."""
    return json.dumps(value, indent=1, sort_keys=True, default=_plain) + "\n"


def write_json(value: Any, path: str | Path) -> None:
    """`value` as indented JSON with sorted keys, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json_text(value))


def read_json(path: str | Path) -> Any:
    """The value of a JSON file."""
    return json.loads(Path(path).read_text())


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """A DataFrame as CSV, atomically; six significant digits, so that equal runs give equal files."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def save_dataset(dataset: Dataset, path: str | Path) -> None:
    """A datasets.Dataset as one parquet file, atomically (`to_parquet` would show a bar for each)."""
    import pyarrow.parquet

    with atomic(path) as temporary:
        pyarrow.parquet.write_table(dataset.with_format("arrow")[:], temporary)


def load_dataset(path: str | Path) -> Dataset:
    """The datasets.Dataset of a parquet file, in memory (`from_parquet` would make a second copy on disk)."""
    import pyarrow.parquet
    from datasets import Dataset

    return Dataset(pyarrow.parquet.read_table(path))


def file_hash(path: str | Path) -> str:
    """sha256 of a file, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def facts_of(folder: Path, besides: str | None = None) -> dict[str, dict[str, Any]]:
    """{file: its size in bytes and sha256} of all files below a folder, `besides` one."""
    made = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: {"size": path.stat().st_size, "sha256": file_hash(path)}
            for name, path in made.items() if name != besides}


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


def unfinished(folder: Path) -> Path:
    """Where the function of a stage, which is given `folder`, may keep what a next attempt can go on from.

    It outlives a kill; it is dropped when the stage is made."""
    return folder.with_name(folder.name.replace(".tmp-", ".part-", 1))


_making: list[Path] = []  # folders of the stages that this process is making


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """Around the function of a stage: what it calls may leave something for a next attempt (`left_by_stage`)."""
    _making.append(folder)
    try:
        yield
    finally:
        _making.pop()


def left_by_stage() -> Path | None:
    """`unfinished` of the stage that this process is making; None where it makes none."""
    return unfinished(_making[-1]) if _making else None

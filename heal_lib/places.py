"""Where things lie: the package's own files, and the folder below which a run writes."""

from __future__ import annotations

import os
from pathlib import Path

from heal_lib.errors import HealError

PACKAGE = Path(__file__).resolve().parent


def home() -> Path:
    """The folder of `results/`, `.cache/` and `notebooks/`: the checkout, or the working folder if the package was
    installed without one: site-packages is no place to write to."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else Path.cwd()


ROOT = home()


def default_root() -> Path:
    """The folder of the cache: HEAL_CACHE, or `.cache/heal` below ROOT."""
    return Path(os.environ.get("HEAL_CACHE") or ROOT / ".cache" / "heal").absolute()


def check_folder(path: Path, variable: str) -> None:
    """HealError if `path` is not there and cannot come to be, for it or one above it is a file; `variable` sets it."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists() or p.is_symlink())
    if not there.is_dir():
        raise HealError(f"{there} is not a folder; point {variable} to one")

"""Whether this machine can run it all: one line per check, with the mend where something is missing."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from heal_lib import console, embedded, engines
from heal_lib.errors import HealError
from heal_lib.places import check_folder, default_root

FREE = 5  # GB that a demo run with its cache fits in


def python() -> str:
    """The interpreter's version; HealError where the pins do not fit it."""
    found = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        raise HealError(f"Python {found}; make setup PYTHON=/path/to/python3.11")
    return found


def packages() -> str:
    """That every pinned package is here in its version."""
    pins = [pin.split("==") for pin in requires("heal-lib") or () if "==" in pin and "extra" not in pin]
    wrong = [f"{name} {_version(name) or 'missing'}, not {pin}" for name, pin in pins
             if (_version(name) or "").split("+")[0] != pin]
    if wrong:
        raise HealError(f"{'; '.join(wrong)}; run make setup")
    return f"{len(pins)} as pinned"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def torch() -> str:
    """torch, and the device that DEVICE asks for."""
    import torch

    return f"{torch.__version__} on {engines.device()}"


def gpu() -> str:
    """The GPU, if any; none is needed for smoke, demo and full."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none; only large models need one"


def disk() -> str:
    """Room for the cache."""
    place = default_root()
    check_folder(place, "HEAL_CACHE")
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    if free < FREE or not os.access(place, os.W_OK):
        raise HealError(f"{free:.1f} GB free or no right to write; set HEAL_CACHE to a folder with {FREE} GB")
    return f"{free:.0f} GB free for the cache"


def models() -> str:
    """The shipped models, by their sha256."""
    return ", ".join(f"{name} {embedded.model_hash(name)[:8]}" for name in embedded.SHIPPED)


def fonts() -> str:
    """A font that figures can be drawn with."""
    from matplotlib import font_manager

    return os.path.basename(font_manager.findfont(font_manager.FontProperties()))


def kernel() -> str:
    """A Jupyter kernel python3."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        return KernelSpecManager().get_kernel_spec("python3").display_name
    except NoSuchKernel:
        raise HealError("no kernel python3; run python -m ipykernel install --sys-prefix") from None


CHECKS = (python, packages, torch, gpu, disk, models, fonts, kernel)


def examine() -> list[dict[str, Any]]:
    """One dict per check: `check`, `ok`, and `found`, which names the mend where it is not ok."""
    found = []
    for check in CHECKS:
        try:
            found.append({"check": check.__name__, "ok": True, "found": check()})
        except (HealError, ImportError, OSError) as error:
            found.append({"check": check.__name__, "ok": False, "found": console.words(error)})
    return found

"""What a result was made with: versions, hardware, models, commit; no name of a machine, person or folder."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from heal_lib.errors import HealError
from heal_lib.files import ROOT, file_hash, read_json
from heal_lib.store import versions


def output(command: list[str]) -> str | None:
    """Standard output of a command run in the checkout, stripped; None if it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment() -> dict:
    """Versions of the pinned packages that are installed, and the hardware; memory in GiB."""
    pins = importlib.metadata.requires("heal-lib") or []
    found = versions(tuple(re.split("[=;]", pin)[0] for pin in pins))
    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    gpu = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    return {
        "versions": {name: version for name, version in found.items() if version and name != "python"},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu[1].strip() if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": output(gpu) if shutil.which(gpu[0]) else None,
    }


def git_state() -> dict:
    """The commit, and whether sources differ from it (results and README do not count: a run writes them)."""
    changes = output(["git", "status", "--porcelain", "--", ".", ":!results", ":!README.md"])
    dirty = None if changes is None else changes != ""
    return {"commit": output(["git", "rev-parse", "HEAD"]), "dirty": dirty}


def models_folder() -> Path:
    """The folder of the models in use: HEAL_MODELS, or the shipped ones."""
    return Path(os.environ.get("HEAL_MODELS") or ROOT / "heal_lib" / "embedded")


def models() -> dict:
    """{file: sha256} of the weights in use."""
    folder = models_folder()
    weights = sorted(folder.rglob("*.safetensors"))
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in weights}


def check(folder: Path, besides: Iterable[str] = ()) -> None:
    """Refuses a results folder that mixes runs: every notebook of its run.json (`besides` some) was made with the same
    code, settings, models and versions, and every table, figure and sample is as one of them wrote it. HealError names
    the first file that is not."""
    folder, mend = Path(folder), "run make reproduce for its scale"
    if not (folder / "run.json").is_file():
        raise HealError(f"{folder.name}/run.json: missing; {mend}")
    made = {name: facts for name, facts in read_json(folder / "run.json")["notebooks"].items() if name not in besides}
    first = next(iter(made), None)
    for name, facts in made.items():
        if facts.get("basis") != made[first].get("basis"):
            raise HealError(f"{folder.name}/notebooks/{name}.ipynb: made with other code, settings, models or versions "
                            f"than {first}; {mend}")
    kinds = ("tables", "figures", "per_sample")
    known = {file: sha256 for facts in made.values() for file, sha256 in facts.get("outputs", {}).items()
             if file.startswith(kinds)}
    found = {path.relative_to(folder).as_posix(): path for kind in kinds for path in (folder / kind).rglob("*.*")}
    for file in sorted(known.keys() | found.keys()):
        if file not in found:
            raise HealError(f"{folder.name}/{file}: missing; {mend}")
        if known.get(file) != file_hash(found[file]):
            raise HealError(f"{folder.name}/{file}: not what a notebook of this run wrote; {mend}")

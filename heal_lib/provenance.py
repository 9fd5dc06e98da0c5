"""What a result was made with: versions, hardware, models, commit; no name of a machine, person or folder."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from heal_lib.store import ROOT, file_hash, versions


def output(command):
    """Standard output of a command run in the checkout, stripped; None if it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment():
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


def git_state():
    """The commit, and whether sources differ from it (results and README do not count: a run writes them)."""
    changes = output(["git", "status", "--porcelain", "--", ".", ":!results", ":!README.md"])
    dirty = None if changes is None else changes != ""
    return {"commit": output(["git", "rev-parse", "HEAD"]), "dirty": dirty}


def models_folder():
    """The folder of the models in use: HEAL_MODELS, or the shipped ones."""
    return Path(os.environ.get("HEAL_MODELS") or ROOT / "heal_lib" / "embedded")


def models():
    """{file: sha256} of the weights in use."""
    folder = models_folder()
    weights = sorted(folder.rglob("*.safetensors"))
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in weights}

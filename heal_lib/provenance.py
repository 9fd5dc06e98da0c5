"""What a result was made with: versions, hardware, models, commit; no name of a machine, person or folder."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal_lib import embedded, worlds
from heal_lib.errors import HealError
from heal_lib.files import file_hash, read_json
from heal_lib.places import PACKAGE, ROOT
from heal_lib.stage import versions

if TYPE_CHECKING:
    from heal_lib.scales import Scale

CODE = ("heal_lib", "notebooks")  # what results are made by, below ROOT


def output(command: list[str]) -> str | None:
    """Standard output of a command run in the checkout, stripped; None if it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cores() -> int:
    """How many cores this process may use; all there are where the system does not say (Linux alone does)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Versions of the pinned packages that are installed, and the hardware; memory in GiB."""
    pins = importlib.metadata.requires("heal-lib") or []
    found = versions(tuple(re.split("[=;]", pin)[0] for pin in pins))
    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    gpu = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    return {
        "versions": {name: version for name, version in found.items() if version and name != "python"},
        "python": platform.python_version(),
        "platform": " ".join([platform.system(), platform.machine(), *platform.libc_ver()]).strip(),  # no kernel's name
        "cpu": cpu[1].strip() if cpu else platform.processor(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": output(gpu) if shutil.which(gpu[0]) else None,
    }


def commit() -> str | None:
    """The commit that is checked out; None outside of a checkout, be it inside some other one, which does not know
    these files."""
    known = output(["git", "ls-files", "--error-unmatch", f"{CODE[0]}/__init__.py"])
    return None if known is None else output(["git", "rev-parse", "HEAD"])


def git_state() -> dict[str, Any]:
    """{"commit", "dirty"}: the commit, and whether what results are made by differs from it."""
    head = commit()
    changes = output(["git", "status", "--porcelain", "--", *CODE]) if head else None
    return {"commit": head, "dirty": None if changes is None else changes != ""}


def stamp() -> dict[str, tuple[int, int]]:
    """{file: (time of its last change in ns, size in bytes)} of what results are made by: whether it stays the same."""
    files = [path for part in CODE for kind in ("*.py", "*.ipynb") for path in (ROOT / part).rglob(kind)
             if ".ipynb_checkpoints" not in path.parts]
    return {path.relative_to(ROOT).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def models_folder() -> Path:
    """The folder of the models in use: HEAL_MODELS, or the shipped ones."""
    return Path(os.environ.get("HEAL_MODELS") or PACKAGE / "embedded")


def models(*others: str) -> dict[str, str]:
    """{file: sha256} of the shipped weights in use and of what makes models with them, and {name: hash of all files}
    of `others` that are not shipped."""
    found, root = {}, models_folder()
    for weights in sorted(root.rglob("*.safetensors")):
        for file, sha256 in {weights.name: file_hash(weights), **embedded.besides(weights.parent)}.items():
            found[(weights.parent / file).relative_to(root).as_posix()] = sha256
    return found | {name: embedded.model_hash(name) for name in others if name not in embedded.SHIPPED}


def data(cfg: Scale) -> list[Any]:
    """Hashes of what the results of a scale rest on beside code and models: its worlds, also those of other packages,
    the files that their problems come from, and this package's own pages and data."""
    from heal_lib import teacher

    levels = [*teacher.groups(cfg), *teacher.groups(cfg, "development"), *teacher.benchmarks(cfg)]
    given = {str(path): path for name, level in levels for path in worlds.get(name).data_files(level)}
    own = {path.name: path for kind in ("html", "jsonl", "yaml") for path in PACKAGE.rglob(f"*.{kind}")}
    hashes = [file_hash(path) for _, path in sorted({**own, **given}.items()) if path.is_file()]
    return [*(teacher.where(name).by for name in cfg.worlds), *hashes]


def record(folder: Path) -> dict[str, Any]:
    """What a results folder's run.json says of its run; {} where there is none."""
    file = folder / "run.json"
    return read_json(file) if file.is_file() else {}


def notebooks_of(folder: Path) -> dict[str, dict[str, Any]]:
    """{notebook: its facts} of a results folder's run.json; HealError if there is none, or none that can be read."""
    file, mend = f"{folder.name}/run.json", "run make reproduce for its scale"
    try:
        found = read_json(folder / "run.json")["notebooks"]
        if not found or not all(isinstance(facts, dict) for facts in found.values()):
            raise ValueError
        return found
    except FileNotFoundError:
        raise HealError(f"{file}: missing; {mend}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise HealError(f"{file}: not the record of a run; {mend}") from None


def work_found(made: Mapping[str, dict[str, Any]]) -> float:
    """Seconds that the stages took which these notebooks of a run.json found in the cache and none of them made.

    A stage is its key, whose `keys` {key: ["made" or "reused", seconds]} a record holds by name, for several may have
    one name; a record from before it held them knows names alone."""
    stages = [(name, stage) for facts in made.values() for name, stage in facts["stages"].items()]
    used = [(key, *each) for name, stage in stages for key, each in stage.get(
        "keys", {name: ["made" if stage["made"] else "reused", stage["seconds_to_make"]]}).items()]
    cost = {key: seconds for key, _, seconds in used}
    return sum(cost[key] for key in cost.keys() - {key for key, what, _ in used if what == "made"})


def kept(made: Mapping[str, dict[str, Any]]) -> int:
    """How many evaluations these notebooks of a run.json took from an earlier sitting (`heal_lib.kept`)."""
    return len({key for facts in made.values() for stage in facts["stages"].values()
                for key, (what, _) in stage.get("keys", {}).items() if what == "kept"})


def check_committed(folder: Path) -> None:
    """Refuses a results folder that is not of one committed state of the code: all its notebooks ran at one commit,
    with one `code`, and none while heal_lib/ or notebooks/ differed from it. HealError names the first that is not."""
    mend = "commit heal_lib/ and notebooks/, run make reproduce ARGS=--force for its scale"
    folder = Path(folder)
    made = notebooks_of(folder)
    first = next(iter(made))
    for name, facts in made.items():
        if facts.get("dirty") is not False or not facts.get("commit"):
            raise HealError(f"{folder.name}/notebooks/{name}.ipynb: not made from a clean commit; {mend}")
        for what in ("commit", "code"):
            if facts.get(what) != made[first].get(what):
                raise HealError(f"{folder.name}/notebooks/{name}.ipynb: made at another {what} than {first}; {mend}")
    check(folder)


def check(folder: Path, besides: Iterable[str] = ()) -> None:
    """Refuses a results folder that mixes runs: every notebook of its run.json (`besides` some) was made with the same
    code, settings, models and versions, and every table, figure and sample is as one of them wrote it. HealError names
    the first file that is not."""
    folder, mend = Path(folder), "run make reproduce for its scale"
    made = {name: facts for name, facts in notebooks_of(folder).items() if name not in besides}
    first = next(iter(made), "")
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
            how = mend if file in known else "delete it, for none writes it any more"
            raise HealError(f"{folder.name}/{file}: not what a notebook of this run wrote; {how}")

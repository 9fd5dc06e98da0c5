"""Runs `smoke` from nothing twice, in two ways, and compares every table, all weights and data sets between the two and
with the committed hashes in results/reliability/smoke.json.

    python tests/verify.py            compares        python tests/verify.py --write   commits to what came out

On the same kind of processor with the same versions all must be the same, times apart. Elsewhere sums are rounded
otherwise and samples part ways, so there each method's accuracy must lie in an interval that meets the committed one.
"""

import argparse
import collections
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import reliability

from heal_lib import provenance, stage
from heal_lib.files import hash_of, read_json, write_json

COMMITTED = reliability.FIGURES / "smoke.json"
# (workers, threads, notebooks that run before the others). One worker is the kernel itself; others have a thread each.
WAYS = ((1, 2, []), (2, 1, ["05"]))


def ran(folder, workers, threads, first):
    """What a run from nothing leaves: it has a core for each worker."""
    environment = {**os.environ, "HEAL_CACHE": f"{folder}/cache", "HEAL_RESULTS": f"{folder}/results",
                   "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    for only in (["--only", *first], []) if first else ([],):
        cores = set(sorted(os.sched_getaffinity(0))[:workers])
        subprocess.run([sys.executable, "-m", "heal_lib.reproduce", "--scale", "smoke", *only], env=environment,
                       check=True, preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores))
    return found(folder)


def found(folder):
    """What is committed to: {versions, tables, stages: {name: a hash}, intervals}, without times."""
    frames = {path.name: pd.read_csv(path) for path in sorted((folder / "results" / "tables").glob("*.csv"))}
    kept = {name: frame[[column for column in frame if "seconds" not in str(column)]] for name, frame in frames.items()}
    stages = collections.defaultdict(list)
    for path in (folder / "cache").glob("*/manifest.json"):
        manifest = read_json(path)
        stages[manifest["name"]].append({file: facts["sha256"] for file, facts in manifest["files"].items()})
    intervals = {" ".join(row[:3]): [row[3], row[4]] for row in frames["main_results.csv"][
        ["method", "benchmark", "metric", "ci_low", "ci_high"]].itertuples(index=False)}
    return {"versions": stage.versions(), "intervals": intervals,
            "tables": {name: hash_of(frame.to_csv(index=False))[:16] for name, frame in kept.items()},
            "stages": {name: hash_of(sorted(map(hash_of, each)))[:16] for name, each in sorted(stages.items())}}


def platform():
    """The kind of processor, and the instructions of it that torch uses."""
    import torch

    return f"{provenance.environment()['cpu']}, {torch.backends.cpu.get_cpu_capability()}"


def differ(one, other):
    """Names of the tables and stages that are not the same."""
    return sorted(name for what in ("tables", "stages") for name in one[what].keys() | other[what].keys()
                  if one[what].get(name) != other[what].get(name))


def apart(one, other):
    """Names of the accuracies whose intervals do not meet, or that are missing."""
    a, b = one["intervals"], other["intervals"]
    return sorted(name for name in a.keys() | b.keys()
                  if name not in a or name not in b or a[name][0] > b[name][1] or b[name][0] > a[name][1])


def differences(here, where, committed):
    """Names of what differs from what was committed to on this platform; elsewhere, of the accuracies out of reach."""
    known = committed.get(where)
    if known and known["versions"] == here["versions"]:
        return differ(here, known)
    return sorted({name for other in committed.values() for name in apart(here, other)})


def main():
    """Exit code 0: the same twice, and as committed; 1: not."""
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    it.add_argument("--write", action="store_true", help="commit to what came out")
    write = it.parse_args().write
    with tempfile.TemporaryDirectory() as scratch:
        here, again = (ran(Path(scratch) / "-".join(map(str, way[:2])), *way) for way in WAYS)
    where, committed = platform(), read_json(COMMITTED)["platforms"] if COMMITTED.is_file() else {}
    wrong = [f"{name} (between the two runs)" for name in differ(here, again)]
    if write and not wrong:
        committed[where] = here
        write_json({**reliability.dated(), "tables": len(here["tables"]), "stages": len(here["stages"]),
                    "platforms": committed, "processors": len(committed)}, COMMITTED)
    wrong += differences(here, where, committed)
    print("verified: the same twice, and as committed" if not wrong else f"differ: {', '.join(wrong)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""Runs `smoke` from nothing and compares its tables with the committed hashes in results/reliability/smoke.json.

    python tests/verify.py            compares        python tests/verify.py --write   commits to what came out

On the same processor with the same versions every table must be the same, times apart. Elsewhere sums are rounded
otherwise and samples part ways, so there each method's accuracy must lie in an interval that meets the committed one.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from heal_lib import provenance
from heal_lib.files import ROOT, read_json, write_json

COMMITTED = ROOT / "results" / "reliability" / "smoke.json"


def found(folder):
    """What is committed to: {environment, tables: {name: sha256, columns of seconds left out}, intervals}."""
    frames = {path.name: pd.read_csv(path) for path in sorted((folder / "tables").glob("*.csv"))}
    kept = {name: frame[[column for column in frame if "seconds" not in str(column)]] for name, frame in frames.items()}
    tables = {name: hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest() for name, frame in kept.items()}
    main = frames["main_results.csv"]
    where = provenance.environment()
    intervals = {" ".join(row[:3]): [row[3], row[4]] for row in main[
        ["method", "benchmark", "metric", "ci_low", "ci_high"]].itertuples(index=False)}
    return {"environment": {name: where[name] for name in ("versions", "python", "cpu")}, "tables": tables,
            "intervals": intervals}


def differences(here, committed):
    """Names of the tables that differ from the committed ones, or elsewhere of the accuracies out of reach."""
    if here["environment"] == committed["environment"]:
        a, b = here["tables"], committed["tables"]
        return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    a, b = here["intervals"], committed["intervals"]
    return sorted(name for name in a.keys() | b.keys()
                  if name not in a or name not in b or a[name][0] > b[name][1] or b[name][0] > a[name][1])


def main():
    """Exit code 0: as committed; 1: not."""
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    it.add_argument("--write", action="store_true", help="commit to what came out")
    write = it.parse_args().write
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "HEAL_CACHE": scratch, "HEAL_RESULTS": f"{scratch}/results"}
        subprocess.run([sys.executable, "-m", "heal_lib.reproduce", "--scale", "smoke"], env=environment, check=True)
        here = found(Path(scratch) / "results")
    if write:
        write_json(here, COMMITTED)
        return 0
    wrong = differences(here, read_json(COMMITTED))
    print("verified: as committed" if not wrong else f"differ: {', '.join(wrong)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

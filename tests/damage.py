"""What happens to a run's folders from outside: a file is damaged, a second run comes along, the disk is full. A damage
must be named, and what it hit made again as it was, or the run refused in one line; nothing damaged may be used.

    python tests/damage.py --damages 240 --out results/reliability/damage.json

The driver runs in a process forked from this one, on one notebook in whose place torture.py's tiny run computes. A bit
is flipped, a file cut short or taken away: files of every kind in cache, results and models, in an order by seed.
"""

import argparse
import collections
import itertools
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import reliability
import torture

from heal_lib import embedded, notebooks, provenance, reproduce, run
from heal_lib.codehash import code_hash
from heal_lib.errors import HealError
from heal_lib.files import read_json, write_json

NOTEBOOK = "02_gear"
UNREAD = "without effect"  # of a model's card no result reads anything but the hashes
GOOD = ("made again", "refused", UNREAD)
HARMS = {"flipped": lambda data, at, bit: data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :],
         "cut": lambda data, at, bit: data[:at], "gone": None}


def start(place, *options, cache="cache", results="results"):
    """The driver on these folders of `place`, in a forked process."""
    process = multiprocessing.get_context("fork").Process(target=drive, args=(place, cache, results, options))
    process.start()
    return process


def drive(place, cache, results, options):
    """In the forked process; what it says goes to a file that is named after its number."""
    os.environ.update(HEAL_CACHE=str(place / cache), HEAL_RESULTS=str(place / results), HEAL_IN_WORKER="1",
                      HEAL_MODELS=str(place / "models"), HEAL_POOL="none")
    said = os.open(place / f"{os.getpid()}.said", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1), os.dup2(said, 2)
    notebooks.execute = execute
    sys.exit(reproduce.main(["--scale", "smoke", "--only", NOTEBOOK, *options]))


def execute(path, folder, parameters, environment):
    """In place of a kernel: the tiny run in this process, and the files that a notebook leaves."""
    os.environ.update(environment)
    torture.work(folder)
    for file in (folder / "notebooks" / path.name, folder / "html" / f"{path.stem}.html"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(path.read_bytes())


def ended(process, place):
    """(exit code, what it said) of a driver."""
    process.join()
    return process.exitcode, (place / f"{process.pid}.said").read_text()


def outcome(results):
    """What a run left: its files, and its record but for the times; None if the record is none."""
    try:
        provenance.check(results)
        record = read_json(results / "run.json")
        facts = {name: one["outputs"] for name, one in record.pop("notebooks").items()}
        return torture.fingerprint(results), record, facts
    except (HealError, OSError, ValueError, LookupError):
        return None


def survived(place, file, reference):
    """What became of a damaged file: one of GOOD, or how it failed.

    The driver is told to take no notebook for up to date where the damage is not in its results, or nothing else would
    be read."""
    forced = ["--force"] if file.parts[0] != "results" and file.parts[1] != "runs" else []
    code, said = ended(start(place, *forced), place)
    lines = [line for line in said.splitlines() if line.startswith("heal:")]
    named = file.name in said if forced else f"{NOTEBOOK}: running" in said
    if code == 2 and len(lines) == 1 and file.name in lines[0]:
        return "refused"
    if code:
        return f"ended with {code}: {said[-400:]}"
    if outcome(place / "results") != reference:
        return "used: results differ" + " (named)" * named
    return "made again" if named else UNREAD if file.name == "card.json" else "not noticed"


def kind(file):
    """A damaged file's kind, for the figures."""
    whole = file.parts[0] == "results" or file.parts[1] == "runs"
    return f"{file.parts[0]}: {file.parts[1] if whole else file.name}"


def whole_run(place):
    """(files of a finished run of the driver that may be damaged, what it left)."""
    place.mkdir()
    code_hash(*run.modules())  # once, and not in every process forked from this one
    shutil.copytree(embedded.WEIGHTS, place / "models", ignore=shutil.ignore_patterns("registers*", "pretraining.json"))
    code, said = ended(start(place), place)
    if code:
        raise SystemExit(f"a run without any damage ended with {code}: {said}")
    provenance.check(place / "results")
    files = [path.relative_to(place) for path in sorted(place.rglob("*")) if path.is_file()]
    return ([file for file in files if len(file.parts) > 1 and not {".lock", ".locks"} & set(file.parts)],
            outcome(place / "results"))


def damaged(n, of, seed, scratch, out=None):
    """Figures of so many damages in these folders, one at a time; each kind of file is hit as often as another."""
    files, reference = whole_run(scratch / "whole")
    rng, by_kind = random.Random(seed), collections.defaultdict(list)
    for file in files:
        if file.parts[0] in of:
            by_kind[kind(file)].append(file)
    found, failures = {what: collections.Counter() for what in by_kind}, []
    for i, (harm, what) in enumerate(itertools.islice(itertools.cycle(itertools.product(HARMS, by_kind)), n)):
        file, place = rng.choice(by_kind[what]), scratch / "damaged"
        shutil.copytree(scratch / "whole", place)
        data = (place / file).read_bytes()
        at, bit = rng.randrange(len(data)), rng.randrange(8)
        if HARMS[harm]:
            (place / file).write_bytes(HARMS[harm](data, at, bit))
        else:
            (place / file).unlink()
        result = survived(place, file, reference)
        shutil.rmtree(place)
        found[what][result if result in GOOD else "failed"] += 1
        if result not in GOOD:
            failures.append(f"{file} {harm} at {at} (bit {bit}): {result}")
            print(failures[-1], flush=True)
        total = sum(found.values(), collections.Counter())
        figures = {**reliability.dated(), "damages": i + 1, "seed": seed, "made_again": total["made again"],
                   "refused": total["refused"], "without_effect": total[UNREAD], "failed": len(failures),
                   "by_kind": found, "failures": failures}
        if out:
            write_json(figures, out)
    return figures


def together(scratch):
    """Two runs from nothing at once, with one cache or two and one results folder or two:
    {which: whether both ended as they must, having left what a lone run leaves, and made nothing twice}."""
    found, (_, reference) = {}, whole_run(scratch / "alone")
    for caches, results in itertools.product(((1, 1), (1, 2)), repeat=2):
        place = scratch / f"{caches} {results}"
        place.mkdir()
        shutil.copytree(scratch / "alone" / "models", place / "models")
        both = [start(place, cache=f"cache-{i}", results=f"results-{j}") for i, j in zip(caches, results, strict=True)]
        ends = sorted(ended(process, place) for process in both)
        made = [line for _, said in ends for line in said.splitlines() if line.startswith("made ")]
        refused = [code for code, said in ends if code == 2 and "another run writes there" in said]
        names = collections.Counter(line.partition(" [")[0] for line in made)
        lone = len(set(results)) == 1  # one of the two is refused, and the other is alone
        words = ["another" if a != b else "the same" for a, b in (caches, results)]
        found[f"{words[0]} cache, {words[1]} results"] = (
            [code for code, _ in ends] == ([0, 2] if lone else [0, 0]) and len(refused) == lone
            and all(outcome(place / f"results-{j}")[0] == reference[0] for j in set(results))
            and set(names.values()) == {1 if lone or caches == (1, 1) else 2})
    return found


def disks(scratch):
    """A run whose cache or results lie on a disk that is full, or read-only: {which: whether it ended in one line that
    says so, and left nothing half written}. Needs the right to mount one, as `unshare -rm` gives it."""
    found = {}
    for which, (how, words) in itertools.product(("cache", "results"), (
            ("size=40k", "no room left on the disk"), ("size=40k,ro", "cannot be written"))):
        place = scratch / f"{which} {how}"
        (place / which).mkdir(parents=True)
        shutil.copytree(embedded.WEIGHTS, place / "models")
        subprocess.run(["mount", "-t", "tmpfs", "-o", how, "none", str(place / which)], check=True)
        try:
            code, said = ended(start(place), place)
            (line,) = [line for line in said.splitlines() if line.startswith("heal:")]
            left = [path for path in place.rglob(".*") if re.match(r"\.(tmp-|\d+\.)", path.name)]
            found[f"{words}: {which}"] = code == 2 and words in line and not left
        finally:
            subprocess.run(["umount", str(place / which)], check=True)
    return found


if __name__ == "__main__":
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    it.add_argument("--damages", type=int, default=240)
    it.add_argument("--of", nargs="+", default=["cache", "results", "models"], help="folders whose files are damaged")
    it.add_argument("--seed", type=int, default=0)
    it.add_argument("--pairs", action="store_true", help="two runs at once as well")
    it.add_argument("--disks", action="store_true", help="disks that are full or read-only as well")
    it.add_argument("--out", type=Path, default=Path("results/reliability/damage.json"))
    args = it.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = damaged(args.damages, args.of, args.seed, Path(scratch), args.out)
        for name, test in (("pairs", together), ("disks", disks)):
            if getattr(args, name):
                ends = test(Path(scratch))
                found |= {f"{name}_ends": ends, name: len(ends), f"{name}_sound": sum(ends.values())}
                write_json(found, args.out)
    raise SystemExit(bool(found["failed"]) or not all(
        all(found.get(f"{name}_ends", {}).values()) for name in ("pairs", "disks")))

"""The driver: runs the notebooks in order and fills results/<scale>/.

    python -m heal_lib.reproduce --scale demo --only 02_gear -p window 0.5

A parameter goes to the notebooks that declare it, and what it changes is written to a folder of its own
(`cfg.results_dir`). What is up to date is skipped; after a kill the same command goes on.
Exit codes: 0 done, 1 a cell failed, 2 bad input or no room on the disk, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import fcntl
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from heal_lib import notebooks, provenance
from heal_lib.codehash import code_hash
from heal_lib.errors import HealError
from heal_lib.files import ROOT, default_root, disk_error, file_hash, hash_of, read_json, write_json
from heal_lib.store import Store

GATHERS = "99_"  # the notebook that reads what the others wrote
THIS = ("reproduce.py", "notebooks.py", "provenance.py")  # no result depends on the driver's own code


def clock(seconds: float) -> str:
    """Seconds as 1:02 or 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def train_models():
    """Trains teacher and student, once per version of their recipe's code; returns the models' folder."""
    recipe = [ROOT / "heal_lib" / part for part in ("embedded", "worlds")]

    def make(folder):
        training = [sys.executable, "-m", "heal_lib.embedded.pretrain", "all", "--out", str(folder)]
        if subprocess.run(training).returncode:
            raise HealError("models: heal_lib.embedded.pretrain failed; mend what it says above, run again")

    return Store().stage("models", {}, make, code=sources(*recipe))


def sources(*folders, leave_out=()):
    """The Python files under some folders, sorted."""
    found = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted(path for path in found if path.name not in leave_out)


def _json(path, sound):
    """A JSON file that may be missing or damaged: then {}, for all that depends on it can be made again."""
    try:
        value = read_json(path)
        return value if sound(value) else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _is_notes(notes):
    return all(set(note["fingerprint"] + "") and dict(note["outputs"]) for note in notes.values())


def _is_record(record):
    return all(facts["seconds"] + 0 >= 0 and dict(facts["outputs"]) for facts in record["notebooks"].values())


class Run:
    """One pass over notebooks at one scale.

    run.json is for readers; what is up to date is noted in the cache, so that a fresh clone, which has
    results but no cache, computes them.
    """

    def __init__(self, scale, paths, pairs):
        self.paths = paths
        self.known = {path.stem: notebooks.declared(path) for path in paths}
        parameters = notebooks.parse_parameters(pairs, self.known)
        cfg = importlib.import_module("heal_lib.scales").get(scale, **parameters)
        self.given, self.folder = {"scale": scale, **parameters}, ROOT / cfg.results_dir
        self.notes_path = default_root() / "runs" / f"{self.folder.name}.json"
        self.notes, last = _json(self.notes_path, _is_notes), _json(self.folder / "run.json", _is_record)
        fields = dataclasses.asdict(cfg).items()
        self.record = {
            "scale": scale,
            "parameters": parameters,
            "config": {name: value for name, value in fields if not isinstance(value, Path)},
            "seeds": getattr(cfg, "seeds", None),
            "models": provenance.models(),
            "environment": provenance.environment(),
            "git": provenance.git_state(),
        }
        # Another machine's times serve to guess what is left, but are no part of this one's record.
        self.last, self.spent, self.guessed = last.get("notebooks", {}), 0.0, 0.0
        here = last.get("environment") == self.record["environment"]
        self.record["notebooks"] = dict(self.last) if here else {}
        library = code_hash(*sources(ROOT / "heal_lib", leave_out=THIS))
        used = self.record["environment"]["versions"]
        self.basis = hash_of([self.record["config"], self.record["models"], used, library])[:16]

    def parameters(self, name):
        """What one notebook is given: the scale and the overrides, as far as it declares them."""
        return {key: value for key, value in self.given.items() if key in self.known[name]}

    def fingerprint(self, path):
        """Hash of all that determines a notebook's outputs."""
        cells = [[cell["cell_type"], cell["source"]] for cell in json.loads(path.read_text())["cells"]]
        others = {name: note["outputs"] for name, note in self.notes.items() if not name.startswith(GATHERS)}
        reads = others if path.name.startswith(GATHERS) else None
        return hash_of([cells, self.parameters(path.stem), reads, self.basis])

    def up_to_date(self, path):
        """Whether a notebook's last outputs are all there, unaltered, and would come out the same."""
        note = self.notes.get(path.stem)
        if not note or note["fingerprint"] != self.fingerprint(path):
            return False
        files = [(self.folder / file, sha256) for file, sha256 in note["outputs"].items()]
        return all(file.is_file() and file_hash(file) == sha256 for file, sha256 in files)

    def time_left(self, paths):
        """A guess in words, from the last run's times and this machine's pace so far."""
        known = {path.stem: self.last[path.stem]["seconds"] for path in paths if path.stem in self.last}
        if not known:
            return "time left unknown"
        pace, mean = self.spent / self.guessed if self.guessed else 1, sum(known.values()) / len(known)
        return f"about {clock(pace * sum(known.get(path.stem, mean) for path in paths))} left"

    def _written(self):
        """{file: time of its last write} of the tables, figures, samples and pages."""
        files = [path for kind in ("tables", "figures", "per_sample") for path in (self.folder / kind).rglob("*.*")]
        files += self.folder.glob("*.html")
        return {path: path.stat().st_mtime_ns for path in files if not path.name.startswith(".")}

    def one(self, path):
        """Runs a notebook, notes its outputs and its stages; returns the seconds it took."""
        name, start = path.stem, time.perf_counter()
        fingerprint, before = self.fingerprint(path), self._written()
        with tempfile.NamedTemporaryFile() as log:
            # The kernel's store logs what it made and reused; all notebooks of a run write to the same folder,
            # also those that do not declare an overridden parameter.
            kernel = {"HEAL_EVENTS": log.name, "HEAL_RESULTS": str(self.folder)}
            notebooks.execute(path, self.folder, self.parameters(name), kernel)
            events = [json.loads(line) for line in log]
        seconds = round(time.perf_counter() - start, 1)
        stages = {}
        for what, stage, _, cost in events:
            facts = stages.setdefault(stage, {"made": 0, "reused": 0, "seconds_to_make": 0.0})
            facts[what] += 1
            facts["seconds_to_make"] = round(facts["seconds_to_make"] + cost, 3)
        written = [file for file, when in self._written().items() if before.get(file) != when]
        written += [self.folder / "notebooks" / path.name, self.folder / "html" / f"{name}.html"]
        outputs = {file.relative_to(self.folder).as_posix(): file_hash(file) for file in sorted(written)}
        finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        facts = {"seconds": seconds, "finished": finished, "stages": stages}
        self.record["notebooks"][name] = {**facts, "parameters": self.parameters(name), "basis": self.basis,
                                          "outputs": outputs}
        self.notes[name] = {"fingerprint": fingerprint, "outputs": outputs}
        write_json(self.record, self.folder / "run.json")
        write_json(self.notes, self.notes_path)
        return seconds

    def all(self, force=False):
        """Runs what is not up to date, in order, telling the time left before each."""
        start = time.perf_counter()
        for index, path in enumerate(self.paths):
            head = f"[{index + 1}/{len(self.paths)}] {path.stem}"
            if not force and self.up_to_date(path):
                print(f"{head}: up to date", flush=True)
                continue
            later = self.paths[index + 1 :]
            rest = [path] + [other for other in later if force or not self.up_to_date(other)]
            elapsed = clock(time.perf_counter() - start)
            print(f"{head}: running; {elapsed} elapsed, {self.time_left(rest)}", flush=True)
            seconds = self.one(path)
            print(f"{head}: done in {clock(seconds)}", flush=True)
            if path.stem in self.last:
                self.spent += seconds
                self.guessed += self.last[path.stem]["seconds"]
        print(f"results are in {os.path.relpath(self.folder)}", flush=True)


@contextlib.contextmanager
def alone(run):
    """Keeps a second driver out of the same results folder."""
    run.notes_path.parent.mkdir(parents=True, exist_ok=True)
    with open(run.notes_path.with_suffix(".lock"), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HealError(f"{run.folder.name}: another run writes there; wait for it or stop it") from None
        yield


def parser() -> argparse.ArgumentParser:
    """The command line."""
    it = argparse.ArgumentParser(prog="python -m heal_lib.reproduce", description=__doc__.splitlines()[0])
    it.add_argument("--scale", default="demo", help="smoke, demo (default), full or llm")
    it.add_argument("--only", nargs="+", metavar="NOTEBOOK", help="notebooks to run, e.g. 02_gear or 02")
    it.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="pairs",
                    help="override a parameter in the notebooks that declare it")
    flags = {
        "--force": "run notebooks that are up to date as well",
        "--from-scratch": "train teacher and student first, and use them",
        "--check-readme": "only check that results/demo is of one run, and that README shows it",
        "--list": "only list the notebooks and their parameters",
    }
    for flag, meaning in flags.items():
        it.add_argument(flag, action="store_true", help=meaning)
    return it


def command(args: argparse.Namespace) -> int:
    """Does what the parsed command line asks for; returns the exit code."""
    if args.check_readme:
        provenance.check(ROOT / "results" / "demo")
        current = importlib.import_module("heal_lib.report").readme_is_current()
        if not current:
            print("heal: README.md does not show the committed results; run 99_report", file=sys.stderr)
        return 0 if current else 1
    paths = notebooks.select(args.only, args.scale)
    if args.list:
        for path in paths:
            print(path.stem, *(f"{name}={default}" for name, default in notebooks.declared(path).items()))
        return 0
    if os.environ.get("DEVICE"):
        importlib.import_module("heal_lib.engines").device()  # a GPU that is not there is named before anything runs
    notebooks.prepare_kernels(offline=args.scale != "llm")
    if args.from_scratch:
        Run(args.scale, paths, args.pairs)  # bad input is found before an hour of training, not after
        os.environ["HEAL_MODELS"] = str(train_models())
    run = Run(args.scale, paths, args.pairs)
    with alone(run):
        run.all(args.force)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs the driver; returns its exit code."""
    args = parser().parse_args(argv)
    try:
        return command(args)
    except notebooks.NotebookFailed as error:
        return _say(error, 1)
    except HealError as error:
        return _say(error, 2)
    except OSError as error:
        trouble = disk_error(error, error.filename or "results")
        if trouble is None:
            raise
        return _say(trouble, 2)
    except KeyboardInterrupt:
        return _say("interrupted; the same command goes on from here", 130)


def _say(error, code):
    print(f"heal: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is an interrupt: the same word, no traces
    sys.exit(main())

"""One run of notebooks into one results folder: what is up to date, what is made again, and its record, run.json."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import importlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from heal_lib import distributed, embedded, notebooks, provenance, scales, workers
from heal_lib.codehash import code_hash
from heal_lib.engines import choose
from heal_lib.errors import HealError
from heal_lib.files import disk_error, file_hash, hash_of, read_json, write_json
from heal_lib.places import PACKAGE, check_folder, default_root
from heal_lib.progress import clock

if TYPE_CHECKING:
    from pathlib import Path

GATHERS = "99_"  # the notebook that reads what the others wrote
MACHINE = ("environment", "computed")  # the parts of a record that say where it was made


def modules() -> list[str]:
    """The names of all modules of the library."""
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in PACKAGE.rglob("*.py")]
    return sorted(".".join(each[:-1] if each[-1] == "__init__" else each) for each in parts)


def _json(path, sound):
    """A JSON file that may be missing or damaged: then {}, for all that depends on it can be made again."""
    try:
        value = read_json(path)
        return value if sound(value) else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _is_notes(notes):
    return notes["record"] + "" and all(
        set(note["fingerprint"] + "") and dict(note["outputs"]) for note in notes["notebooks"].values())


def _is_record(record):
    made = record["notebooks"]
    return all(facts["seconds"] + 0 >= 0 and dict(facts["outputs"]) for facts in made.values()) and (
        provenance.work_found(made) >= 0) and all(isinstance(record.get(part, {}), dict) for part in MACHINE)


def _from_nothing(record, scale, fields):
    """Seconds and commit of the last run of all notebooks that found nothing in the cache, so that what is drawn anew
    from it later does not hide what it cost; None where none is known, or the scale's `fields` were others. 99 is left
    out, as in `report.took`."""
    if any(json.dumps(fields.get(name)) != json.dumps(value) for name, value in record.get("config", {}).items()):
        return None
    made = {name: facts for name, facts in record.get("notebooks", {}).items() if not name.startswith(GATHERS)}
    whole = {path.stem for path in notebooks.select(None, scale) if not path.name.startswith(GATHERS)} == made.keys()
    strange = any("elsewhere" in facts for facts in made.values())
    if not made or not whole or strange or provenance.work_found(made) or provenance.kept(made):
        return record.get("from_nothing")
    return {"seconds": sum(facts["seconds"] for facts in made.values()),
            "commit": next(iter(made.values())).get("commit")}


def _folder(cfg, given, known):
    """The results folder of a scale; what is given of parameters that are no fields of a scale names it as well."""
    usual = {name: notebooks.parse_value(text) for parameters in known.values() for name, text in parameters.items()}
    own = {name: value for name, value in given.items() if name not in scales.kinds() and value != usual[name]}
    if not own or os.environ.get("HEAL_RESULTS"):
        return cfg.results_dir
    suffix = "".join(f"+{name}={value}" for name, value in sorted(own.items()))
    plain = re.fullmatch(r"[\w+=.,-]{1,80}", suffix)
    return cfg.results_dir.with_name(cfg.results_dir.name + (suffix if plain else f"+{hash_of(own)[:12]}"))


class Run:
    """One pass over notebooks at one scale.

    run.json is for readers; what is up to date is noted in the cache, so that a fresh clone, which has
    results but no cache, computes them.
    """

    paths: Sequence[Path]
    cfg: scales.Scale
    stamp: dict[str, tuple[int, int]]
    known: dict[str, dict[str, str]]
    given: dict[str, Any]
    folder: Path
    notes_path: Path
    notes: dict[str, Any]
    record: dict[str, Any]
    last: dict[str, Any]
    spent: float
    guessed: float
    code: str
    basis: str

    def __init__(self, scale: str, paths: Sequence[Path], pairs: Iterable[tuple[str, str]]):
        self.paths, self.stamp = paths, provenance.stamp()
        self.known = {path.stem: notebooks.declared(path) for path in paths}
        cfg, given = notebooks.settings(scale, pairs, self.known)
        self.cfg, self.given, self.folder = cfg, {"scale": scale, **given}, _folder(cfg, given, self.known)
        check_folder(self.folder, "HEAL_RESULTS")
        check_folder(default_root(), "HEAL_CACHE")
        self.notes_path = default_root() / "runs" / f"{self.folder.name}.json"
        known, path = _json(self.notes_path, _is_notes), self.folder / "run.json"
        altered = known and not (path.is_file() and file_hash(path) == known["record"])  # then nothing of it counts
        self.notes, last = {} if altered else known.get("notebooks", {}), {} if altered else _json(path, _is_record)
        fields = dataclasses.asdict(cfg)
        self.record = {
            "scale": scale,
            "parameters": given,
            "overrides": cfg.changed,
            "config": fields,
            "seeds": cfg.seeds,
            "models": provenance.models(cfg.teacher, cfg.student),
            "environment": provenance.environment(),
            "git": provenance.git_state(),
            "computed": embedded.computed(),
        }
        self.last, self.spent, self.guessed = last.get("notebooks", {}), 0.0, 0.0
        # What another machine made stays, and says so: it is made again when it is asked for.
        here = all(last.get(part) == self.record[part] for part in MACHINE)
        was = {name: it for part in MACHINE for name, it in last.get(part, {}).items()
               if self.record[part].get(name) != it}
        strange = {} if here else {"elsewhere": was}
        self.record["notebooks"] = {name: {**strange, **facts} for name, facts in self.last.items()}
        self.record["from_nothing"] = _from_nothing(last, scale, fields) if here else None
        self.code = code_hash(*modules())[:16]
        used = self.record["environment"]["versions"]
        by = choose.key(cfg.engine)
        served = [] if by == "hf" else [by, os.environ.get(scales.SERVER["teacher_name"])]
        self.basis = hash_of([fields, self.record["models"], used, self.code, self.record["computed"], *served,
                              provenance.data(cfg), distributed.asked(cfg.processes)])[:16]

    def parameters(self, name: str) -> dict[str, Any]:
        """What one notebook is given: the scale and the overrides, as far as it declares them."""
        return {key: value for key, value in self.given.items() if key in self.known[name]}

    def look(self, path: Path) -> None:
        """Notices what has changed since the run began: another commit of the same code is recorded, other code is
        refused, for one results folder is of one state."""
        stamp, part = provenance.stamp(), f"{provenance.CODE[1]}/"
        for file in sorted(stamp.keys() | self.stamp.keys()):
            mine = not file.startswith(part) or file == part + path.name
            if mine and stamp.get(file) != self.stamp.get(file):
                raise HealError(f"{file}: changed while the run went on; run again: what it has changed is made anew")
        if provenance.commit() != self.record["git"]["commit"]:
            self.record["git"] = provenance.git_state()

    def fingerprint(self, path: Path) -> str:
        """Hash of all that determines a notebook's outputs."""
        cells = [[cell["cell_type"], cell["source"]] for cell in json.loads(path.read_text())["cells"]]
        others = {name: note["outputs"] for name, note in self.notes.items() if not name.startswith(GATHERS)}
        reads = others if path.name.startswith(GATHERS) else None
        return hash_of([cells, self.parameters(path.stem), reads, self.basis])

    def up_to_date(self, path: Path) -> bool:
        """Whether a notebook's last outputs are all there, unaltered, and would come out the same."""
        note, facts = self.notes.get(path.stem), self.record["notebooks"].get(path.stem)
        if not note or facts is None or "elsewhere" in facts or note["fingerprint"] != self.fingerprint(path):
            return False
        if path.name.startswith(GATHERS) and not self._readme_is_current():
            return False
        files = [(self.folder / file, sha256) for file, sha256 in note["outputs"].items()]
        return all(file.is_file() and file_hash(file) == sha256 for file, sha256 in files)

    def _readme_is_current(self):
        """Whether README shows these results, and those of other folders, if this run fills it."""
        readme = importlib.import_module("heal_lib.readme")
        try:
            return not readme.fills(self.cfg) or readme.is_current()
        except (HealError, OSError):  # the notebook will say what is wrong
            return False

    def time_left(self, paths: Sequence[Path]) -> str:
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

    def one(self, path: Path) -> float:
        """Runs a notebook, notes its outputs and its stages; returns the seconds it took."""
        self.look(path)
        name, start, git = path.stem, time.perf_counter(), self.record["git"]
        fingerprint, before = self.fingerprint(path), self._written()
        with tempfile.NamedTemporaryFile() as log:
            # The kernel's store logs what it made and reused; all notebooks of a run are of one setting and write to
            # the same folder, also those that do not declare an overridden parameter.
            overrides = {key: value for key, value in self.given.items() if key in scales.kinds()}
            kernel = {"HEAL_EVENTS": log.name, "HEAL_RESULTS": str(self.folder),
                      "HEAL_OVERRIDES": json.dumps(overrides)}
            notebooks.execute(path, self.folder, self.parameters(name), kernel)
            events = [json.loads(line) for line in log]
        self.look(path)
        seconds = round(time.perf_counter() - start, 1)
        stages = {}
        for what, stage, key, cost in events:
            facts = stages.setdefault(stage, {"made": 0, "reused": 0, "keys": {}})
            facts[what] = facts.get(what, 0) + 1
            what = "made" if facts["keys"].get(key, [what])[0] == "made" else what
            facts["keys"][key] = [what, round(cost, 3)]
            facts["seconds_to_make"] = round(sum(seconds for _, seconds in facts["keys"].values()), 3)
        written = [file for file, when in self._written().items() if before.get(file) != when]
        written += [self.folder / "notebooks" / path.name, self.folder / "html" / f"{name}.html"]
        outputs = {file.relative_to(self.folder).as_posix(): file_hash(file) for file in sorted(written)}
        self._drop_stale(name, outputs)
        finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        facts = {"seconds": seconds, "finished": finished, "stages": stages}
        own = {key: text for key, text in self.known[name].items() if key not in scales.kinds()}
        self.record["notebooks"][name] = {**facts, **git, "code": self.code, "basis": self.basis, "outputs": outputs,
                                          "parameters": {**own, **self.parameters(name)}}
        self.notes[name] = {"fingerprint": fingerprint, "outputs": outputs}
        write_json(self.record, self.folder / "run.json")
        write_json({"record": file_hash(self.folder / "run.json"), "notebooks": self.notes}, self.notes_path)
        return seconds

    def _drop_stale(self, name, outputs):
        """Deletes what the notebook wrote in its last run and does not write any more: only files of the folder that
        are as they were recorded then, and that no other notebook wrote."""
        others = {key: facts for key, facts in {**self.last, **self.record["notebooks"]}.items() if key != name}
        kept = set(outputs).union(*(facts["outputs"] for facts in others.values()))
        for file, sha256 in self.last.get(name, {"outputs": {}})["outputs"].items():
            path = self.folder / file
            own = path.is_file() and path.resolve().is_relative_to(self.folder.resolve()) and file not in kept
            if own and file_hash(path) == sha256:
                path.unlink()

    def all(self, force: bool = False) -> None:
        """Runs what is not up to date, in order, telling the time left before each."""
        start = time.perf_counter()
        with contextlib.ExitStack() as first:
            for index, path in enumerate(self.paths):
                head = f"[{index + 1}/{len(self.paths)}] {path.stem}"
                if not force and self.up_to_date(path):
                    print(f"{head}: up to date", flush=True)
                    continue
                later = self.paths[index + 1 :]
                rest = [path] + [other for other in later if force or not self.up_to_date(other)]
                elapsed = clock(time.perf_counter() - start)
                print(f"{head}: running; {elapsed} elapsed, {self.time_left(rest)}", flush=True)
                if "HEAL_POOL" not in os.environ:
                    first.enter_context(pool())
                seconds = self.one(path)
                print(f"{head}: done in {clock(seconds)}", flush=True)
                if path.stem in self.last:
                    self.spent += seconds
                    self.guessed += self.last[path.stem]["seconds"]
        print(f"results are in {os.path.relpath(self.folder)}", flush=True)


@contextlib.contextmanager
def pool() -> Iterator[None]:
    """The process that the workers of all notebooks are forked from: what they need is imported once for a run."""
    os.environ["HEAL_POOL"], process = workers.start()
    try:
        yield
    finally:
        del os.environ["HEAL_POOL"]
        process.communicate()  # closes its input: it ends with that, and so with this process


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps a second driver, whatever its cache, out of the same results folder; HealError if nobody can write there,
    before any work is done."""
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = held.enter_context(open(folder / ".lock", "w"))
        except OSError as error:
            raise disk_error(error, folder) or error from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HealError(f"{folder.name}: another run writes there; wait for it or stop it") from None
        yield

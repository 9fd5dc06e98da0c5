"""Crash testing: a tiny run is killed in each of its units of work in turn, and goes on each time. Its tables must come
out as if nothing had happened, and no finished unit (a stage of the store) may be made twice.

    python tests/torture.py --kills 100 --out results/reliability/torture.json

Every run is a process of its own, forked from this one, which has the libraries loaded and computes nothing.
The moment within a unit is drawn by a seed; the last moments fall while tables are written.
"""

import argparse
import collections
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import reliability
import trl.trainer.sft_trainer  # noqa: F401  loaded once, before any run is forked

from heal_lib import evaluation, pace_tables, scales, tables
from heal_lib.experiment import Experiment
from heal_lib.files import file_hash, write_json, write_table
from heal_lib.store import Store

SIZES = {"worlds": ["equations"], "difficulties": ["easy", "hard"], "benchmarks": ["easy"], "n_distil": 2,
         "n_samples": 6, "n_hinted": 4, "n_failed": 1, "n_candidates": 3, "n_test": 2, "k_eval": 2, "seeds": [0],
         "train_tokens": 1000, "n_boot": 50}
METHODS = ("student", "heal")
COPIES = "training-"  # the stage that copies a student's log; it is open as long as the student trains


def tiny_run(folder, log):
    """All stages of a tiny scale in one process, and its tables in folder/tables; the store's events go to `log`."""
    os.environ.update(HEAL_EVENTS=str(log), HEAL_CACHE=str(folder / "cache"), HEAL_IN_WORKER="1")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    work(folder)


def work(folder):
    """The same as the environment has it."""
    import datasets
    import torch

    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    run = Experiment(scales.get("smoke", **SIZES), Store())
    samples = run.evaluations(METHODS)
    evaluation.save_samples(samples, folder)
    for name, table in {
        "results": evaluation.results_table(samples, temperature=1.0, n_boot=run.cfg.n_boot, baseline="student"),
        "pairs": tables.differences(samples, [METHODS[::-1]], n_boot=run.cfg.n_boot),
        "data": pace_tables.stage_data(run),
        "exposure": pace_tables.exposure(run, METHODS[1:]),
        "losses": pace_tables.training_logs(run, METHODS[1:]),
        "readings": run.readings("hinted").to_pandas(),
        "pool": run.pool().to_pandas(),
    }.items():
        write_table(table, folder / "tables" / f"{name}.csv")


def start(folder, log):
    """The tiny run in a forked process."""
    process = multiprocessing.get_context("fork").Process(target=tiny_run, args=(folder, log))
    process.start()
    return process


def finish(folder, log):
    """Runs to the end; returns the seconds that took."""
    begun, process = time.perf_counter(), start(folder, log)
    process.join()
    if process.exitcode:
        raise SystemExit(f"a run in {folder} failed after {log.stem}; its traceback is above")
    return time.perf_counter() - begun


def events(log):
    """The store's events so far: [what, name, key, seconds]; a line that is only half there does not count."""
    lines = log.read_text().splitlines(True) if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def fingerprint(folder):
    """{file: sha256} of tables and samples, and of temporary files if any are left there."""
    found = sorted(path for kind in ("tables", "per_sample") for path in (folder / kind).iterdir())
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in found}


def unfinished(folder):
    """The units that a killed run had begun."""
    return [path.name.removeprefix(".tmp-") for path in (folder / "cache").glob(".tmp-*")]


def kill(folder, log, units, at, share):
    """Starts a run and kills it in unit number `at` (one past the last: while it writes tables), when `share` of the
    unit's usual time has gone by. Returns whether it was still running."""
    usual, process = units[at][3] if at < len(units) else 0.3, start(folder, log)
    before = {key for _, _, key, _ in units[:at]}
    while process.is_alive() and not before <= {event[2] for event in events(log)}:
        time.sleep(0.002)
    while process.is_alive() and share > 0.1 and at < len(units) and not unfinished(folder):
        time.sleep(0.002)  # one kill in ten falls between two units
    process.join(share * usual)
    alive = process.is_alive()
    if alive:  # else it has been waited for, and its number may be another's
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return alive


def chain(units, rng, at):
    """Kills a run once in each of the units numbered `at`, finishes it: (kills: [unit, share, unfinished units, whether
    a temporary file of a table was left], keys made more than once, folders left over, fingerprint)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, kills, logs = Path(scratch), [], []
        for i in at:
            share, log = rng.random(), folder / f"{i}.log"
            logs.append(log)
            if kill(folder, log, units, i, share):
                name = units[i][1] if i < len(units) else "tables"
                half = any(path.name.startswith(".") for path in (folder / "tables").glob("*"))
                kills.append([name, round(share, 3), unfinished(folder), half])
        logs.append(folder / "last.log")
        finish(folder, logs[-1])
        made = collections.Counter(key for log in logs for what, _, key, _ in events(log) if what == "made")
        return kills, [key for key, n in made.items() if n > 1], unfinished(folder), fingerprint(folder)


def undisturbed():
    """(units made in order, as events; fingerprint; seconds) of a run that nobody kills."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch), Path(scratch) / "run.log"
        seconds = finish(folder, log)
        return [event for event in events(log) if event[0] == "made"], fingerprint(folder), seconds


def torture(n_kills, seed=0, out=None):
    """Figures of at least so many kills: how many were survived, what was lost, by unit. Written to `out` as they come.

    A chain of kills is survived if the run that ends it leaves the undisturbed run's files and no others."""
    units, reference, seconds = undisturbed()
    rng, kills, failures, again, left, chains = random.Random(seed), [], [], 0, 0, 0
    while len(kills) < n_kills:
        at = range(len(units) + 1)[: n_kills - len(kills)] if n_kills > len(units) else sorted(
            rng.sample(range(len(units) + 1), n_kills - len(kills)))
        done, repeated, leftovers, found = chain(units, rng, at)
        kills, chains, again, left = kills + done, chains + 1, again + len(repeated), left + len(leftovers)
        if found != reference or repeated or leftovers:
            failures.append({"kills": done, "repeated": repeated, "leftovers": leftovers,
                             "files": sorted({file for file, _ in found.items() ^ reference.items()})})
        lost = [sum(not name.startswith(COPIES) for name in names) for _, _, names, _ in kills]
        figures = {
            **reliability.dated(), "kills": len(kills), "runs": chains, "seed": seed,
            "seconds_undisturbed": round(seconds, 1), "units": len(units), "files_compared": len(reference),
            "runs_that_differ": len(failures),
            "finished_units_repeated": again, "temporary_folders_left": left, "most_units_lost_by_a_kill": max(lost),
            "kills_amid_a_unit": sum(map(bool, lost)), "kills_amid_a_table": sum(half for *_, half in kills),
            "kills_by_unit": dict(sorted(collections.Counter(name for name, *_ in kills).items())),
            "failures": failures,
        }
        if out:
            write_json(figures, out)
            print(f"{len(kills)} kills, {len(failures)} of {chains} runs differ", flush=True)
    return figures


if __name__ == "__main__":
    it = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    it.add_argument("--kills", type=int, default=100)
    it.add_argument("--seed", type=int, default=0)
    it.add_argument("--out", type=Path, default=Path("results/reliability/torture.json"))
    args = it.parse_args()
    raise SystemExit(bool(torture(args.kills, args.seed, args.out)["failures"]))

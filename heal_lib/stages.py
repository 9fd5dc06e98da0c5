"""What every pipeline stands on: stages kept in the store, draws from a model, and many stages on all cores."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

from heal_lib import embedded, entropy, gear, trajectory, worlds
from heal_lib.engines import SamplingParams, hf
from heal_lib.scales import Scale
from heal_lib.store import Store, load_dataset, save_dataset

_IN_WORKER = "HEAL_IN_WORKER"
# Code that every stage rests on; a stage adds its own. Comments and docstrings do not count.
_SHARED = (worlds.base, worlds.equations, worlds.paths, worlds.countdown, trajectory, entropy, gear, hf)


@functools.cache
def engine(name: str) -> hf.HFEngine:
    """The engine around an embedded model or a model folder, loaded once per process."""
    return hf.HFEngine(*embedded.load(name))


class Stages:
    """Named stages of one scale; a stage is made once, and reused as long as nothing it depends on changes."""

    def __init__(self, cfg: Scale, store: Store | None = None):
        self.cfg, self.store = cfg, store or Store()
        self._done: dict[str, tuple] = {}  # stage name -> (folder, key), so that a stage is looked up once
        self._frames: dict = {}  # stage name -> data set
        self._variants: dict = {}  # switches -> pipeline
        self._peeking = False

    def variant(self, switches: dict):
        """The same pipeline with some switches changed; what they do not touch is reused."""
        if not switches:
            return self
        key = tuple(sorted(switches.items()))
        if key not in self._variants:
            self._variants[key] = type(self)(replace(self.cfg, **switches), self.store)
        self._variants[key]._peeking = self._peeking
        return self._variants[key]

    def prefetch(self, jobs: list[tuple]) -> None:
        """Runs independent stages, given as (method name, *arguments), on all cores; later calls reuse them."""
        jobs = [job for job in jobs if self._absent(job)]
        cores = 1 if os.environ.get("DEVICE") == "cuda" or _IN_WORKER in os.environ else len(os.sched_getaffinity(0))
        run = functools.partial(_run, type(self), self.cfg, self.store.root)
        if min(cores, len(jobs)) <= 1:
            for job in jobs:
                run(job)
            return
        with ProcessPoolExecutor(min(cores, len(jobs)), get_context("spawn"), _quiet_worker) as pool:
            for _ in pool.map(run, jobs):
                pass

    def _absent(self, job: tuple) -> bool:
        """Whether a stage, or one before it, still has to be made."""
        self._peeking = True
        try:
            getattr(self, job[0])(*job[1:])
        except _NotYet:
            return True
        finally:
            self._peeking = False
        return False

    def _draw(self, problems, n: int, source: str, model: str | None = None, seed: int | None = None) -> list[dict]:
        """n samples per problem, world by world and difficulty by difficulty (they share a length limit)."""
        cfg, rows, drawer = self.cfg, [], engine(model or self.cfg.teacher)
        groups: dict[tuple, list] = {}
        for problem in problems:
            groups.setdefault((problem.world, problem.difficulty), []).append(problem)
        for (name, difficulty), group in groups.items():
            world = worlds.get(name)
            hint = {p.id: world.hint(p, cfg.hint) if source == "hinted" else "" for p in group}
            prompts = [[*drawer.prompt(world.prompt(p)), *drawer.encode(hint[p.id])] for p in group]
            params = SamplingParams(world.max_new_tokens[difficulty], cfg.temperature, top_p=cfg.top_p)
            keys = [f"{source}/{p.id}" for p in group]
            draws = drawer.sample(prompts, n, params, cfg.teacher_seed if seed is None else seed, keys)
            rows += [gear.candidate_row(drawer, world, p, draw, source=source, sample=j)
                     for p, samples in zip(group, draws, strict=True) for j, draw in enumerate(samples)]
        return rows

    def _stage(self, name: str, parts: dict, make, *code, teacher: bool = True):
        if name not in self._done:
            if teacher:
                parts = {**parts, "teacher": embedded.weights_hash(self.cfg.teacher)}
            folder = self.store.stage(name, parts, _not_yet if self._peeking else make, code=(*code, *_SHARED))
            self._done[name] = (folder, self.store.events[-1].key)
        return self._done[name][0]

    def _dataset(self, name: str, parts: dict, rows, *code):
        def make(folder):
            save_dataset(trajectory.to_dataset(rows()), folder / "data.parquet")

        folder = self._stage(name, parts, make, *code)
        if name not in self._frames:
            self._frames[name] = load_dataset(folder / "data.parquet")
        return self._frames[name]

    def _key(self, name: str) -> str:
        """The key of a stage already looked up, so that its change reaches the stages after it."""
        return self._done[name][1]


class _NotYet(Exception):
    """Raised instead of making a stage while only looking whether it is there."""


def _not_yet(folder):
    raise _NotYet


@functools.cache
def _in_worker(kind: type, cfg: Scale, root):
    """One pipeline per worker, which so reads its inputs once."""
    return kind(cfg, Store(root))


def _run(kind: type, cfg: Scale, root, job: tuple) -> None:
    name, *arguments = job
    getattr(_in_worker(kind, cfg, root), name)(*arguments)


def _quiet_worker() -> None:
    """One thread per worker, and no workers of its own: two runs on a core each are faster than one run on both."""
    import torch

    torch.set_num_threads(1)
    os.environ[_IN_WORKER] = "1"

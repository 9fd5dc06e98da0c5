"""What every pipeline stands on: stages kept in the store, draws from a model, and many stages on all cores."""

from __future__ import annotations

import functools
import os
import signal
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context, parent_process
from typing import Self

from heal_lib import embedded, entropy, gear, progress, trajectory, worlds
from heal_lib.engines import SamplingParams, cache, choose, device, hf, reading, words
from heal_lib.engines.choose import engine
from heal_lib.scales import Scale
from heal_lib.store import Store, load_dataset, save_dataset
from heal_lib.worlds import mathematics

NOUNS = {"evaluation": "student", "tuning": "tuning run", "cell": "cell"}  # what a job of that name makes
SMALL = 2**30  # bytes of weights, teacher and student together
# Code that every stage rests on; a stage adds its own. Comments and docstrings do not count.
_SHARED = (worlds.base, worlds.equations, worlds.paths, worlds.countdown, trajectory, entropy, gear, hf,
           reading, cache, words)


class Stages:
    """Named stages of one scale; a stage is made once, and reused as long as nothing it depends on changes."""

    def __init__(self, cfg: Scale, store: Store | None = None):
        self.cfg, self.store = cfg, store or Store()
        self._done: dict[str, tuple] = {}  # stage name -> (folder, key), so that a stage is looked up once
        self._frames: dict = {}  # stage name -> data set
        self._variants: dict = {}  # switches -> pipeline
        self._peeking = False

    def variant(self, switches: dict) -> Self:
        """The same pipeline with some switches changed; what they do not touch is reused."""
        if not switches:
            return self
        key = tuple(sorted(switches.items()))
        if key not in self._variants:
            self._variants[key] = type(self)(replace(self.cfg, **switches), self.store)
        self._variants[key]._peeking = self._peeking
        return self._variants[key]

    def prefetch(self, jobs: list[tuple]) -> None:
        """Runs independent stages, given as (method name, *arguments), on all cores; later calls reuse them.

        On a GPU too, if the models are small: they leave most of it idle, and eight processes share one."""
        jobs = [job for job in jobs if self._absent(job)]
        single = progress.IN_WORKER in os.environ or self.cfg.processes > 1 or self.cfg.engine in ("ray", "vllm")
        cores = 1 if single else len(os.sched_getaffinity(0))
        if device() == "cuda":
            cores = min(cores, 8) if self._n_bytes() < SMALL else 1
        run = functools.partial(_run, type(self), self.cfg, self.store.root)
        with progress.bar("working", len(jobs), NOUNS.get(jobs[0][0], "stage") if jobs else "stage"):
            if min(cores, len(jobs)) <= 1:
                for job in jobs:
                    run(job)
                    progress.tick()
                return
            pool = _workers(cores)
            try:
                for one in as_completed([pool.submit(run, job) for job in jobs]):
                    one.result()
                    progress.tick()
            except BaseException:  # an interrupt or a killed worker, too: the next call starts new ones
                _workers.cache_clear()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _n_bytes(self) -> int:
        """Bytes of the teacher's and the student's weights."""
        return sum(path.stat().st_size for name in (self.cfg.teacher, self.cfg.student)
                   for path in embedded.folder(name).glob("model*.safetensors"))

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
        cfg, rows, drawer = self.cfg, [], self._engine(model or self.cfg.teacher)
        groups: dict[tuple, list] = {}
        for problem in problems:
            groups.setdefault((problem.world, problem.difficulty), []).append(problem)
        for (name, difficulty), group in groups.items():
            world = worlds.get(name)
            if name == "math" and not drawer.tokenizer.chat_template:
                warnings.warn("math: a model without a chat template is given each question as plain text; an instruct "
                              "model is expected", stacklevel=2)
            hint = {p.id: world.hint(p, cfg.hint) if source == "hinted" else "" for p in group}
            prompts = [[*drawer.prompt(world.prompt(p)), *drawer.encode(hint[p.id])] for p in group]
            params = self._params(world, difficulty)
            keys = [f"{source}/{p.id}" for p in group]
            draws = drawer.sample(prompts, n, params, cfg.teacher_seed if seed is None else seed, keys)
            rows += [gear.candidate_row(drawer, world, p, draw, source=source, sample=j)
                     for p, samples in zip(group, draws, strict=True) for j, draw in enumerate(samples)]
        return rows

    def _engine(self, model: str):
        """What draws from a model; a server knows the teacher alone."""
        kind = self.cfg.engine
        return progress.Watched(engine(model, "hf" if kind == "openai" and model != self.cfg.teacher else kind))

    def _params(self, world, difficulty: str) -> SamplingParams:
        """How samples of a difficulty are drawn."""
        cfg = self.cfg
        return SamplingParams(cfg.max_new_tokens or world.longest(difficulty), cfg.temperature, top_p=cfg.top_p)

    def _stage(self, name: str, parts: dict, make, *code, teacher: bool = True, shared: bool = True):
        """Folder of a stage. Its key holds the teacher's weights and the code shared by stages, unless told not to."""
        if name not in self._done:
            if teacher:
                parts = {**parts, "teacher": embedded.weights_hash(self.cfg.teacher)}
            if shared and (more := choose.code(self.cfg.engine)):
                parts, code = {**parts, "engine": self.cfg.engine}, (*code, *more)
            code = (*code, *worlds.code(self.cfg.worlds) * shared)
            if shared and "math" in self.cfg.worlds:  # its checker and its data are not the embedded worlds'
                parts = {**parts, "math": mathematics.fingerprint((*self.cfg.difficulties, *self.cfg.benchmarks))}
            folder = self.store.stage(name, parts, _not_yet if self._peeking else make, code=(*code, *_SHARED * shared))
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


@functools.lru_cache(maxsize=1)
def _workers(cores: int) -> ProcessPoolExecutor:
    """Processes that make stages. They stay for the next call: they need seconds to load what they work with."""
    return ProcessPoolExecutor(cores, get_context("spawn"), _quiet_worker)


@functools.cache
def _in_worker(kind: type, cfg: Scale, root):
    """One pipeline per worker, which so reads its inputs once."""
    return kind(cfg, Store(root))


def _run(kind: type, cfg: Scale, root, job: tuple) -> None:
    name, *arguments = job
    getattr(_in_worker(kind, cfg, root), name)(*arguments)


def _quiet_worker() -> None:
    """One thread per worker, and no workers of its own: two runs on a core each are faster than one run on both. An
    interrupt, which ends a notebook's kernel too, ends it without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    os.environ[progress.IN_WORKER] = "1"


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever, and hold its memory; its stage's lock, too, until
    it is made."""
    if (parent := parent_process()) is not None:
        parent.join()
    os._exit(1)

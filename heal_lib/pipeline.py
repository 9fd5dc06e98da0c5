"""The stages between a scale and its tables; each reads data sets, writes one, and is cached by what determines it.

    pool -> repairs(rule), hinted -> readings -> training_rows(method) -> student(method, seed) -> evaluation
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from heal_lib import baselines, embedded, entropy, gear, pace, pure, training, trajectory, worlds
from heal_lib.engines import SamplingParams, hf
from heal_lib.errors import HealError
from heal_lib.scales import Scale
from heal_lib.store import Store, load_dataset, save_dataset, write_json
from heal_lib.trajectory import problem_of, seed_of

_SAMPLING = ("temperature", "top_p", "teacher_seed")
_GEAR = ("surge", "window", "window_unit", "backoff", "hint", "step_delimiter")
# Code that every stage rests on; a stage adds its own. Comments and docstrings do not count.
_SHARED = (worlds.base, worlds.equations, worlds.paths, worlds.countdown, trajectory, entropy, gear, hf)


@functools.cache
def engine(name: str) -> hf.HFEngine:
    """The engine around an embedded model or a model folder, loaded once per process."""
    return hf.HFEngine(*embedded.load(name))


class Pipeline:
    """The stages of one scale. Every method returns a data set (or a model folder), made or reused."""

    def __init__(self, cfg: Scale, store: Store | None = None):
        self.cfg, self.store = cfg, store or Store()
        self._done: dict[str, tuple] = {}  # stage name -> (folder, key), so that a stage is looked up once
        self._frames: dict = {}  # stage name -> data set
        self._sources: dict = {}  # method -> training rows
        self._peeking = False

    # --- problems
    def problems(self, split: str, n: int, difficulties: tuple[str, ...] | None = None) -> list:
        """n problems for each world and difficulty, the same whatever else is set."""
        return [p for w in map(worlds.get, self.cfg.worlds) for d in difficulties or w.difficulties
                if d in w.difficulties for p in w.problems(split, n, 0, d)]

    def distil(self) -> list:
        """The problems that methods distil from."""
        return self.problems("distil", self.cfg.n_distil, self.cfg.difficulties)

    # --- the teacher
    def pool(self, split: str = "distil"):
        """N unhinted samples per problem."""
        size = "n_distil" if split == "distil" else "n_development"
        parts = self.cfg.pick("worlds", "difficulties", size, "n_samples", *_SAMPLING)
        return self._dataset(f"pool {split}", parts,
                             lambda: self._draw(self._split_problems(split), self.cfg.n_samples, "sampled"),
                             Pipeline.pool, Pipeline._draw)

    def correct_counts(self, split: str = "distil") -> dict[str, int]:
        """problem id -> c, the number of correct samples of N."""
        counts: dict[str, int] = {}
        pool = self.pool(split)
        for key, correct in zip(pool["problem_id"], pool["correct"], strict=True):
            counts[key] = counts.get(key, 0) + correct
        return counts

    def hinted(self, split: str = "distil"):
        """Samples drawn with the hint from the start, for problems with share correct below `stage_hint_below`."""
        counts = self.correct_counts(split)
        limit = self.cfg.stage_hint_below * self.cfg.n_samples
        problems = [p for p in self._split_problems(split) if counts[p.id] < limit]
        parts = {**self.cfg.pick("n_hinted", "hint", "stage_hint_below", *_SAMPLING),
                 "pool": self._key(f"pool {split}")}
        return self._dataset(f"hinted {split}", parts, lambda: self._draw(problems, self.cfg.n_hinted, "hinted"),
                             Pipeline.hinted, Pipeline._draw)

    def repairs(self, rule: str = "entropy", split: str = "distil"):
        """GEAR on the eligible problems: all candidates, accepted (`correct`) or not."""
        self.pool(split)
        parts = {**self.cfg.pick("n_failed", "n_candidates", "eligible_max_correct", *_GEAR, *_SAMPLING),
                 "rule": rule, "pool": self._key(f"pool {split}")}
        return self._dataset(f"repairs {rule} {split}", parts, lambda: self._repair(rule, split),
                             Pipeline.repairs, Pipeline.failed, Pipeline._repair)

    def failed(self, split: str = "distil") -> dict[str, list[dict]]:
        """Eligible problem id -> the failed trajectories chosen for repair (seeded, at most `n_failed`)."""
        counts, chosen = self.correct_counts(split), {}
        for row in self.pool(split):
            if gear.eligible(counts[row["problem_id"]], self.cfg.eligible_max_correct) and not row["correct"]:
                chosen.setdefault(row["problem_id"], []).append(row)
        for key, rows in chosen.items():
            trajectory.rng_of(self.cfg.teacher_seed, "failed", key).shuffle(rows)
            del rows[self.cfg.n_failed:]
        return chosen

    def readings(self, which: str, split: str = "distil"):
        """PURE's reading (`pure.read`) of the accepted rows of "hinted" or "repairs <rule>"."""
        rows = self.accepted(which, split)
        parts = {"of": self._key(f"{which} {split}"), "step_delimiter": self.cfg.step_delimiter}

        def make(folder):
            from datasets import Dataset

            reader = engine("teacher")
            out = [pure.read(reader, worlds.get(row["world"]), row, self.cfg.step_delimiter) for row in rows]
            names = ("ppl", "uncertainty", "nll", "entropy", "self_certainty", "n_steps")
            columns = {c: [np.asarray(r[c]).tolist() for r in out] for c in names}
            save_dataset(Dataset.from_dict(columns), folder / "data.parquet")

        return load_dataset(self._stage(f"readings {which} {split}", parts, make, pure, Pipeline.readings)
                            / "data.parquet")

    def anomalies(self, which: str, split: str = "distil", *, how=None, when=None) -> np.ndarray:
        """A(y) per accepted row; `how` and `when` default to the scale's reading of PURE."""
        how, when = how or self.cfg.pure_aggregate, when or self.cfg.pure_uncertainty
        return np.array([pure.anomaly({"ppl": np.array(r["ppl"]), "uncertainty": np.array(r["uncertainty"]),
                                       "n_steps": r["n_steps"]}, how, when, self.cfg.pure_eps)
                         for r in self.readings(which, split)])

    def training_sources(self, method: str) -> dict[str, list[dict]]:
        """Source name (base, hint, repair) -> rows of a method, filtered and capped per problem."""
        if method not in self._sources:
            self._sources[method] = baselines.training_sources(self, method)
        return self._sources[method]

    # --- the student
    def student(self, method: str, seed: int):
        """Folder with stage-1 .. stage-n: the student's weights after each stage of training."""
        if not baselines.get(method).trained:
            raise HealError(f"method '{method}' is not trained; ask for its evaluation instead")
        cfg, spec, data = self.cfg, baselines.get(method), self.training_sources(method)
        rows = {name: [self._training_row(r) for r in part] for name, part in data.items()}
        ids = {name: [r["input_ids"] for r in part] for name, part in rows.items()}
        parts = {**cfg.pick("train_tokens", "batch_size", "learning_rate", "stages_cumulative"), "order": spec.order,
                 "seed": seed, "data": str(seed_of(ids)), "student": embedded.weights_hash("student")}

        def make(folder):
            import torch

            torch.set_num_threads(1)
            model, tokenizer = embedded.load("student")
            stages, log = pace.curriculum(rows, order=spec.order, cumulative=cfg.stages_cumulative), []
            shares = pace.budgets(stages, cfg.train_tokens, _length)
            for i, (stage, budget) in enumerate(zip(stages, shares, strict=True), 1):
                config = training.TrainConfig(cfg.learning_rate, cfg.batch_size, seed=seed_of(seed, "stage", i) % 2**31)
                filled = pace.fill(stage, budget, seed_of(seed, "fill", i), _length)
                log.append({"stage": i, "rows": len(stage), "tokens": sum(map(_length, filled)),
                            "loss": [[e["step"], e["loss"]] for e in training.fit(model, tokenizer, filled, config)]})
                model.save_pretrained(folder / f"stage-{i}")
                tokenizer.save_pretrained(folder / f"stage-{i}")
            write_json({"method": method, "seed": seed, "stages": log}, folder / "training.json")

        return self._stage(f"student {method} seed {seed}", parts, make, training, pace, Pipeline.student,
                           Pipeline._training_row, teacher=False)

    def evaluation(self, method: str, seed: int, stage: int | None = None):
        """Samples of a method on all test benchmarks; `stage` picks the student after that stage (default: last)."""
        cfg = self.cfg
        if baselines.get(method).trained:
            folder = self.student(method, seed)
            model = str(folder / f"stage-{stage or len(list(folder.glob('stage-*')))}")
        else:
            model = method
        parts = {**cfg.pick("worlds", "n_test", "k_eval", "temperature", "top_p"), "seed": seed,
                 "model": embedded.weights_hash(model)}

        def make(folder):
            from datasets import Dataset

            problems = self.problems("test", cfg.n_test)
            rows = self._draw(problems, cfg.k_eval, "sampled", model=model, seed=seed_of("evaluation", seed))
            keep = ("problem_id", "world", "difficulty", "sample", "text", "finished", "correct", "genuine",
                    "n_generated")
            save_dataset(Dataset.from_list([{k: r[k] for k in keep} for r in rows]), folder / "data.parquet")

        suffix = f" stage {stage}" if stage else ""
        return load_dataset(self._stage(f"evaluation {method} seed {seed}{suffix}", parts, make, Pipeline.evaluation,
                                        Pipeline._draw, teacher=False) / "data.parquet")

    # --- many runs
    def prefetch(self, jobs: list[tuple]) -> None:
        """Runs independent stages, given as (method name, *arguments), on all cores; later calls reuse them."""
        jobs = [job for job in jobs if self._absent(job)]
        workers = 1 if os.environ.get("DEVICE") == "cuda" else min(len(os.sched_getaffinity(0)), len(jobs))
        if workers <= 1:
            for job in jobs:
                _run(self.cfg, self.store.root, job)
            return
        with ProcessPoolExecutor(workers, get_context("spawn"), _quiet_worker) as pool:
            for _ in pool.map(functools.partial(_run, self.cfg, self.store.root), jobs):
                pass

    def evaluations(self, methods):
        """All samples of these methods and seeds as a DataFrame with columns method, seed, benchmark and the rest."""
        import pandas as pd

        self.prepare(methods)
        jobs = [("evaluation", m, s) for s in self.cfg.seeds for m in methods]
        self.prefetch(jobs)
        frames = [self.evaluation(m, s).to_pandas().assign(method=m, seed=s) for _, m, s in jobs]
        table = pd.concat(frames, ignore_index=True)
        return table.assign(benchmark=table["world"] + "-" + table["difficulty"])

    def prepare(self, methods) -> None:
        """The teacher's share of the work for these methods, in parallel where it is independent."""
        specs = [baselines.get(m) for m in methods]
        self.pool()
        of = {s: ["hinted"] * bool(s.hint) + [f"repairs {s.cut}"] * bool(s.cut) for s in specs}
        read = {which for s in specs if s.filter in ("pure", "pure+", "nll") for which in of[s]}
        every = dict.fromkeys(which for s in specs for which in of[s])
        self.prefetch([("readings" if which in read else "_source", which) for which in every])

    # --- plumbing
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

    def _split_problems(self, split: str) -> list:
        return self.distil() if split == "distil" else self.problems(split, self.cfg.n_development, ("hard",))

    def _source(self, which: str, split: str = "distil"):
        """The data set of "hinted" or "repairs <rule>"."""
        kind, _, rule = which.partition(" ")
        if kind not in ("hinted", "repairs"):
            raise HealError(f"unknown source '{which}'; choose hinted or repairs <rule>")
        return self.hinted(split) if kind == "hinted" else self.repairs(rule, split)

    def accepted(self, which: str, split: str = "distil") -> list[dict]:
        """The rows that end properly, verify, and do not speak of the hint."""
        return [row for row in self._source(which, split) if row["correct"]]

    def _draw(self, problems, n: int, source: str, model: str = "teacher", seed: int | None = None) -> list[dict]:
        """n samples per problem, world by world and difficulty by difficulty (they share a length limit)."""
        cfg, rows, drawer = self.cfg, [], engine(model)
        groups: dict[tuple, list] = {}
        for problem in problems:
            groups.setdefault((problem.world, problem.difficulty), []).append(problem)
        for (name, difficulty), group in groups.items():
            world = worlds.get(name)
            hint = {p.id: world.hint(p, cfg.hint) if source == "hinted" else "" for p in group}
            prompts = [drawer.encode(world.prompt(p) + hint[p.id]) for p in group]
            params = SamplingParams(world.max_new_tokens[difficulty], cfg.temperature, top_p=cfg.top_p)
            keys = [f"{source}/{p.id}" for p in group]
            draws = drawer.sample(prompts, n, params, cfg.teacher_seed if seed is None else seed, keys)
            rows += [gear.candidate_row(drawer, world, p, draw, source=source, sample=j)
                     for p, samples in zip(group, draws, strict=True) for j, draw in enumerate(samples)]
        return rows

    def _repair(self, rule: str, split: str) -> list[dict]:
        cfg, rows = self.cfg, []
        groups: dict[tuple, list] = {}  # many problems in one batch; a group shares its length limit
        for failed in self.failed(split).values():
            groups.setdefault((failed[0]["world"], failed[0]["difficulty"]), []).extend(failed)
        for (name, difficulty), failed in groups.items():
            world = worlds.get(name)
            params = SamplingParams(world.max_new_tokens[difficulty], cfg.temperature, top_p=cfg.top_p)
            rows += gear.repair(engine("teacher"), world, failed, rule=rule, n_candidates=cfg.n_candidates,
                                params=params, seed=cfg.teacher_seed, **cfg.pick(*_GEAR))
        return rows

    def _training_row(self, row: dict) -> dict:
        """Prompt and completion ids with the mask of what is learned; the hint is in neither."""
        prompt = engine("student").encode(worlds.get(row["world"]).prompt(problem_of(row)))
        ids = list(row["token_ids"])
        return {"input_ids": [*prompt, *ids], "completion_mask": [0] * len(prompt) + [1] * len(ids)}

    def _stage(self, name: str, parts: dict, make, *code, teacher: bool = True):
        if name not in self._done:
            if teacher:
                parts = {**parts, "teacher": embedded.weights_hash("teacher")}
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


def _length(row) -> int:
    return len(row["input_ids"])


class _NotYet(Exception):
    """Raised instead of making a stage while only looking whether it is there."""


def _not_yet(folder):
    raise _NotYet


@functools.cache
def _pipeline(cfg: Scale, root) -> Pipeline:
    """One pipeline per worker, which so reads its inputs once."""
    return Pipeline(cfg, Store(root))


def _run(cfg: Scale, root, job: tuple) -> None:
    name, *arguments = job
    getattr(_pipeline(cfg, root), name)(*arguments)


def _quiet_worker() -> None:
    """One thread per worker: two runs on a core each are faster than one run on both."""
    import torch

    torch.set_num_threads(1)

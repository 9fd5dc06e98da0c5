"""A scale's stages, made or reused: what notebooks ask for.

    run = Experiment(scales.get("demo"))
    run.pool(), run.repairs("entropy"), run.training_sources("heal"), run.evaluations(["sft-rs", "heal"])

Everything is declared in `teacher` and `students`; here it is asked for, side by side where it is independent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from heal_lib import baselines, embedded, gear, progress, provenance, sampling, students, teacher, training, workers
from heal_lib.engines import choose, device
from heal_lib.files import read_json
from heal_lib.kept import Kept
from heal_lib.scales import Scale
from heal_lib.stage import Stage
from heal_lib.store import Event, Store

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from datasets import Dataset

    from heal_lib.trajectory import Problem

SMALL = 2**30  # bytes of weights, teacher and student together
EVALUATED = ("problem_id", "world", "difficulty", "sample", "text", "finished", "correct", "genuine", "n_generated")


class Experiment:
    """The stages of one scale, all families of its worlds together. Every method returns what it made or reused."""

    def __init__(self, cfg: Scale, store: Store | None = None, kept: Kept | None = None):
        self.cfg: Scale
        self.store: Store
        self.kept: Kept
        self.cfg, self.store, self.kept = cfg, store or Store(), kept or Kept(cfg.name)
        self._loaded: dict = {}
        if cfg.student not in embedded.SHIPPED and cfg.backend == "hf":  # before hours of sampling
            training.check_pad(choose.words(cfg.student).tokenizer)

    def variant(self, switches: Mapping[str, Any]) -> Self:
        """The same with some switches changed; what they do not touch is reused."""
        return type(self)(replace(self.cfg, **switches), self.store, self.kept) if switches else self

    def have(self, stages: Iterable[Stage]) -> None:
        """Makes stages, and those before them, side by side; what follows finds them. What is kept is not made."""
        stages = [stage for stage in stages if self.kept.rows(stage) is None]
        if self.cfg.engine == "ray" and progress.IN_WORKER not in os.environ:
            from heal_lib import cluster

            return cluster.have(self.store, stages, self.cfg.processes)
        workers.have(self.store, stages, self._n_workers())

    def _n_workers(self) -> int:
        """One for each core; on a GPU eight if the models are small, which leave most of it idle; else one."""
        if progress.IN_WORKER in os.environ or self.cfg.processes > 1 or self.cfg.engine == "vllm":
            return 1
        cores = provenance.cores()
        if device() == "cpu":
            return cores
        size = sum(path.stat().st_size for name in (self.cfg.teacher, self.cfg.student)
                   for path in embedded.folder(name).glob("model*.safetensors"))
        return min(cores, 8) if size < SMALL else 1

    # --- the teacher
    def problems(self, split: str = "distil") -> list[Problem]:
        """The problems that the teacher is given."""
        return [p for cfg in teacher.families(self.cfg) for p in teacher.problems(cfg, split)]

    def stages(self, which: str, split: str = "distil") -> list[Stage]:
        """The stages of "pool", "matched", "hinted", "repairs <rule>" or "readings <one of the last two>"."""
        return [teacher.source(cfg, group, which, split) for cfg in teacher.families(self.cfg)
                for group in teacher.groups(cfg, split)]

    def data(self, which: str, split: str = "distil") -> Dataset:
        """The data set of a source, all worlds and difficulties together."""
        from datasets import concatenate_datasets

        key = which, split
        if key not in self._loaded:
            stages = self.stages(which, split)
            self.have(stages)
            self._loaded[key] = concatenate_datasets([self.store.data(stage) for stage in stages])
        return self._loaded[key]

    def ahead(self, *sources: str, split: str = "distil") -> None:
        """Makes several sources side by side."""
        self.have(stage for which in sources for stage in self.stages(which, split))

    def pool(self, split: str = "distil") -> Dataset:
        """N unhinted samples per problem."""
        return self.data("pool", split)

    def matched(self) -> Dataset:
        """As many more unhinted samples as HEAL draws tokens for its hints and repairs."""
        return self.data("matched")

    def hinted(self, split: str = "distil") -> Dataset:
        """Samples drawn with the hint from the start, for problems with share correct below `stage_hint_below`."""
        return self.data("hinted", split)

    def repairs(self, rule: str = "entropy", split: str = "distil") -> Dataset:
        """GEAR on the eligible problems: all candidates, accepted (`correct`) or not."""
        return self.data(f"repairs {rule}", split)

    def readings(self, which: str, split: str = "distil") -> Dataset:
        """PURE's reading of the accepted rows of "hinted" or "repairs <rule>", see `pure.read`."""
        return self.data(f"readings {which}", split)

    def accepted(self, which: str, split: str = "distil") -> list[dict[str, Any]]:
        """The rows that end properly, verify, and do not speak of the hint."""
        return [row for row in self.data(which, split) if row["correct"]]

    def correct_counts(self, split: str = "distil") -> dict[str, int]:
        """problem id -> c, the number of correct samples of N."""
        return {key: c for key, (c, _) in sampling.counts(self.pool(split)).items()}

    def failed(self, split: str = "distil") -> dict[str, list[dict[str, Any]]]:
        """Eligible problem id -> the failed trajectories chosen for repair."""
        cfg = self.cfg
        return gear.failed(self.pool(split), cfg.n_failed, cfg.eligible_max_correct, cfg.teacher_seed)

    def anomalies(self, which: str, split: str = "distil", *, how: str | None = None,
                  when: str | None = None) -> np.ndarray:
        """A(y) per accepted row; `how` and `when` default to the scale's reading of PURE."""
        settings = self.cfg.pick("pure_aggregate", "pure_uncertainty", "pure_eps")
        settings |= {"pure_aggregate": how} if how else {}
        settings |= {"pure_uncertainty": when} if when else {}
        return baselines.anomalies(self.readings(which, split), "pure", settings)

    # --- methods
    def training_sources(self, method: str) -> dict[str, list[dict[str, Any]]]:
        """Stage (base, hint, repair) -> rows of a method, filtered and capped, with their tokens for the student."""
        if method not in self._loaded:
            stages = [students.training_rows(cfg, method) for cfg in students.families(self.cfg, method)]
            self.have(stages)
            spec = baselines.get(method)
            there = ["base", *["hint"] * spec.hint, *["repair"] * bool(spec.cut)]
            found: dict[str, list[dict]] = {name: [] for name in there}
            for stage in stages:
                for row in self.store.data(stage):
                    found[row["stage"]].append(row)
            self._loaded[method] = found
        return self._loaded[method]

    def prepare(self, methods: Iterable[str], seeds: Iterable[int] = (0,)) -> None:
        """The teacher's share of the work for these methods and seeds, side by side."""
        self.have(students.training_rows(cfg, m) for seed in seeds for m in methods if baselines.get(m).trained
                  for cfg in students.families(self.cfg, m, seed))

    def tuning(self, method: str, rate: float) -> float:
        """Mean accuracy on development problems of a student trained at this rate, with a seed of its own."""
        stages = self._tuning(method, rate)
        self.have(stages)
        return float(np.mean([right for stage in stages for right in self._rows(stage)["correct"]]))

    def development(self, methods: Iterable[str]) -> pd.DataFrame:
        """All samples that chose learning rates, a method of its own for each rate ("heal at 0.005")."""
        import pandas as pd

        return pd.concat([self._samples(self._tuning(method, rate), f"{method} at {rate:g}", students.TUNING_SEED)
                          for method, rates in self.rates(methods).items() for rate in rates], ignore_index=True)

    def _tuning(self, method, rate):
        return [students.evaluation(cfg, method, students.TUNING_SEED, rate, split="development")
                for cfg in students.families(self.cfg, method)]

    def rates(self, methods: Iterable[str]) -> dict[str, list[float]]:
        """{method: the learning rates that are tried}: the grid, and, where a method's best is at an end, one of that
        end's steps more, until the next is not better (of one seed) [R]. A grid of one leaves nothing to choose."""
        grid = sorted(self.cfg.learning_rates)
        tried = {method: [*grid] for method in methods}
        new = tried if len(grid) > 1 else {}
        while new:
            self.have(stage for method, rates in new.items() for rate in rates for stage in self._tuning(method, rate))
            new = {method: _beyond(tried[method], self._best(method, tried[method]), grid[0] / grid[1],
                                   grid[-1] / grid[-2]) for method in new}
            new = {method: rates for method, rates in new.items() if rates}
            tried = {method: rates + new.get(method, []) for method, rates in tried.items()}
        return tried

    def learning_rate(self, method: str) -> float:
        """The rate whose student does best on development problems (ties: the first tried). Variants of HEAL differ
        from it in what is varied alone, and so take its rate [R]."""
        method = "heal" if method in baselines.ABLATIONS else method
        if ("rate", method) not in self._loaded:
            self._loaded["rate", method] = self._best(method, self.rates([method])[method])
        return self._loaded["rate", method]

    def _best(self, method, rates):
        return rates[0] if len(rates) == 1 else max(rates, key=lambda rate: self.tuning(method, rate))

    def students(self, method: str, seed: int) -> list[Stage]:
        """The trained students of a method, one for each family of worlds that has any."""
        return [students.student(cfg, method, seed, self.learning_rate(method))
                for cfg in students.families(self.cfg, method, seed)]

    def student(self, method: str, seed: int) -> Path:
        """Folder with stage-1 .. stage-n of a method's student (of the first family)."""
        return self.store.get(self.students(method, seed)[0]).folder

    def trained(self, method: str, seeds: Iterable[int]) -> list[int]:
        """Those of the seeds whose students are trained here, and not kept."""
        return [s for s in seeds if any(self.kept.rows(stage) is None for stage in self._evaluation(method, s))]

    def training_logs(self, method: str, seed: int) -> list[dict[str, Any]]:
        """What training left beside the weights, one for each family: see `pace.train`."""
        return [read_json(self.store.get(stage).folder / "training.json") for stage in self.students(method, seed)]

    def evaluation(self, method: str, seed: int, stage: int | None = None) -> pd.DataFrame:
        """Samples of a method on all benchmarks, as a DataFrame with columns method, seed, benchmark and EVALUATED."""
        return self._samples(self._evaluation(method, seed, stage), method, seed)

    def _samples(self, stages, method, seed):
        import pandas as pd

        self.have(stages)
        table = pd.concat([self._rows(each).assign(recipe=self.kept.recipe(each)) for each in stages],
                          ignore_index=True)
        return table.assign(method=method, seed=seed, benchmark=table["world"] + "-" + table["difficulty"])

    def _rows(self, stage):
        """The samples of an evaluation, with the columns EVALUATED."""
        kept = self.kept.rows(stage)
        if kept is None:
            return self.store.data(stage).select_columns(list(EVALUATED)).to_pandas()
        self.store.tell(Event("kept", stage.name, self.kept.recipe(stage), 0.0))
        return kept[list(EVALUATED)]

    def _evaluation(self, method, seed, stage=None):
        rate = self.learning_rate(method) if baselines.get(method).trained else None
        return [students.evaluation(cfg, method, seed, rate, stage)
                for cfg in students.families(self.cfg, method, seed)]

    def evaluate(self, jobs: Iterable[tuple[Any, ...]]) -> None:
        """Makes evaluations, given as (method, seed) or (method, seed, stage), side by side."""
        self.have(stage for job in jobs for stage in self._evaluation(*job))

    def evaluations(self, methods: Sequence[str], seeds: Sequence[int] | None = None) -> pd.DataFrame:
        """All samples of these methods and seeds. A method whose sources hold nothing has no students: it is named, and
        its cells are missing in what follows."""
        import pandas as pd

        seeds = seeds or self.cfg.seeds
        self.prepare(methods)
        for method in [m for m in methods if baselines.get(m).trained and not any(self.training_sources(m).values())]:
            print(f"{method}: no verified sample in any source, nothing to train on; its cells are missing")
            methods = [m for m in methods if m != method]
        self.rates(sorted({"heal" if m in baselines.ABLATIONS else m for m in methods if baselines.get(m).trained}))
        jobs = [(m, s) for s in seeds for m in methods]
        self.evaluate(jobs)
        return pd.concat([self.evaluation(*job) for job in jobs], ignore_index=True)

    def greedy(self, methods: Iterable[str], seeds: Sequence[int] | None = None) -> pd.DataFrame:
        """One greedy sample of each hard test problem, else as `evaluations`; of methods that have students, or are not
        trained: these say the same under every seed, and are asked once."""
        import pandas as pd

        jobs = {(m, s): [students.greedy(each) for each in self._evaluation(m, s if baselines.get(m).trained else 0)]
                for s in seeds or self.cfg.seeds for m in methods}
        self.have(stage for stages in jobs.values() for stage in stages)
        return pd.concat([self._samples(stages, *job) for job, stages in jobs.items()], ignore_index=True)


def _beyond(rates, best, down, up):
    """The rate beyond `best`, if that is at an end of `rates`, as a list."""
    further = {max(rates): best * up, min(rates): best * down}.get(best)
    return [float(f"{further:.3g}")] if further else []

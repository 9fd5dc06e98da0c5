"""The stages between a scale and its tables; each reads data sets, writes one, and is cached by what determines it.

    pool -> repairs(rule), hinted -> readings -> training_rows(method) -> student(method, seed) -> evaluation
"""

from __future__ import annotations

import numpy as np

from heal_lib import baselines, embedded, gear, pace, pure, stages, training, trajectory, worlds
from heal_lib.engines import SamplingParams
from heal_lib.errors import HealError
from heal_lib.scales import Scale
from heal_lib.store import Store, load_dataset, save_dataset, write_json
from heal_lib.trajectory import problem_of, seed_of

TUNING_SEED = 1000  # trains the students that choose a learning rate, and nothing that is reported
_SAMPLING = ("temperature", "top_p", "teacher_seed")
_GEAR = ("surge", "window", "window_unit", "backoff", "hint", "step_delimiter")
class Pipeline(stages.Stages):
    """The stages of one scale. Every method returns a data set (or a model folder), made or reused."""

    def __init__(self, cfg: Scale, store: Store | None = None):
        super().__init__(cfg, store)
        self._sources: dict = {}  # method -> training rows

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

    def matched(self):
        """More unhinted samples of every problem: as many tokens as HEAL draws for its hints and repairs."""
        pool = self.pool()
        extra = sum(self.hinted()["n_generated"]) + sum(self.repairs()["n_generated"])
        n = max(1, round(self.cfg.n_samples * extra / sum(pool["n_generated"])))
        parts = {"n": n, **self.cfg.pick(*_SAMPLING), "pool": self._key("pool distil")}
        return self._dataset("matched", parts, lambda: self._draw(self.distil(), n, "matched"), Pipeline._draw)

    def student_pass_rates(self, n: int = 8) -> dict[str, float]:
        """problem id -> share of the untrained student's samples that are right, smoothed: (c + 1) / (n + 2)."""
        parts = {"n": n, **self.cfg.pick("worlds", "difficulties", "n_distil", *_SAMPLING),
                 "student": embedded.weights_hash(self.cfg.student)}
        rows = self._dataset("student pool", parts, lambda: self._draw(self.distil(), n, "student", self.cfg.student),
                             Pipeline._draw)
        counts: dict[str, int] = {}
        for key, correct in zip(rows["problem_id"], rows["correct"], strict=True):
            counts[key] = counts.get(key, 0) + correct
        return {key: (c + 1) / (n + 2) for key, c in counts.items()}

    def answer_row(self, problem) -> dict:
        """A training row that states the answer and nothing else."""
        writer = stages.engine(self.cfg.student)
        ids = [*writer.encode(worlds.base.box(problem.answer)), writer.tokenizer.eos_token_id]
        return {**vars(problem), "problem_id": problem.id, "source": "answer", "token_ids": ids,
                "text": worlds.base.box(problem.answer)}

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
        """PURE's reading of the accepted rows of "hinted" or "repairs <rule>": ppl, uncertainty, nll per row."""
        rows = self.accepted(which, split)
        parts = {"of": self._key(f"{which} {split}"), "step_delimiter": self.cfg.step_delimiter}

        def make(folder):
            from datasets import Dataset

            out = pure.read(stages.engine(self.cfg.teacher), rows, self.cfg.step_delimiter)
            names = ("ppl", "uncertainty", "nll", "entropy", "self_certainty", "n_steps")
            columns = {name: [np.asarray(r[name]).tolist() for r in out] for name in names}
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
    def learning_rate(self, method: str) -> float:
        """The rate of the grid whose student does best on development problems (a seed of its own; ties: the first)."""
        grid = self.cfg.learning_rates
        return grid[0] if len(grid) == 1 else max(grid, key=lambda rate: self.tuning(method, rate))

    def tuning(self, method: str, rate: float) -> float:
        """Mean accuracy on development problems of a student trained at this rate."""
        return float(np.mean(self.evaluation(method, TUNING_SEED, split="development", rate=rate)["correct"]))

    def student(self, method: str, seed: int, rate: float | None = None):
        """Folder with stage-1 .. stage-n: the student's weights after each stage of training."""
        if not baselines.get(method).trained:
            raise HealError(f"method '{method}' is not trained; ask for its evaluation instead")
        cfg, spec, data = self.cfg, baselines.get(method), self.training_sources(method)
        rate = rate or self.learning_rate(method)
        rows = {name: [self._training_row(r) for r in part] for name, part in data.items()}
        ids = {name: [r["input_ids"] for r in part] for name, part in rows.items()}
        parts = {**cfg.pick("train_tokens", "batch_size", "stages_cumulative"), "learning_rate": rate, "seed": seed,
                 "order": spec.order, "restart": spec.restart, "loss": spec.loss, "data": str(seed_of(ids)),
                 "student": embedded.weights_hash(self.cfg.student)}

        def make(folder):
            import torch

            torch.set_num_threads(1)
            model, tokenizer = embedded.load(cfg.student)
            curriculum, log = pace.curriculum(rows, order=spec.order, cumulative=cfg.stages_cumulative), []
            shares = pace.budgets(curriculum, cfg.train_tokens, _length)
            filled = [pace.fill(stage, budget, seed_of(seed, "fill", i), _length)
                      for i, (stage, budget) in enumerate(zip(curriculum, shares, strict=True), 1)]
            if not spec.restart:
                filled, curriculum = [sum(filled, [])], [sum(curriculum, [])]
            for i, (stage, given) in enumerate(zip(curriculum, filled, strict=True), 1):
                config = training.TrainConfig(rate, cfg.batch_size, seed=seed_of(seed, "stage", i) % 2**31,
                                              in_order=not spec.restart)
                if spec.loss == "logits":
                    prompts = [tokenizer.decode(_prompt(row)) for row in given]
                    longest = max(worlds.get(w).max_new_tokens[d] for w in cfg.worlds for d in cfg.difficulties
                                  if d in worlds.get(w).difficulties)
                    losses = training.fit_to_logits(model, tokenizer, embedded.load(cfg.teacher)[0], prompts, config,
                                                    longest)
                else:
                    losses = training.fit(model, tokenizer, given, config)
                log.append({"stage": i, "rows": len(stage), "tokens": sum(map(_length, given)),
                            "loss": [[e["step"], e["loss"]] for e in losses]})
                model.save_pretrained(folder / f"stage-{i}")
                tokenizer.save_pretrained(folder / f"stage-{i}")
            write_json({"method": method, "seed": seed, "learning_rate": rate, "stages": log}, folder / "training.json")

        return self._stage(f"student {method} seed {seed}" + (f" rate {rate}" if seed == TUNING_SEED else ""), parts,
                           make, training, pace, Pipeline.student, Pipeline._training_row,
                           teacher=spec.loss == "logits")

    def evaluation(self, method: str, seed: int, stage: int | None = None, split: str = "test",
                   rate: float | None = None):
        """Samples of a method on all benchmarks; `stage` picks the student after that stage (default: last)."""
        cfg = self.cfg
        if baselines.get(method).trained:
            folder = self.student(method, seed, rate)
            model = str(folder / f"stage-{stage or len(list(folder.glob('stage-*')))}")
        else:
            model = getattr(cfg, method)
        size, levels = ("n_test", None) if split == "test" else ("n_development", cfg.difficulties)
        parts = {**cfg.pick("worlds", size, "k_eval", "temperature", "top_p"), "seed": seed, "split": split,
                 "difficulties": levels, "model": embedded.weights_hash(model)}

        def make(folder):
            from datasets import Dataset

            problems = self.problems(split, getattr(cfg, size), levels)
            rows = self._draw(problems, cfg.k_eval, "sampled", model=model, seed=seed_of("evaluation", seed))
            keep = ("problem_id", "world", "difficulty", "sample", "text", "finished", "correct", "genuine",
                    "n_generated")
            save_dataset(Dataset.from_list([{k: r[k] for k in keep} for r in rows]), folder / "data.parquet")

        suffix = f" stage {stage}" * bool(stage) + f" {split} rate {rate}" * bool(rate)
        return load_dataset(self._stage(f"evaluation {method} seed {seed}{suffix}", parts, make, Pipeline.evaluation,
                                        Pipeline._draw, teacher=False) / "data.parquet")

    # --- many runs
    def evaluations(self, methods, seeds=None):
        """All samples of these methods and seeds as a DataFrame with columns method, seed, benchmark and the rest."""
        import pandas as pd

        self.prepare(methods)
        tuned = [m for m in methods if baselines.get(m).trained and len(self.cfg.learning_rates) > 1]
        self.prefetch([("tuning", m, rate) for m in tuned for rate in self.cfg.learning_rates])
        jobs = [("evaluation", m, s) for s in seeds or self.cfg.seeds for m in methods]
        self.prefetch(jobs)
        frames = [self.evaluation(m, s).to_pandas().assign(method=m, seed=s) for _, m, s in jobs]
        table = pd.concat(frames, ignore_index=True)
        return table.assign(benchmark=table["world"] + "-" + table["difficulty"])

    def prepare(self, methods) -> None:
        """The teacher's share of the work for these methods, in parallel where it is independent."""
        trained = [m for m in methods if baselines.get(m).trained]
        specs = [baselines.get(m) for m in trained if not baselines.get(m).switches]
        self.pool()
        of = {s: ["hinted"] * bool(s.hint) + [f"repairs {s.cut}"] * bool(s.cut) for s in specs}
        read = {which for s in specs if s.filter in ("pure", "pure+", "nll") for which in of[s]}
        every = dict.fromkeys(which for s in specs for which in of[s])
        self.prefetch([("readings" if which in read else "_source", which) for which in every])
        self.prefetch([("training_sources", m) for m in trained])

    # --- plumbing
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

    def _repair(self, rule: str, split: str) -> list[dict]:
        cfg, rows = self.cfg, []
        groups: dict[tuple, list] = {}  # many problems in one batch; a group shares its length limit
        for failed in self.failed(split).values():
            groups.setdefault((failed[0]["world"], failed[0]["difficulty"]), []).extend(failed)
        for (name, difficulty), failed in groups.items():
            world = worlds.get(name)
            params = SamplingParams(world.max_new_tokens[difficulty], cfg.temperature, top_p=cfg.top_p)
            rows += gear.repair(stages.engine(cfg.teacher), world, failed, rule=rule, n_candidates=cfg.n_candidates,
                                params=params, seed=cfg.teacher_seed, **cfg.pick(*_GEAR))
        return rows

    def training_tokens(self, row: dict) -> int:
        """What a row costs of the training budget: its prompt and its completion."""
        return _length(self._training_row(row))

    def _training_row(self, row: dict) -> dict:
        """Prompt and completion ids with the mask of what is learned; the hint is in neither. Text is tokenised again
        for a student with a vocabulary of its own."""
        writer, reader = stages.engine(self.cfg.student), stages.engine(self.cfg.teacher)
        prompt, ids = writer.prompt(worlds.get(row["world"]).prompt(problem_of(row))), list(row["token_ids"])
        if writer.vocabulary != reader.vocabulary:
            ids = [*writer.encode(row["text"]), writer.tokenizer.eos_token_id]
        return {"input_ids": [*prompt, *ids], "completion_mask": [0] * len(prompt) + [1] * len(ids)}


def _prompt(row) -> list[int]:
    return [token for token, learned in zip(row["input_ids"], row["completion_mask"], strict=True) if not learned]


def _length(row) -> int:
    return len(row["input_ids"])

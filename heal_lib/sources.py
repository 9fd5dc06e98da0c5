"""What a teacher writes and what becomes of it: the stages from problems to a method's training rows.

    pool -> repairs(rule), hinted -> readings -> training_sources(method)
"""

from __future__ import annotations

import numpy as np

from heal_lib import baselines, embedded, gear, pure, stages, trajectory, worlds
from heal_lib.errors import HealError
from heal_lib.scales import Scale
from heal_lib.store import Store, load_dataset, save_dataset
from heal_lib.trajectory import problem_of
from heal_lib.worlds import mathematics

_SAMPLING = ("temperature", "top_p", "max_new_tokens", "teacher_seed")
_GEAR = ("surge", "window", "window_unit", "backoff", "hint", "step_delimiter")


class Sources(stages.Stages):
    """The teacher's stages of one scale. Every method returns a data set, made or reused, or rows of one."""

    def __init__(self, cfg: Scale, store: Store | None = None):
        super().__init__(cfg, store)
        self._sources: dict = {}  # method -> training rows
        self._distil: list | None = None

    # --- problems
    def problems(self, split: str, n: int, difficulties: tuple[str, ...] | None = None) -> list:
        """n problems for each world and difficulty, the same whatever else is set."""
        return [p for w in map(worlds.get, self.cfg.worlds) for d in difficulties or w.difficulties
                if w.knows(d) for p in w.problems(split, n, 0, d)]

    def distil(self) -> list:
        """The problems that methods distil from. Raises HealError where a benchmark that is named holds one of them."""
        if self._distil is None:
            self._distil = self.problems("distil", self.cfg.n_distil, self.cfg.difficulties)
            tested = self.problems("test", self.cfg.n_test, self.cfg.benchmarks) if self.cfg.benchmarks else []
            asked = {mathematics.normalised(p.question) for p in tested}
            if both := [p for p in self._distil if mathematics.normalised(p.question) in asked]:
                names = ", ".join(self.cfg.benchmarks)
                raise HealError(f"{len(both)} problems to distil from are in {names} too, such as "
                                f"{both[0].question[:60]!r}; take them out of one of the two")
        return self._distil

    # --- the teacher
    def pool(self, split: str = "distil"):
        """N unhinted samples per problem."""
        size = "n_distil" if split == "distil" else "n_development"
        parts = self.cfg.pick("worlds", "difficulties", size, "n_samples", *_SAMPLING)
        return self._dataset(f"pool {split}", parts,
                             lambda: self._draw(self._split_problems(split), self.cfg.n_samples, "sampled"),
                             Sources.pool, Sources._draw)

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
        return self._dataset("matched", parts, lambda: self._draw(self.distil(), n, "matched"), Sources._draw)

    def student_pass_rates(self, n: int = 8) -> dict[str, float]:
        """problem id -> share of the untrained student's samples that are right, smoothed: (c + 1) / (n + 2)."""
        parts = {"n": n, **self.cfg.pick("worlds", "difficulties", "n_distil", *_SAMPLING),
                 "student": embedded.weights_hash(self.cfg.student)}
        rows = self._dataset("student pool", parts, lambda: self._draw(self.distil(), n, "student", self.cfg.student),
                             Sources._draw)
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
                             Sources.hinted, Sources._draw)

    def repairs(self, rule: str = "entropy", split: str = "distil"):
        """GEAR on the eligible problems: all candidates, accepted (`correct`) or not."""
        self.pool(split)
        switches = [name for name in _GEAR if name not in gear.UNREAD.get(rule, ())]
        parts = {**self.cfg.pick("n_failed", "n_candidates", "eligible_max_correct", *switches, *_SAMPLING),
                 "rule": rule, "pool": self._key(f"pool {split}")}
        return self._dataset(f"repairs {rule} {split}", parts, lambda: self._repair(rule, split),
                             Sources.repairs, Sources.failed, Sources._repair)

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

            out = pure.read(self._engine(self.cfg.teacher), rows, self.cfg.step_delimiter)
            names = ("ppl", "uncertainty", "nll", "entropy", "self_certainty", "n_steps")
            columns = {name: [np.asarray(r[name]).tolist() for r in out] for name in names}
            save_dataset(Dataset.from_dict(columns), folder / "data.parquet")

        return load_dataset(self._stage(f"readings {which} {split}", parts, make, pure, Sources.readings)
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

    # --- plumbing
    def _split_problems(self, split: str) -> list:
        if split == "distil":
            return self.distil()
        return self.problems(split, self.cfg.n_development, self.cfg.difficulties[-1:])  # the hardest

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
            params = self._params(world, difficulty)
            rows += gear.repair(self._engine(cfg.teacher), world, failed, rule=rule, n_candidates=cfg.n_candidates,
                                params=params, seed=cfg.teacher_seed, **cfg.pick(*_GEAR))
        return rows

    def training_tokens(self, row: dict) -> int:
        """What a row costs of the training budget: its prompt and its completion."""
        return length(self._training_row(row))

    def _training_row(self, row: dict) -> dict:
        """Prompt and completion ids with the mask of what is learned; the hint is in neither. Text is tokenised again
        for a student with a vocabulary of its own."""
        writer, reader = stages.engine(self.cfg.student), stages.engine(self.cfg.teacher)
        prompt, ids = writer.prompt(worlds.get(row["world"]).prompt(problem_of(row))), list(row["token_ids"])
        if writer.vocabulary != reader.vocabulary:
            ids = [*writer.encode(row["text"]), writer.tokenizer.eos_token_id]
        return {"input_ids": [*prompt, *ids], "completion_mask": [0] * len(prompt) + [1] * len(ids)}


def length(row) -> int:
    """Tokens of a training row."""
    return len(row["input_ids"])

"""Drawing from a model: problems -> prompts -> samples -> verified rows. What GEAR, the students' rivals and evaluation
all begin with.

    sampled(...)     n samples of each problem: the teacher's pool, or what a student is judged by
    hinted(...)      n samples drawn with the hint from the start, of the problems that the pool shows to be hard
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal_lib import embedded, trajectory, watch, worlds
from heal_lib.engines import SamplingParams, choose

if TYPE_CHECKING:
    from datasets import Dataset

    from heal_lib.embedded.writer import Writer
    from heal_lib.engines import Engine, Sample
    from heal_lib.trajectory import Problem
    from heal_lib.worlds.base import World

HINTED = ("hinted", "repaired")  # sources of rows that were drawn with a hint in context


def sampled(*, benchmarks: Iterable[tuple[str, str]], split: str, n_problems: int, n: int, source: str, model: str,
            engine: str, settings: Mapping[str, Any], seed: int, stage: int | None = None) -> Dataset:
    """n samples of n_problems problems for each (world, difficulty) of `benchmarks`, as a data set of trajectories.

    model: a name or folder; with `stage`, the folder of a student, of which that stage's weights (-1: the last) speak.
    settings: temperature, top_p, max_new_tokens (0: what the world allows)."""
    if stage:
        model = str(Path(model) / f"stage-{stage if stage > 0 else len(list(Path(model).glob('stage-*')))}")
        embedded.model_hash(model)  # a stage that is not there is named
    drawer = watched(model, engine)
    rows = [row for world, level in benchmarks
            for row in draw(drawer, worlds.get(world).problems(split, n_problems, 0, level), n, source=source,
                            settings=settings, seed=seed)]
    return trajectory.to_dataset(rows)


def hinted(*, world: str, pool: Dataset, below: float, n: int, hint: str, model: str, engine: str,
           settings: Mapping[str, Any], seed: int) -> Dataset:
    """n samples drawn with the hint from the start, for the problems of a pool with a share correct below `below`."""
    shares = {key: c / n_drawn for key, (c, n_drawn) in counts(pool).items()}
    problems = {row["problem_id"]: trajectory.problem_of(row) for row in pool.remove_columns(["entropy", "token_ids"])}
    chosen = [problem for key, problem in problems.items() if shares[key] < below]
    return trajectory.to_dataset(draw(watched(model, engine), chosen, n, source="hinted", settings=settings, seed=seed,
                                      hint=hint))


def matched(*, world: str, pool: Dataset, hinted: Dataset, repairs: Dataset, model: str, engine: str,
            settings: Mapping[str, Any], seed: int) -> Dataset:
    """More unhinted samples of every problem of a pool: as many tokens as its hints and repairs cost together."""
    problems = {row["problem_id"]: trajectory.problem_of(row) for row in pool.remove_columns(["entropy", "token_ids"])}
    per_round = sum(pool["n_generated"]) * len(problems) / len(pool)
    n = max(1, round((sum(hinted["n_generated"]) + sum(repairs["n_generated"])) / per_round))
    return trajectory.to_dataset(draw(watched(model, engine), list(problems.values()), n, source="matched",
                                      settings=settings, seed=seed))


def counts(pool: Dataset) -> dict[str, tuple[int, int]]:
    """problem id -> (c, N): samples that are correct, and all."""
    drawn, correct = Counter(pool["problem_id"]), Counter()
    for key, right in zip(pool["problem_id"], pool["correct"], strict=True):
        correct[key] += int(right)
    return {key: (correct[key], n) for key, n in drawn.items()}


def draw(drawer: Engine | Writer, problems: Iterable[Problem], n: int, *, source: str, settings: Mapping[str, Any],
         seed: int, hint: str = "") -> list[dict[str, Any]]:
    """n rows per problem, world by world and difficulty by difficulty (they share a length limit)."""
    rows, groups = [], {}
    for problem in problems:
        groups.setdefault((problem.world, problem.difficulty), []).append(problem)
    for (name, level), group in groups.items():
        world = worlds.get(name)
        if name == "math" and not drawer.tokenizer.chat_template:
            warnings.warn("math: a model without a chat template is given each question as plain text; an instruct "
                          "model is expected", stacklevel=2)
        hints = [drawer.encode(world.told(p, hint)) if hint else [] for p in group]
        prompts = [[*drawer.prompt(world.prompt(p)), *told] for p, told in zip(group, hints, strict=True)]
        draws = drawer.sample(prompts, n, params(world, level, settings), seed, [f"{source}/{p.id}" for p in group])
        rows += [candidate_row(drawer, world, p, draw, source=source, sample=j)
                 for p, samples in zip(group, draws, strict=True) for j, draw in enumerate(samples)]
    return rows


def watched(model: str, engine: str = "hf") -> Engine:
    """The engine around a model, its long calls showing how far they are."""
    return watch.engine(choose.engine(model, engine))


def params(world: World, level: str, settings: Mapping[str, Any]) -> SamplingParams:
    """How samples of a world's difficulty are drawn."""
    longest = settings["max_new_tokens"] or world.longest(level)
    return SamplingParams(longest, settings["temperature"], top_p=settings["top_p"])


def accepts(world: World, problem: Problem, sample_text: str, finished: bool, after_hint: str = "") -> bool:
    """A sample counts if it ends properly and verifies; the part drawn after a hint must not speak of it either [S]."""
    return finished and world.verify(problem, sample_text) and not world.speaks_of_hint(after_hint)


def candidate_row(engine: Engine | Writer, world: World, problem: Problem, draw: Sample, *, source: str, sample: int,
                  kept: Sequence[int] = (), parent: int = -1, breakpoint: int = -1) -> dict[str, Any]:
    """A data-set row from one draw; `kept` tokens are put before it, no hint is in it.

    `source` tells whether a hint was given: for those of HINTED it was."""
    ids = [*kept, *draw.token_ids]
    text = "".join(engine.pieces(ids))
    report = world.check_steps(problem, text)
    ended = draw.finished and ("</think>" in text or not getattr(engine, "opens_thought", False))
    return {
        "problem_id": problem.id, "world": problem.world, "difficulty": problem.difficulty,
        "question": problem.question, "answer": problem.answer, "source": source, "sample": sample,
        "parent": parent, "n_kept": len(kept), "breakpoint": breakpoint, "token_ids": ids,
        "entropy": draw.entropy, "text": text, "finished": draw.finished,
        "correct": bool(accepts(world, problem, text, ended, draw.text if source in HINTED else "")),
        "genuine": -1 if report is None else int(report.genuine), "n_generated": len(draw.token_ids),
    }

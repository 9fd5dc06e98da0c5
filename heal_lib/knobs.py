"""When is the break where the entropy is? The map over a teacher's knobs, in `registers`, without a model.

    Habit -> Writer -> pool, failed texts, repairs by cut -> hits and yields       a cell, for every pair of values

The writer (`embedded.writer`) writes exactly as its habit says, so its entropy is known exactly: that of its own next
token, unprompted. What it cannot give is the perplexity of a shortcut: it never calculates wrongly by itself, so a
false step has probability 0 and every reading of PURE is trivially right. PURE is left out of the map [R]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from heal_lib import analysis, cuts, gear, sampling, stats, worlds
from heal_lib.embedded.writer import Writer
from heal_lib.trajectory import to_dataset
from heal_lib.worlds.registers import Habit

if TYPE_CHECKING:
    from datasets import Dataset

LEVEL = "hard"
RULES = ("entropy", "start", "permuted", "fixed", "oracle")
# Each knob's default is among its values, so a map's row through it shows the other knob alone.
VALUES = {"confident": (0.5, 0.7, 0.9, 1.0), "hazard": (0.0, 0.08, 0.2, 0.4), "late": (0.0, 0.5, 0.8, 0.95),
          "free": (0.0, 0.3, 0.6, 1.0)}
ENDS = {"confident": (0.7, 1.0), "hazard": (0.08, 0.4), "late": (0.0, 0.95), "free": (0.0, 1.0)}  # for a trial
WORDS = {"confident": "how sure wrong forks are", "hazard": "chance of a shortcut", "late": "how far forks are put off",
         "free": "freedom of order"}
MAPS = (("confident", "hazard"), ("late", "free"))
RATIOS = {"over_start": ("entropy", "start"), "over_permuted": ("entropy", "permuted"),
          "over_fixed": ("entropy", "fixed"), "oracle_over_start": ("oracle", "start"),
          "oracle_over_entropy": ("oracle", "entropy")}
SETTINGS = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 0}


def chart(*, world: str, values: Mapping[str, Sequence[Any]], **sizes: Any) -> Dataset:
    """A data set with the rows of every cell of one map; `values`: {knob: its values}, of two knobs. `sizes`: see
    `cell`."""
    from datasets import Dataset

    (x, xs), (y, ys) = values.items()
    return Dataset.from_list([{"x": a, "y": b, **row} for a in xs for b in ys
                              for row in cell(world, Habit(**{x: a, y: b}), **sizes)])


def cell(world: str, habit: Habit, *, n_problems: int, n_samples: int, n_failed: int, n_candidates: int,
         eligible_max_correct: int, backoff: int, seed: int, **where: Any) -> list[dict[str, Any]]:
    """What a writer of that habit gives, a row per eligible problem: its failed texts (`n`), in how many of them the
    breakpoint is the oracle's break (`hits`), how many of the others' breakpoints would be (`permuted`), and for each
    cut rule genuine repairs and tokens drawn. `where`: window, window_unit, surge."""
    it, writer = worlds.get(world), Writer(habit)
    problems = it.problems("development", n_problems, 0, LEVEL)
    pool = to_dataset(sampling.draw(writer, problems, n_samples, source="sampled", settings=SETTINGS, seed=seed))
    failed = [row for rows in gear.failed(pool, n_failed, eligible_max_correct, seed).values() for row in rows]
    found = analysis.breakpoints(writer, failed, SimpleNamespace(step_delimiter="", **where))
    rows: dict[str, dict] = {}
    for f, hit, (chance, _) in zip(found, analysis.hits(found, 0)[:, 0], cuts.elsewhere(found, 0), strict=True):
        row = rows.setdefault(f["problem_id"], dict.fromkeys(["problem_id", "n", "hits", "permuted", *_columns()], 0.0))
        row |= {"problem_id": f["problem_id"], "n": row["n"] + 1, "hits": row["hits"] + hit,
                "permuted": row["permuted"] + chance}
    for rule in RULES:
        for repair in gear.repair(writer, it, failed, rule=rule, n_candidates=n_candidates, seed=seed, backoff=backoff,
                                  params=sampling.params(it, LEVEL, SETTINGS), **where):
            rows[repair["problem_id"]][f"genuine {rule}"] += repair["correct"] and repair["genuine"] == 1
            rows[repair["problem_id"]][f"tokens {rule}"] += repair["n_generated"]
    return list(rows.values())


def _columns() -> list[str]:
    return [f"{what} {rule}" for rule in RULES for what in ("genuine", "tokens")]


def table(rows: pd.DataFrame, x: str, y: str, *, n_boot: int) -> pd.DataFrame:
    """One line per cell of a map (rows of `chart`): share of hits and its chance by position, hits minus chance
    (`gain`), genuine repairs per 1,000 tokens by cut rule, and ratios of these, with 95 % intervals over problems."""
    lines = []
    for (a, b), part in rows.groupby(["x", "y"]):
        hits, chance = (part[name] / part["n"] for name in ("hits", "permuted"))
        line = {x: a, y: b, "n_problems": len(part), "n_trajectories": int(part["n"].sum())}
        line |= stats.named("hit", stats.bootstrap_mean(hits, n_boot=n_boot)) | {"chance": chance.mean()}
        line |= stats.named("gain", stats.paired_bootstrap(hits, chance, n_boot=n_boot))
        per_token = {rule: (part[f"genuine {rule}"], part[f"tokens {rule}"]) for rule in RULES}
        line |= {f"per_1000_{rule}": 1000 * top.sum() / below.sum() for rule, (top, below) in per_token.items()}
        for name, (rule, against) in RATIOS.items():
            line |= stats.named(name, cuts.relative(per_token[rule], per_token[against], n_boot=n_boot))
        lines.append(line)
    return pd.DataFrame(lines)


def alone(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The cells in which a knob of unprompted text is varied and the other keeps its default, with the columns `knob`
    and `value`."""
    usual, parts = Habit(), []
    for (x, y), cells in zip(MAPS, tables, strict=True):
        for knob, other in ((x, y), (y, x)):
            if knob == "hazard":  # a knob of hinted text, of which breaks and entropies know nothing
                continue
            part = cells[np.isclose(cells[other], getattr(usual, other))]
            parts.append(part.assign(knob=knob, value=part[knob]).drop(columns=[x, y]))
    return pd.concat(parts, ignore_index=True)

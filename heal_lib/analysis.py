"""What several notebooks measure: intervals over problems, where trajectories break, and how both are said.

    hit:     |breakpoint - oracle's first wrong or fruitless step| <= slack steps              [R]
    chance:  share of the steps of a range that would hit, i.e. a breakpoint drawn evenly       [R]

Problems are the unit of every interval: trajectories of one problem resemble each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from heal_lib import entropy, gear, stats, worlds
from heal_lib.errors import HealError, as_floats
from heal_lib.trajectory import problem_of

if TYPE_CHECKING:
    import pandas as pd

    from heal_lib.embedded.writer import Writer
    from heal_lib.engines import Engine
    from heal_lib.scales import Scale

Row: TypeAlias = dict[str, Any]  # of a data set, or of what is found of one


def weights(n_problems: int, n_boot: int, seed: int) -> np.ndarray:
    """How often each problem is drawn in each resample: [n_boot, n_problems], rows sum to n_problems."""
    return np.random.default_rng(seed).multinomial(n_problems, np.full(n_problems, 1 / n_problems), n_boot)


def bootstrap_ratio(numerator: ArrayLike, denominator: ArrayLike, *, n_boot: int = 2000, seed: int = 0,
                    level: float = 0.95) -> tuple[Any, ...]:
    """(ratio, low, high) of sum(numerator) / sum(denominator) with whole problems resampled.

    Both [n_problems], or [n_problems, m] for m ratios (a curve) from the same draws; then three arrays [m].
    NaN where no problem has a denominator; resamples without one are left out. A share that is 0 or 1 in every problem
    has the exact interval (`stats.exact`): denominators must count trials then. HealError on NaN or no problem.
    """
    top, below = as_floats(numerator, "numerator"), as_floats(denominator, "denominator")
    if top.shape != below.shape or top.ndim not in (1, 2) or len(top) == 0:
        raise HealError(f"bootstrap_ratio: shapes {top.shape}, {below.shape}; pass one row per problem, at least one")
    w, outside = weights(len(top), n_boot, seed), [(1 - level) / 2, (1 + level) / 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn, ratio = (w @ top) / (w @ below), top.sum(0) / below.sum(0)
    defined = np.isfinite(ratio)
    low, high = np.nanquantile(np.where(defined, drawn, 0.0), outside, axis=0)
    low, high = _exact_ends(top, below, ratio, low, high, level)
    return tuple(np.where(defined, x, np.nan)[()] for x in (ratio, low, high))  # [()]: floats, where there is no m


def _exact_ends(top, below, ratio, low, high, level):
    """(low, high) of `bootstrap_ratio`, exact where no problem differs from 0, or none from 1."""
    low, high, ratio = (np.array(x, dtype=float) for x in (low, high, ratio))
    for value in (0.0, 1.0):
        for i in np.argwhere((ratio == value) & ((top >= 0) & (top <= below)).all(0)):
            at = tuple(i)
            _, low[at], high[at] = stats.exact(value, int((below[(slice(None), *at)] > 0).sum()), level=level)
    return low, high


def mean_curve(table: ArrayLike, **bootstrap: Any) -> tuple[Any, ...]:
    """(mean, low, high), each [m], of the columns of a table [n_problems, m]; NaN cells are skipped."""
    table = np.asarray(table, dtype=float)
    return bootstrap_ratio(np.nan_to_num(table), ~np.isnan(table), **bootstrap)


def aligned(curves: Sequence[np.ndarray], at: Sequence[int], before: int = 3, after: int = 6) -> np.ndarray:
    """Curves of different lengths as one table [n, before + 1 + after]: column `before` is step at[i] of curve i.

    NaN beyond a curve's ends. `at`: 0-based step indices."""
    table = np.full((len(curves), before + 1 + after), np.nan)
    for row, curve, zero in zip(table, curves, at, strict=True):
        first, last = max(0, zero - before), min(len(curve), zero + after + 1)
        row[first - zero + before : last - zero + before] = curve[first:last]
    return table


def by_world(read: Callable[..., Iterable[Any]], readers: Mapping[str, Engine], rows: Iterable[Row],
             cfg: Scale) -> list[Any]:
    """What `read(engine, rows, cfg)` gives for the rows of each world, one world after the other. `readers`: {world:
    the engine that reads its texts} (`teacher.reader`), for families of worlds have words of their own."""
    rows = list(rows)
    return [found for world, engine in readers.items()
            for found in read(engine, [row for row in rows if row["world"] == world], cfg)]


def step_entropy(engine: Engine, row: Row, parent: Row | None = None, delimiter: str = "") -> np.ndarray:
    """Mean entropy of each step at the moment of drawing, [K] nats; `parent`: the row whose tokens were kept.

    What a repair drew, it drew with the hint in context."""
    kept = list(parent["entropy"][: row["n_kept"]]) if parent else []
    spans = worlds.get(row["world"]).spans(engine.pieces(row["token_ids"]), delimiter)
    return entropy.step_means([*kept, *row["entropy"]], spans)


def breakpoints(engine: Engine | Writer, rows: Iterable[Row], cfg: Any) -> list[Row]:
    """One dict per trajectory of two steps or more: its step entropy, GEAR's breakpoint and what it is held against.

    Keys: problem_id, world, difficulty, step_entropy [K], n_steps, breakpoint, stop (one past the last step of the
    window), first_break (the oracle's, 0-based; None where it finds none)."""
    found = []
    for row in rows:
        world = worlds.get(row["world"])
        spans = world.spans(engine.pieces(row["token_ids"]), cfg.step_delimiter)
        h = entropy.step_means(row["entropy"], spans)
        unit = {"window_unit": cfg.window_unit, "step_lengths": [end - start for start, end in spans]}
        at = gear.find_breakpoint(h, cfg.window, surge=cfg.surge, **unit)
        if at is None:
            continue
        report = world.check_steps(problem_of(row), row["text"])
        found.append({**{name: row[name] for name in ("problem_id", "world", "difficulty")}, "step_entropy": h,
                      "n_steps": len(h), "breakpoint": at,
                      "stop": min(len(h), gear.window_stop(len(h), cfg.window, **unit)),
                      "first_break": None if report is None else report.first_break()})
    return found


def hit_chance(target: int, start: int, stop: int, slack: int = 1) -> float:
    """Chance that a step drawn evenly from start .. stop - 1 lies within `slack` steps of `target`."""
    if stop <= start:
        raise HealError(f"hit_chance: no step in {start}..{stop - 1}; leave out trajectories of one step")
    return max(0, min(stop, target + slack + 1) - max(start, target - slack)) / (stop - start)


def hits(found: Iterable[Row], slack: int) -> np.ndarray:
    """[n, 3] from `breakpoints` with a first break: hit (0 or 1), its chance in the window, and over the trace."""
    rows = [(abs(f["breakpoint"] - f["first_break"]) <= slack, hit_chance(f["first_break"], 1, f["stop"], slack),
             hit_chance(f["first_break"], 1, f["n_steps"], slack)) for f in found]
    return np.array(rows, dtype=float).reshape(-1, 3)


def said(row: Mapping[str, Any] | pd.Series, mean: str = "mean", low: str = "ci_low", high: str = "ci_high",
         digits: int = 2) -> str:
    """An estimate with its interval, in words, from a table's row: "0.52 [0.41, 0.63]"."""
    return f"{row[mean]:.{digits}f} [{row[low]:.{digits}f}, {row[high]:.{digits}f}]"


def told(row: Mapping[str, Any] | pd.Series, low: str = "diff_low", high: str = "diff_high") -> str:
    """What an interval of a difference says: "better", "worse" or that it includes zero."""
    return "better" if row[low] > 0 else "worse" if row[high] < 0 else "no difference shown (the interval includes 0)"

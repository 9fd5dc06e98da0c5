"""What notebook 02 measures: whether breakpoints hit the break more often than their positions alone do, what every cut
and every hint yields, and the gates of a world that judges GEAR.

    permuted: share of the breakpoints of its world and level, its own included, that would hit a trajectory's break [R]
    fixed:    whether their median hits it                                                                           [R]

In published work position alone predicts where a teacher fails better than local uncertainty does: hence these two."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from heal_lib import analysis, embedded, stats, teacher, worlds

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import ArrayLike

    from heal_lib.scales import Scale

CHANCES = ("window", "trajectory", "permuted", "fixed")
HINTS = ("answer", "first_step", "wrong", "none")
RATIOS = {"repair_rate": ("accepted", "candidates"), "genuine_rate": ("good", "candidates"),
          "genuine_share": ("good", "accepted"), "unique_share": ("unique", "good"),
          "tokens_per_accepted": ("accepted", "tokens"), "tokens_per_genuine": ("good", "tokens")}
DRAWN = ("problem_id", "world", "difficulty", "correct", "genuine", "n_generated", "text")


def elsewhere(found: Sequence[dict[str, Any]], slack: int) -> np.ndarray:
    """[n, 2] from `analysis.breakpoints` with a first break: the chances `permuted` and `fixed`. A breakpoint beyond a
    trajectory's end is its last step, as when it is cut there."""
    out, groups = np.zeros((len(found), 2)), [(f["world"], f["difficulty"]) for f in found]
    for group in set(groups):
        mine = [i for i, other in enumerate(groups) if other == group]
        at = np.array([found[i]["breakpoint"] for i in mine])
        middle = statistics.median_low(at.tolist())
        for i in mine:
            near = np.abs(np.minimum([*at, middle], found[i]["n_steps"] - 1) - found[i]["first_break"]) <= slack
            out[i] = near[:-1].mean(), near[-1]
    return out


def breaks(found: Sequence[dict[str, Any]], *, n_boot: int) -> pd.DataFrame:
    """One row per world and slack (0 and 1 steps): share of breakpoints that hit the oracle's break (`mean`), each
    chance, and hit minus chance, with intervals over problems. `found`: from `analysis.breakpoints`."""
    broken, rows = [f for f in found if f["first_break"] is not None], []
    for world in dict.fromkeys(f["world"] for f in broken):
        mine = [f for f in broken if f["world"] == world]
        for slack in (0, 1):
            each = np.hstack([analysis.hits(mine, slack), elsewhere(mine, slack)])
            each = pd.DataFrame(each).groupby([f["problem_id"] for f in mine]).mean().to_numpy()
            row = [world, slack, len(mine), len(each), *stats.bootstrap_mean(each[:, 0], n_boot=n_boot)]
            for chance in each.T[1:]:
                row += [chance.mean(), *stats.paired_bootstrap(each[:, 0], chance, n_boot=n_boot)]
            rows.append(row)
    names = ["world", "slack", "n_trajectories", "n_problems", "mean", "ci_low", "ci_high"]
    names += [f"{what}_{name}" for name in CHANCES for what in ("chance", "gain", "gain_low", "gain_high")]
    return pd.DataFrame(rows, columns=names)


def yields(data: Mapping[str, Dataset], name: str, *, n_boot: int) -> pd.DataFrame:
    """What repairs yield: one row per world, key of `data` and metric of RATIOS, with intervals over problems.

    data: {cut or hint: data set of repairs}, the first being what the others are held against; `name`: the column of
    the keys. The columns "first_minus_this", "diff_low", "diff_high" are of the rates (shares of all candidates).
    Tokens per accepted (or genuine) repair are the inverse of such repairs per token, interval and all; the columns
    "first_over_this", "over_low", "over_high" are of repairs per token: above 1 where the first needs fewer tokens for
    one (`relative`). Missing (NaN) unless both have one."""
    draws = pd.concat([rows.select_columns(list(DRAWN)).to_pandas().assign(key=key) for key, rows in data.items()],
                      ignore_index=True)
    draws["good"] = draws["correct"] & (draws["genuine"] == 1)
    draws["unique"] = draws["good"] & ~draws.duplicated(["key", "problem_id", "text", "good"])
    totals = draws.assign(candidates=1).groupby(["world", "key", "problem_id"], sort=False).agg(
        accepted=("correct", "sum"), good=("good", "sum"), unique=("unique", "sum"), tokens=("n_generated", "sum"),
        candidates=("candidates", "sum"))
    parts, first, rows = dict(list(totals.groupby(level=["world", "key"], sort=False))), next(iter(data)), []
    for (world, key), part in parts.items():
        for metric, (top, below) in RATIOS.items():
            ratio = (tokens_per(part, top, n_boot=n_boot) if below == "tokens" else
                     analysis.bootstrap_ratio(part[top], part[below], n_boot=n_boot))
            difference: tuple[float, ...] = (np.nan,) * 3
            over: tuple[float, ...] = (np.nan,) * 3
            both = [parts[world, first], part] if (world, first) in parts else []
            if both and metric.endswith("_rate"):
                each = [(t[top] / t[below]).to_numpy() for t in both]
                difference = (0.0,) * 3 if key == first else stats.paired_bootstrap(*each, n_boot=n_boot)
            if both and below == "tokens" and all(t[top].any() for t in both):
                pairs = [(t[top], t[below]) for t in both]
                over = (1.0,) * 3 if key == first else relative(*pairs, n_boot=n_boot)
            rows.append((world, key, metric, len(part), part["candidates"].sum(), *ratio, *difference, *over))
    return pd.DataFrame(rows, columns=["world", name, "metric", "n_problems", "n_candidates", "mean", "ci_low",
                                       "ci_high", "first_minus_this", "diff_low", "diff_high", "first_over_this",
                                       "over_low", "over_high"])


def tokens_per(part: pd.DataFrame, top: str, *, n_boot: int) -> tuple[float, float, float]:
    """(tokens for one of `top`, low, high) from a row per problem with the columns `top`, tokens and candidates. Where
    there is none, the exact interval is of its share of the candidates, which problems bound; tokens are no trials."""
    some = part[top].any()
    ratio = analysis.bootstrap_ratio(part[top], part["tokens" if some else "candidates"], n_boot=n_boot)
    with np.errstate(divide="ignore"):
        mean, low, high = (1 if some else part["tokens"].sum() / part["candidates"].sum()) / np.array(ratio, float)
    return mean, high, low


def relative(a: Sequence[ArrayLike], b: Sequence[ArrayLike], *, n_boot: int,
             seed: int = 0) -> tuple[float, float, float]:
    """(ratio, low, high), 95 %, of two ratios of sums, whole problems resampled: a and b are pairs (numerator,
    denominator), [n_problems] each. NaN where b has no numerator; draws in which it has none are left out."""
    columns = np.stack([np.asarray(x, dtype=float) for x in (*a, *b)], 1)
    drawn = analysis.weights(len(columns), n_boot, seed) @ columns
    with np.errstate(invalid="ignore", divide="ignore"):
        value, *others = (x[..., 0] * x[..., 3] / (x[..., 1] * x[..., 2]) for x in (columns.sum(0), drawn))
    others = others[0][np.isfinite(others[0])]
    if not np.isfinite(value) or not len(others):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(others, [0.025, 0.975])
    return float(value), float(low), float(high)


def gates(cfg: Scale) -> pd.DataFrame:
    """The gates of the worlds that are to judge GEAR, from their teacher's card: value, bounds, and whether it lies
    within. The worlds of the first family have none of them: they are mechanism checks."""
    rows = []
    for world in cfg.worlds:
        card = embedded.folder(teacher.model_of(cfg, world)) / "card.json"
        if worlds.get(world).family and card.is_file():
            rows += [[world, gate, *found] for gate, found in json.loads(card.read_text()).get("gates", {}).items()]
    return pd.DataFrame(rows, columns=["world", "gate", "value", "low", "high", "met"])

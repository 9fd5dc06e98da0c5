"""Intervals and detection scores: arrays in, numbers out; nothing here draws a plot.

    x[p, s]: score of problem p under seed s
    mean*   = sum_ps w_p x[p, s] v_s / (P S)      w_p, v_s: how often problem p and seed s are drawn

Problems and seeds are both samples of something larger, so both are resampled (the "pigeonhole" bootstrap, Owen 2007,
doi 10.1214/07-AOAS122). Draws of n vary by (n - 1) / n of what means of n do, two thirds for three seeds, so what
problems and seeds deviate by is stretched by sqrt(n / (n - 1)) first (Rao and Wu 1988, doi 10.2307/2288945), and by
Student's t over the normal quantile: n say how wide they spread with n - 1 degrees of freedom only, which for three
seeds is 2.2. What a problem and a seed do only together is counted three times over. Where the truth is "no difference"
an interval excludes it in at most 5 % of the cases, with 2 seeds or 10, whichever of the two it hangs on [simulated].
scipy.stats.bootstrap resamples along one axis, so it cannot do this; the weighted form above can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from heal_lib.errors import HealError, as_floats

CHUNK = 1 << 21  # numbers held at a time while resampling (16 MB)


def _table(scores, name):
    """Scores as [n_problems, n_seeds]; a vector over problems is one seed."""
    table = as_floats(scores, name)
    if table.ndim not in (1, 2) or table.size == 0:
        raise HealError(f"{name}: shape {table.shape}; pass [n_problems] or [n_problems, n_seeds], not empty")
    return table.reshape(len(table), -1)


def _stretch(n, level):
    """How much wider than their draws n problems, or n seeds, leave a mean in doubt; 1 for one, which says nothing."""
    beyond = (1 - level) / 2
    return np.sqrt(n / (n - 1)) * stats.t.isf(beyond, n - 1) / stats.norm.isf(beyond) if n > 1 else 1.0


def _stretched(table, level):
    """The table [n_problems, n_seeds], its problems' and its seeds' means `_stretch` as far from the mean."""
    for axis, n in enumerate(table.shape):
        deviation = table.mean(1 - axis, keepdims=True) - table.mean()
        table = table + (_stretch(n, level) - 1) * deviation
    return table


def _resampled_means(table, n_boot, seed, level=0.95):
    """[n_boot] means of a table [n_problems, n_seeds] whose problems and seeds are drawn again."""
    table, (n_problems, n_seeds) = _stretched(table, level), table.shape
    # Two streams, so that the numbers do not depend on the chunking.
    problem_rng, seed_rng = np.random.default_rng(seed).spawn(2)
    chunk = max(1, CHUNK // (n_problems + n_seeds))
    means = []
    for start in range(0, n_boot, chunk):
        size = min(chunk, n_boot - start)
        w = problem_rng.multinomial(n_problems, np.full(n_problems, 1 / n_problems), size)
        v = seed_rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size)
        means.append(((w @ table) * v).sum(axis=1) / table.size)
    return np.concatenate(means)


def bootstrap_mean(scores: ArrayLike, *, n_boot: int = 2000, seed: int = 0,
                   level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high): percentile interval of the mean over problems and seeds.

    `scores`: [n_problems, n_seeds], or [n_problems] for one seed. The same `seed` gives the same interval.
    Where every cell is 0, or every cell 1, no resample differs, and the interval is the exact one (`exact`).
    With a handful of seeds the interval says little about seeds. HealError on NaN and on an empty table.
    """
    table = _table(scores, "scores")
    if n_boot < 1 or not 0 < level < 1:
        raise HealError(f"n_boot={n_boot}, level={level}: needs n_boot >= 1 and 0 < level < 1")
    if (table == 0).all() or (table == 1).all():
        return exact(table[0, 0], len(table), level=level)
    return _percentile(table, n_boot, seed, level)


def bootstrap_share(part: ArrayLike, whole: ArrayLike, *, n_boot: int = 2000,
                    seed: int = 0) -> tuple[float, float, float]:
    """(share, low, high), 95 %, of sum(part) / sum(whole) over problems and seeds, where `whole` differs between cells.

    Both [n_problems, n_seeds], 0 <= part <= whole. What is resampled (`bootstrap_mean`) is the mean of `cell_shares`.
    NaN where `whole` is 0 throughout; where the share is 0 or 1, the exact interval for the problems that have a
    whole."""
    top, below = _table(part, "part"), _table(whole, "whole")
    if top.shape != below.shape or (top < 0).any() or (top > below).any():
        raise HealError(f"bootstrap_share: shapes {top.shape}, {below.shape}; pass parts of wholes, cell by cell")
    if not below.any():
        return float("nan"), float("nan"), float("nan")
    share = top.sum() / below.sum()
    if share in (0, 1):
        return exact(share, int(below.any(1).sum()))
    _, *ends = bootstrap_mean(cell_shares(top, below), n_boot=n_boot, seed=seed)
    low, high = np.clip(ends, 0, 1)
    return float(share), float(low), float(high)


def cell_shares(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    """Cells whose mean is sum(part) / sum(whole), and moves as that does, to first order, where problems and seeds are
    drawn again: share + (part - share whole) / mean(whole). All [n_problems, n_seeds]; a part may be negative."""
    top, below = _table(part, "part"), _table(whole, "whole")
    share = top.sum() / below.sum()
    return share + (top - share * below) / below.mean()


def _percentile(table, n_boot, seed, level=0.95):
    ends = np.quantile(_resampled_means(table, n_boot, seed, level), [(1 - level) / 2, (1 + level) / 2])
    low, high = np.clip(ends, table.min(), table.max())  # stretched, a draw may leave what scores can be
    return float(table.mean()), float(low), float(high)


def exact(value: float, n: int, least: float = 0.0, *, level: float = 0.95) -> tuple[float, float, float]:
    """(value, low, high) of a mean over n independent problems, all of which gave `value`, scores being least .. 1.

    At most the share q = 1 - (alpha / 2)^(1 / n) of problems gives anything else (Clopper and Pearson 1934)."""
    q = stats.binomtest(0, n).proportion_ci(level).high
    return float(value), float(value - q * (value - least)), float(value + q * (1 - value))


def paired_bootstrap(a: ArrayLike, b: ArrayLike, *, n_boot: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """(difference, low, high) of mean(a) - mean(b), 95 %, a and b measured on the same problems and seeds.

    Arrays of one shape, [n_problems] or [n_problems, n_seeds]. Means are linear, so resampling both with the
    same indices is resampling their difference. Where they differ in no cell, or in each by 1, no draw would vary, and
    the interval is the exact one for the share of problems on which they differ otherwise (`exact`). HealError on NaN
    and on different shapes.
    """
    table = _table(_paired(a, b), "scores")
    if (table == table[0, 0]).all() and table[0, 0] in (-1, 0, 1):
        return exact(table[0, 0], len(table), -1.0)
    return _percentile(table, n_boot, seed)


def paired_p(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p-value of "mean(a) = mean(b)": the p at which an interval whose half-width h is

        h^2 = (t_p[n_problems - 1] se_problems)^2 + (t_p[n_seeds - 1] se_seeds)^2

    just reaches zero, t_p being Student's quantile at 1 - p / 2 [R]. So few seeds can say little, however much they
    agree, and many problems say what they can. In simulation p is at most as small as it should be, down to .002, for 3
    to 10 seeds. Where the differences do not vary it is a sign test over the problems."""
    table = _table(_paired(a, b), "differences")
    far, errors = abs(table.mean()), _errors(table)
    if not any(se for se, _ in errors):
        return float(min(1.0, 2 * 0.5 ** len(table))) if far else 1.0

    def beyond(log_p):
        return far - np.sqrt(sum((se * stats.t.isf(np.exp(log_p) / 2, df)) ** 2 for se, df in errors))

    least = np.log(1e-12)
    return float(np.exp(optimize.brentq(beyond, least, 0.0))) if beyond(least) < 0 < far else 1e-12 if far else 1.0


def _errors(table):
    """[(standard error, degrees of freedom)] of a table's mean, over its problems and over its seeds; of one of them
    none. What only rounding spreads does not: equal tenths have means that differ in their last bit."""
    found = [(table.mean(1 - axis).std(ddof=1) / np.sqrt(n), n - 1) for axis, n in enumerate(table.shape) if n > 1]
    return [(se if se > 1e-12 * np.abs(table).max() else 0.0, df) for se, df in found]


def _paired(a, b):
    a, b = as_floats(a, "a"), as_floats(b, "b")
    if a.shape != b.shape:
        raise HealError(f"paired_bootstrap: shapes {a.shape}, {b.shape}; use the same problems and seeds")
    return a - b


# --- across benchmarks (Agarwal et al. 2021, "rliable"): one score per run and task, x[s, t]
def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all runs on all tasks, [n_runs, n_tasks] (or any shape) to a float."""
    return float(stats.trim_mean(as_floats(scores, "scores"), 0.25, axis=None))


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float:
    """Chance that a run of a beats a run of b (ties half), averaged over tasks: [n_runs, n_tasks] each."""
    a, b = as_floats(a, "a"), as_floats(b, "b")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise HealError(f"probability_of_improvement: shapes {a.shape}, {b.shape}; pass [n_runs, n_tasks] of one width")
    return float(((a[:, None] > b) + (a[:, None] == b) / 2).mean())


def bootstrap_runs(measure: Callable[..., float], *scores: ArrayLike, n_boot: int = 2000, seed: int = 0,
                         level: float = 0.95) -> tuple[float, float, float]:
    """(value, low, high) of measure(*scores), 0 to 1, each [n_runs, n_tasks]; whole runs are drawn again, for a run's
    tasks share a student, and the interval is stretched for their number as that of a mean is (`_stretch`).

    Low and high are NaN where no draw differs: a few runs that agree say nothing about others."""
    tables = [_table(x, "scores") for x in scores]
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(n_boot):
        drawn.append(measure(*(x[rng.integers(0, len(x), len(x))] for x in tables)))
    value, outside = measure(*tables), [(1 - level) / 2, (1 + level) / 2]
    ends = np.quantile(drawn, outside) if np.ptp(drawn) else np.full(2, np.nan)
    low, high = np.clip(value + _stretch(min(map(len, tables)), level) * (ends - value), 0, 1)
    return value, float(low), float(high)


def minimum_detectable_effect(diffs: ArrayLike, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true mean difference that `paired_p` puts below `alpha` with chance `power`, about.

    `diffs`: paired differences [n_problems] or [n_problems, n_seeds]; the answer has their unit. As wide as the
    interval of `paired_p` with t_alpha + t_power for its quantiles. NaN where nothing spreads, as with one problem:
    then nothing says how small an effect would show."""
    table = _table(diffs, "diffs")
    if len(table) < 2:
        return float("nan")
    wide = [se * (stats.t.isf(alpha / 2, df) + stats.t.ppf(power, df)) for se, df in _errors(table)]
    return float(np.sqrt(np.square(wide).sum() or np.nan))


def _detection(scores, labels):
    """(scores, labels as bool); refuses other labels than 0 and 1, for -1 is "no oracle", not "negative"."""
    scores, labels = as_floats(scores, "scores"), as_floats(labels, "labels")
    if scores.ndim != 1 or scores.shape != labels.shape or not np.isin(labels, (0, 1)).all():
        raise HealError("labels: need one 0 or 1 per score; drop the rows without an oracle (-1) first")
    return scores, labels == 1


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Chance that a positive outscores a negative (ties half): [n] and [n] of 0/1; NaN without both."""
    values, positive = _detection(scores, labels)
    if positive.all() or not positive.any():
        return float("nan")
    u = stats.mannwhitneyu(values[positive], values[~positive], method="asymptotic").statistic
    return float(u / (positive.sum() * (~positive).sum()))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Sum over thresholds of precision x recall gained; ties share a threshold. NaN without a positive."""
    values, positive = _detection(scores, labels)
    if not positive.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(values[order][1:] != values[order][:-1], True)
    hits = np.cumsum(positive[order])[last_of_tie]
    precision = hits / (np.flatnonzero(last_of_tie) + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / positive.sum())


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's step-down adjusted p-values [m], to compare with alpha (scipy has none but FDR)."""
    p = as_floats(p_values, "p-values")
    if p.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise HealError("p-values: need a vector of numbers from 0 to 1")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def named(name: str, estimate: Iterable[float]) -> dict[str, float]:
    """An estimate (value, low, high) as columns of a table: `name`, `name`_low and `name`_high."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))

"""What notebooks 00-03 measure on trajectories: where they break, how well a reading of PURE tells them apart.

    hit:     |breakpoint - oracle's first wrong or fruitless step| <= slack steps              [R]
    chance:  share of the steps of a range that would hit, i.e. a breakpoint drawn evenly       [R]

Problems are the unit of every interval: trajectories of one problem resemble each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata, spearmanr

from heal_lib import entropy, gear, pure, stats, worlds
from heal_lib.errors import HealError, as_floats
from heal_lib.trajectory import problem_of

if TYPE_CHECKING:
    import pandas as pd

    from heal_lib.embedded.writer import Writer
    from heal_lib.engines import Engine
    from heal_lib.scales import Scale

Row: TypeAlias = dict[str, Any]  # of a data set, or of what is found of one

READINGS = {f"ratio {how}, U {when}": (how, when) for when in ("before", "after") for how in ("mean", "max", "top3")}
PLUS, PLUS_FORM, ORACLE = "pure+", "ln PPL / (U after + 1)", "oracle"
LOOK = "regular expression"  # the world's own, for what its shortcuts look like
CONTROLS = ("certainty before", "certainty after", "mean NLL", "max step PPL", "min-token probability", "token entropy",
            "self-certainty", "length", LOOK, "random")
ALL_READINGS = (*READINGS, PLUS, *CONTROLS, ORACLE)
DETECTION = ("reading", "auroc", "ci_low", "ci_high", "average_precision", "kept", "genuine_kept", "kept_genuine",
             "threshold", "threshold_kept", "threshold_genuine_kept", "threshold_kept_genuine", "genuine_before", "n",
             "n_problems")
KINDS = ("asserted", "false step", "uncalled step")
KEEP_GENUINE = 0.95  # operating point of a threshold: share of the genuine development rows that stay
BEYOND = 1e6  # nats; an eps beyond any U leaves the perplexity alone


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


def bootstrap_auroc(scores: ArrayLike, labels: ArrayLike, problems: ArrayLike, *, n_boot: int = 2000, seed: int = 0,
                    level: float = 0.95) -> tuple[float, float, float]:
    """(AUROC, low, high) with whole problems resampled; NaN where a class is missing.

    scores [n]: higher means "positive"; labels [n] of 0/1; problems [n]: what each trajectory belongs to.
    With W[g, h] the wins of g's positives over h's negatives (ties half) and w the draws,
    AUROC* = w'Ww / (w'p)(w'q), so no resample is ranked again."""
    value = stats.auroc(scores, labels)
    scores, positive = np.asarray(scores, dtype=float), np.asarray(labels) == 1
    names, group = np.unique(problems, return_inverse=True)
    if value in (0, 1) or np.isnan(value):  # no draw would differ
        return (value, np.nan, np.nan) if np.isnan(value) else stats.exact(value, len(names), level=level)
    member = np.eye(len(names))[group]  # [n, G]
    order = np.argsort(scores[~positive], kind="stable")
    below = np.vstack([np.zeros(len(names)), member[~positive][order].cumsum(0)])  # negatives of h among the lowest k
    left, right = (np.searchsorted(scores[~positive][order], scores[positive], side) for side in ("left", "right"))
    wins = member[positive].T @ (below[left] + below[right]) / 2  # [G, G]
    w = weights(len(names), n_boot, seed)
    pairs = (w @ member[positive].sum(0)) * (w @ member[~positive].sum(0))
    drawn = ((w @ wins) * w).sum(1)[pairs > 0] / pairs[pairs > 0]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if len(drawn) else (np.nan, np.nan)
    return value, float(low), float(high)


def anomaly_scores(rows: Sequence[Row], readings: Sequence[Row], eps: float = 0.01,
                   seed: int = 0) -> dict[str, np.ndarray]:
    """{name: [n]} of ALL_READINGS: PURE's, pure+, their controls, the oracle; higher means "more likely spurious".

    "certainty" is minus the mean U, the ratio's denominator alone; "length" counts tokens. Of probability and
    self-certainty (Kang et al. 2025, arXiv 2502.18581) a low value is suspect, so they count with a minus."""
    reads = [{**r, **{k: np.array(r[k]) for k in ("ppl", "uncertainty", "nll")}} for r in readings]
    scores = {name: [pure.anomaly(r, *how, eps) for r in reads] for name, how in READINGS.items()}
    scores[PLUS] = [pure.anomaly_plus(r) for r in reads]
    for when in ("before", "after"):
        u = [pure.uncertainty_at_steps(r["uncertainty"], when) for r in reads]
        scores[f"certainty {when}"] = [-x.mean() if len(x) else 0.0 for x in u]
    scores["mean NLL"] = [r["nll"].mean() for r in reads]
    scores["max step PPL"] = [r["ppl"].max(initial=1.0) for r in reads]
    scores["min-token probability"] = [-np.exp(-r["nll"].max()) for r in reads]
    scores["token entropy"] = [r["entropy"] for r in reads]
    scores["self-certainty"] = [-r["self_certainty"] for r in reads]
    scores["length"] = [len(r["token_ids"]) for r in rows]
    scores[LOOK] = [float(bool(re.search(worlds.get(r["world"]).shortcut_pattern, r["text"]))) for r in rows]
    scores["random"] = np.random.default_rng(seed).random(len(rows)).tolist()
    scores[ORACLE] = [float(r["genuine"] == 0) for r in rows]
    return {name: np.minimum(np.asarray(x, dtype=float), 1e30) for name, x in scores.items()}


def thresholds(scores: Mapping[str, np.ndarray], labels: ArrayLike,
               keep_genuine: float = KEEP_GENUINE) -> dict[str, float]:
    """{reading: largest score kept} such that this share of the genuine rows (labels 0) stays; NaN without any."""
    genuine = np.asarray(labels) == 0
    return {name: float(np.quantile(score[genuine], keep_genuine, method="higher")) if genuine.any() else np.nan
            for name, score in scores.items()}


def detection_table(scores: Mapping[str, np.ndarray], labels: ArrayLike, problems: Sequence[str],
                    pools: Sequence[str], *, lam: float = 0.2, rule: str = "quantile", reading: str = "",
                    limits: Mapping[str, float] | None = None, n_boot: int = 2000) -> list[Row]:
    """One dict of DETECTION per reading: AUROC with interval, average precision, what two rules of dropping leave.

    labels [n]: 1 spurious, 0 genuine. kept: share of all that stay; genuine_kept: of the genuine; kept_genuine: the
    genuine among the kept (NaN where nothing to divide by): by `lam` and `rule` within pools, and, as threshold_*,
    by `limits` {reading: largest score kept}. A threshold is of `reading` (default: the first); others drop as many."""
    genuine, table, share = np.asarray(labels) != 1, [], lambda a, b: a / b if b else np.nan
    if rule == "threshold":
        lam, rule, pools = float((scores[reading or next(iter(scores))] > lam).mean()), "quantile", [""] * len(genuine)
    for name, score in scores.items():
        limit = (limits or {}).get(name, np.nan)
        by_rule, by_limit = pure.keep(score, lam, rule, pools=pools), score <= limit
        left = [(kept.mean(), share((kept & genuine).sum(), genuine.sum()), share((kept & genuine).sum(), kept.sum()))
                for kept in (by_rule, by_limit)]
        left[1] = left[1] if np.isfinite(limit) else (np.nan,) * 3
        values = (name, *bootstrap_auroc(score, labels, problems, n_boot=n_boot),
                  stats.average_precision(score, labels), *left[0], limit, *left[1], genuine.mean(), len(genuine),
                  len(set(problems)))
        table.append(dict(zip(DETECTION, values, strict=True)))
    return table


def kind(row: Row) -> str:
    """ "genuine", or how a row is spurious by the oracle: "uncalled step" (one that nothing asks for, to set right what
    went wrong), else "false step" (one at least), or "asserted" (all is right, yet the answer does not follow)."""
    report = worlds.get(row["world"]).check_steps(problem_of(row), row["text"])
    if report is None:
        raise HealError(f"world '{row['world']}' has no step oracle; kinds of spurious rows are its word")
    wrong = [s.kind for s in report.steps if not s.valid]
    if report.genuine or not wrong:
        return "genuine" if report.genuine else "asserted"
    return "uncalled step" if "uncalled" in wrong else "false step"


def by_kind(scores: Mapping[str, np.ndarray], kinds: ArrayLike, problems: ArrayLike, *,
            n_boot: int = 2000) -> list[Row]:
    """One dict per reading and kind of spuriousness: AUROC of that kind alone against the genuine rows."""
    kinds, problems, table = np.asarray(kinds), np.asarray(problems), []
    for name, score in scores.items():
        for which in KINDS:
            some = (kinds == which) | (kinds == "genuine")
            found = bootstrap_auroc(score[some], kinds[some] == which, problems[some], n_boot=n_boot)
            table.append(dict(zip(("reading", "kind", "auroc", "ci_low", "ci_high", "n"),
                                  (name, which, *found, int((kinds == which).sum())), strict=True)))
    return table


def most_surprising(reading: Row) -> dict[str, float]:
    """At the step of largest PPL: {"ppl", "u_before", "u_after"}, U in nats per token."""
    k, u = int(np.argmax(reading["ppl"])), reading["uncertainty"]
    return {"ppl": reading["ppl"][k], "u_before": u[k], "u_after": u[k + 1]}


def form(readings: Sequence[Row], numerator: str = "ppl", eps: float = 0.01, when: str = "before") -> np.ndarray:
    """[n]: mean over the steps of PPL / (U + eps), or with "nll" of ln PPL / (U + eps); 1e30 where there is no step.

    ("ppl", 0.01, "before") is the notes' ratio [S], ("nll", 1, "after") is pure+."""
    def one(r):
        top = np.log(r["ppl"]) if numerator == "nll" else r["ppl"]
        return pure.step_ratio(top, pure.uncertainty_at_steps(r["uncertainty"], when), eps).mean()
    return np.array([one(r) if r["n_steps"] else 1e30 for r in readings])


def follows(readings: Sequence[Row], numerator: str = "ppl", eps: float = 0.01, when: str = "before") -> Row:
    """Which factor of a `form` decides: {"surprise", "certainty"}, its rank correlation with each one's mean alone.

    surprise: the numerator; certainty: 1 / (U + eps). NaN where fewer than three rows hold a step."""
    some = [r for r in readings if r["n_steps"]]
    flat = [{**r, "ppl": np.ones(r["n_steps"])} for r in some]
    alone = {"surprise": form(some, numerator, BEYOND, when), "certainty": form(flat, "ppl", eps, when)}
    whole = form(some, numerator, eps, when)
    return {name: float(spearmanr(whole, x)[0]) if len(some) > 2 else np.nan for name, x in alone.items()}


def candidates(readings: Sequence[Row]) -> dict[str, np.ndarray]:
    """{name: [n]}: eight forms of the ratio, and two ways to join the ranks of certainty and surprise in one world."""
    tried = {f"{'PPL' if top == 'ppl' else 'ln PPL'} / (U {when} + {eps:g})": form(readings, top, eps, when)
             for top in ("ppl", "nll") for eps in (0.01, 1.0) for when in ("before", "after")}
    ranks = [rankdata(form(readings, "ppl", eps)) for eps in (0.01, BEYOND)]
    return {**tried, "rank of ratio + rank of PPL": sum(ranks), "larger of the two ranks": np.maximum(*ranks)}


def said(row: Mapping[str, Any] | pd.Series, mean: str = "mean", low: str = "ci_low", high: str = "ci_high",
         digits: int = 2) -> str:
    """An estimate with its interval, in words, from a table's row: "0.52 [0.41, 0.63]"."""
    return f"{row[mean]:.{digits}f} [{row[low]:.{digits}f}, {row[high]:.{digits}f}]"


def told(row: Mapping[str, Any] | pd.Series, low: str = "diff_low", high: str = "diff_high") -> str:
    """What an interval of a difference says: "better", "worse" or that it includes zero."""
    return "better" if row[low] > 0 else "worse" if row[high] < 0 else "no difference shown (the interval includes 0)"

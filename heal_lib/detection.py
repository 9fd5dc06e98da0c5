"""What notebook 03 measures: how well a reading of PURE, or a control, tells spurious trajectories from genuine ones.

Scores are higher where a trajectory is more likely spurious; the oracle's verdicts are the labels. Problems are the
unit of every interval (`analysis`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata, spearmanr

from heal_lib import pure, stats, worlds
from heal_lib.analysis import Row, weights
from heal_lib.errors import HealError
from heal_lib.trajectory import problem_of

READINGS = {f"ratio {how}, U {when}": (how, when) for when in ("before", "after") for how in ("mean", "max", "top3")}
PLUS, PLUS_FORM, NLL, ORACLE = "pure+", "ln PPL / (U after + 1)", "mean NLL", "oracle"
LOOK = "regular expression"  # the world's own, for what its shortcuts look like
CONTROLS = ("certainty before", "certainty after", NLL, "max step PPL", "min-token probability", "token entropy",
            "self-certainty", "length", LOOK, "random")
ALL_READINGS = (*READINGS, PLUS, *CONTROLS, ORACLE)
DETECTION = ("reading", "auroc", "ci_low", "ci_high", "minus_nll", "minus_nll_low", "minus_nll_high",
             "average_precision", "kept", "genuine_kept", "kept_genuine", "threshold", "threshold_kept",
             "threshold_genuine_kept", "threshold_kept_genuine", "genuine_before", "n", "n_problems")
KINDS = ("asserted", "false step", "uncalled step")
KEEP_GENUINE = 0.95  # operating point of a threshold: share of the genuine development rows that stay
BEYOND = 1e6  # nats; an eps beyond any U leaves the perplexity alone


class Drawn(NamedTuple):
    """The AUROC of `scores` [n]: its `value`, and what it is in each resample of whole problems, `draws` [n_boot], NaN
    where a resample lacks a class. Where the value is 0, 1 or NaN, so is every draw."""

    scores: np.ndarray
    value: float
    draws: np.ndarray
    n_problems: int


def drawn_auroc(scores: ArrayLike, labels: ArrayLike, problems: ArrayLike, *, n_boot: int = 2000,
                seed: int = 0) -> Drawn:
    """An AUROC and its draws; scores of the same rows are drawn alike, so draws of two may be compared one by one.

    scores [n]: higher means "positive"; labels [n] of 0/1; problems [n]: what each trajectory belongs to.
    With W[g, h] the wins of g's positives over h's negatives (ties half) and w the draws,
    AUROC* = w'Ww / (w'p)(w'q), so no resample is ranked again."""
    value = stats.auroc(scores, labels)
    scores, positive = np.asarray(scores, dtype=float), np.asarray(labels) == 1
    names, group = np.unique(problems, return_inverse=True)
    if value in (0, 1) or np.isnan(value):  # no draw would differ
        return Drawn(scores, value, np.full(n_boot, value), len(names))
    member = np.eye(len(names))[group]  # [n, G]
    order = np.argsort(scores[~positive], kind="stable")
    below = np.vstack([np.zeros(len(names)), member[~positive][order].cumsum(0)])  # negatives of h among the lowest k
    left, right = (np.searchsorted(scores[~positive][order], scores[positive], side) for side in ("left", "right"))
    wins = member[positive].T @ (below[left] + below[right]) / 2  # [G, G]
    w = weights(len(names), n_boot, seed)
    pairs = (w @ member[positive].sum(0)) * (w @ member[~positive].sum(0))
    draws = np.full(n_boot, np.nan)
    draws[pairs > 0] = ((w @ wins) * w).sum(1)[pairs > 0] / pairs[pairs > 0]
    return Drawn(scores, value, draws, len(names))


def interval(drawn: Drawn, level: float = 0.95) -> tuple[float, float, float]:
    """(AUROC, low, high); NaN where a class is missing, the exact interval (`stats.exact`) where it is 0 or 1."""
    if drawn.value in (0, 1):
        return stats.exact(drawn.value, drawn.n_problems, level=level)
    return drawn.value, *_ends(drawn.draws, level)


def difference(drawn: Drawn, other: Drawn, level: float = 0.95) -> tuple[float, float, float]:
    """(AUROC minus the other's, low, high), paired: of the same rows, problems and resamples. NaN where a class is
    missing, 0 [0, 0] where the scores are the same.

    Draws of an AUROC of 0 or 1 do not differ. With one among the two, the interval is as wide as if each erred, by what
    its own interval says, without the other (Zou and Donner 2008, doi 10.1002/sim.3095); it errs on the wide side."""
    (a, a_low, a_high), (b, b_low, b_high) = interval(drawn, level), interval(other, level)
    if np.isnan(a - b) or np.array_equal(drawn.scores, other.scores):
        return (a - b,) * 3
    if {a, b} & {0, 1}:
        return a - b, float(a - b - np.hypot(a - a_low, b_high - b)), float(a - b + np.hypot(a_high - a, b - b_low))
    return a - b, *_ends(drawn.draws - other.draws, level)


def _ends(draws, level):
    some = draws[np.isfinite(draws)]
    low, high = np.quantile(some, [(1 - level) / 2, (1 + level) / 2]) if len(some) else (np.nan, np.nan)
    return float(low), float(high)


def bootstrap_auroc(scores: ArrayLike, labels: ArrayLike, problems: ArrayLike, *, n_boot: int = 2000, seed: int = 0,
                    level: float = 0.95) -> tuple[float, float, float]:
    """(AUROC, low, high) with whole problems resampled; see `drawn_auroc` and `interval`."""
    return interval(drawn_auroc(scores, labels, problems, n_boot=n_boot, seed=seed), level)


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
    scores[NLL] = [r["nll"].mean() for r in reads]
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

    labels [n]: 1 spurious, 0 genuine. minus_nll: AUROC minus that of mean NLL, paired (`difference`): 0 in the row of
    mean NLL itself, NaN where a class is missing or mean NLL is not among the scores. kept: share of all that stay;
    genuine_kept: of the genuine; kept_genuine: the genuine among the kept (NaN where nothing to divide by): by `lam`
    and `rule` within pools, and, as threshold_*, by `limits` {reading: largest score kept}. A threshold is of `reading`
    (default: the first); others drop as many."""
    genuine, table, share = np.asarray(labels) != 1, [], lambda a, b: a / b if b else np.nan
    if rule == "threshold":
        lam, rule, pools = float((scores[reading or next(iter(scores))] > lam).mean()), "quantile", [""] * len(genuine)
    drawn = {name: drawn_auroc(score, labels, problems, n_boot=n_boot) for name, score in scores.items()}
    for name, score in scores.items():
        limit = (limits or {}).get(name, np.nan)
        by_rule, by_limit = pure.keep(score, lam, rule, pools=pools), score <= limit
        left = [(kept.mean(), share((kept & genuine).sum(), genuine.sum()), share((kept & genuine).sum(), kept.sum()))
                for kept in (by_rule, by_limit)]
        left[1] = left[1] if np.isfinite(limit) else (np.nan,) * 3
        minus = difference(drawn[name], drawn[NLL]) if NLL in drawn else (np.nan,) * 3
        values = (name, *interval(drawn[name]), *minus, stats.average_precision(score, labels), *left[0],
                  limit, *left[1], genuine.mean(), len(genuine), len(set(problems)))
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

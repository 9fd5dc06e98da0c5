"""PURE: the Perplexity-Uncertainty Ratio Estimator (docs/method.md, section 3).

    U_k  = -(1/|a*|) ln T(a* | x, s_<=k, e)     answer uncertainty after step k; U_0 before any step    [R]
           or, among candidate answers a:  -ln T(a* | ...) / sum_a T(a | ...)       (pure_answers)      [R]
    r_k  = PPL_k / (U + eps)                    U before (U_(k-1)) or after (U_k) the step              [S/R]
    A(y) = mean, max or top-3 mean of r_k       trajectory anomaly                                      [R]
    drop the floor(lambda * n) largest A        lambda = 0.2                                            [S/R]

A surprising step (large PPL) where the answer is already certain (small U) is suspect: the answer may be
forced without logic. x: the problem, s_k: step k, a*: the right answer, e: what opens an answer, T: the teacher's
probability, PPL_k = exp(mean -ln T) of step k; the hint is in none of them. `read` measures PPL and U, `anomaly` makes
A(y) of them, `keep` drops (of each problem's different texts of one source, `baselines.filtered`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from heal_lib import sampling, worlds
from heal_lib.entropy import step_perplexity
from heal_lib.errors import HealError, as_floats
from heal_lib.trajectory import problem_of

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import ArrayLike

    from heal_lib.engines import Engine

ANSWERS = ("likelihood", "candidates")
READ = ("ppl", "uncertainty", "nll", "entropy", "self_certainty", "n_steps")


def uncertainty(answer_nll: ArrayLike) -> np.ndarray:
    """U: mean NLL of the answer's tokens, no hint in context [R]: [..., |a*|] nats to [...] nats."""
    nll = as_floats(answer_nll, "answer NLL")
    if nll.ndim == 0 or nll.shape[-1] == 0:
        raise HealError("answer NLL: no answer tokens; check that the problem's answer is not empty")
    return nll.mean(-1)


def uncertainty_among(nll: ArrayLike) -> np.ndarray:
    """U among candidate answers: NLL of each whole answer, the right one first, [..., n] nats, to [...] nats [R].

    0 where all else is ruled out, ln n where nothing is; how odd an answer looks at this place falls out of it."""
    nll = as_floats(nll, "answers' NLL")
    if nll.ndim == 0 or nll.shape[-1] == 0:
        raise HealError("answers' NLL: no candidate; the problem's own answer is one")
    return np.maximum(logsumexp(-nll, axis=-1) + nll[..., 0], 0.0)


def uncertainty_at_steps(curve: ArrayLike, when: str = "before") -> np.ndarray:
    """U beside each step: the curve U_0..U_K [K+1] to [K]; "before" gives U_(k-1), "after" gives U_k [R]."""
    curve = as_floats(curve, "uncertainty curve")
    if when not in ("before", "after"):
        raise HealError(f"pure_uncertainty={when!r}: use 'before' or 'after'")
    return curve[:-1] if when == "before" else curve[1:]


def step_ratio(ppl: ArrayLike, uncertainty: ArrayLike, eps: float = 0.01) -> np.ndarray:
    """r_k = PPL_k / (U + eps) [S]: perplexities, and U in nats per token, of one shape, to that shape.

    HealError on NaN, different shapes, U < 0 or eps <= 0.
    """
    ppl, uncertainty = as_floats(ppl, "step perplexity"), as_floats(uncertainty, "answer uncertainty")
    if ppl.shape != uncertainty.shape:
        raise HealError(
            f"step_ratio: shapes {ppl.shape} and {uncertainty.shape}; pass one uncertainty per step"
        )
    if not eps > 0 or (uncertainty < 0).any():
        raise HealError("step_ratio: eps must be positive and uncertainty (a mean NLL) at least 0")
    with np.errstate(invalid="ignore"):
        return as_floats(ppl / (uncertainty + eps), "step ratio", "perplexity and uncertainty are both inf")


def aggregate(ratios: ArrayLike, how: str = "mean") -> float:
    """A(y), one float from the step ratios [K] [R]: "mean", "max" or "top3" (mean of the three largest)."""
    r = np.sort(as_floats(ratios, "step ratios").ravel())
    if len(r) == 0:
        raise HealError("step ratios: none; leave out trajectories without steps")
    if how not in ("mean", "max", "top3"):
        raise HealError(f"pure_aggregate={how!r}: use 'mean', 'max' or 'top3'")
    return float(r[{"mean": -len(r), "max": -1, "top3": -3}[how] :].mean())


def keep(scores: ArrayLike, lam: float = 0.2, rule: str = "quantile", pools: ArrayLike | None = None) -> np.ndarray:
    """Boolean mask [n] of the trajectories that stay, from their anomaly scores [n].

    "quantile": drops exactly floor(lam * n), the largest first; among equal scores the later go first. With
    `pools` [n] (labels) this is done inside each pool, so a pool smaller than 1 / lam loses nothing.
    "threshold": drops scores > lam, however many [R]. HealError on NaN scores or a bad switch.
    """
    scores = as_floats(scores, "anomaly scores", "score every trajectory before filtering")
    if scores.ndim != 1 or (pools is not None and np.shape(pools) != scores.shape):
        raise HealError(f"keep: scores of shape {scores.shape}; pass scores [n] and, if any, pools [n]")
    if rule == "threshold" and not math.isnan(lam):
        return scores <= lam
    if rule != "quantile" or not 0 <= lam <= 1:
        raise HealError(f"pure_rule={rule!r}, pure_lambda={lam}: use 'quantile' with 0..1, or 'threshold'")
    n = len(scores)
    pool = np.zeros(n, dtype=int) if pools is None else np.unique(pools, return_inverse=True)[1]
    size = np.bincount(pool)
    # 0.29 * 100 is 28.999999999999996 in floats; the tolerance keeps its floor at 29.
    n_kept = size - np.floor(lam * size + 1e-9)
    order = np.lexsort((scores, pool))  # by pool, then by score, then by position
    rank = np.empty(n, dtype=int)
    rank[order] = np.arange(n) - (np.cumsum(size) - size)[pool[order]]
    return rank < n_kept[pool]


def readings(*, world: str, rows: Iterable[dict[str, Any]], model: str, engine: str, step_delimiter: str,
             answers: str = "likelihood") -> Dataset:
    """The teacher's reading of the accepted rows of a data set of one world, one for each, in order; see `read`. A text
    that a problem has twice is read once."""
    from datasets import Dataset

    accepted = [row for row in rows if row["correct"]]
    texts = [(row["problem_id"], *row["token_ids"]) for row in accepted]
    different = dict(zip(texts, accepted, strict=True))
    reads = read(sampling.watched(model, engine), list(different.values()), step_delimiter, answers)
    found = dict(zip(different, reads, strict=True))
    return Dataset.from_dict({name: [np.asarray(found[text][name]).tolist() for text in texts] for name in READ})


def read(engine: Engine, rows: Iterable[dict[str, Any]], step_delimiter: str = "",
         answers: str = "likelihood") -> list[dict[str, Any]]:
    """The teacher's reading of trajectories, no hint in context: `ppl` [K] per step, `uncertainty` [K+1] (U_0 before
    any step .. U_K), `nll` [T] per token, and the tokens' mean `entropy` and `self_certainty`. Two batched passes: the
    texts, and all their answers at once [R].

    The step that holds the answer itself is left out of K: it states, it does not derive [R]. answers: "candidates"
    reads every candidate after every step, where the world lists them; else, and by default, the right answer alone."""
    if answers not in ANSWERS:
        raise HealError(f"pure_answers={answers!r}: use {' or '.join(ANSWERS)}")
    prompts, completions, steps, ends, tails, openings = [], [], [], [], [], []
    for row in rows:
        problem, world = problem_of(row), worlds.get(row["world"])
        pieces = engine.pieces(row["token_ids"])
        steps.append([(start, end) for start, end in world.spans(pieces, step_delimiter)
                      if (text := "".join(pieces[start:end])).strip() and world.answer_opening not in text])
        prompts.append(engine.prompt(world.prompt(problem)))
        completions.append(list(row["token_ids"]))
        ends.append([0, *(end for _, end in steps[-1])])
        openings.append(engine.encode(world.answer_opening))
        listed = world.candidates(problem) if answers == "candidates" else None
        told = [problem.answer] if listed is None else [answer + world.answer_closing for answer in listed]
        tails.append([[*openings[-1], *engine.encode(answer)] for answer in told])
    scores = engine.score(prompts, completions)
    each = [(i, tail) for i, group in enumerate(tails) for tail in group]
    nll = iter(engine.tail_nll(  # type: ignore[call-arg]  # mypy does not count what a * stands for
        *([of[i] for i, _ in each] for of in (prompts, completions, ends)), [tail for _, tail in each]))
    curves = [_curve([next(nll)[:, len(opening):] for _ in group])
              for group, opening in zip(tails, openings, strict=True)]
    return [{"nll": score.nll, "n_steps": len(spans),
             "entropy": float(score.entropy.mean()), "self_certainty": float(score.self_certainty.mean()),
             "ppl": step_perplexity(score.nll, spans) if spans else np.zeros(0), "uncertainty": curve}
            for score, spans, curve in zip(scores, steps, curves, strict=True)]


def _curve(answers):
    """U_0 .. U_K from the NLL of each answer's tokens, [K+1, |a|] each: among several, or of the only one."""
    if len(answers) == 1:
        return uncertainty(answers[0])
    return uncertainty_among(np.stack([nll.sum(-1, dtype=float) for nll in answers], -1))


def anomaly(reading: dict[str, Any], how: str = "mean", when: str = "before", eps: float = 0.01) -> float:
    """A(y) from a reading. A trajectory with no step but the answer is all assertion: its anomaly is inf [R]."""
    if reading["n_steps"] == 0:
        return math.inf
    return aggregate(step_ratio(reading["ppl"], uncertainty_at_steps(reading["uncertainty"], when), eps), how)


def anomaly_plus(reading: dict[str, Any]) -> float:
    """A+(y) of pure+, from a reading as `anomaly`: mean over the steps of ln PPL_k / (1 + U_k), U after the step [R].

    Nats over nats, with 1 nat as the unit: nothing to tune. Inf without a step but the answer."""
    if reading["n_steps"] == 0:
        return math.inf
    u = uncertainty_at_steps(reading["uncertainty"], "after")
    return aggregate(step_ratio(np.log(reading["ppl"]), u, eps=1.0))

"""GEAR: Guided Entropy-Assisted Repair (docs/method.md, section 2).

    eligible:   c <= 1 correct of N = 30 samples                                                 [S]
    breakpoint: k* = argmax D_k over 2 <= k <= max(2, ceil(K/3)), the earliest on a tie          [S]
    cut:        keep s_1 .. s_(k*-1-b), back-off b = 1                                           [S]
    repair:     prompt + kept steps + hint -> candidates; keep the verified, remove the hint     [S/R]

Here steps are counted from 0: the breakpoint i = k* - 1 lies in 1 <= i <= max(1, ceil(K/3) - 1), and
max(0, i - b) leading steps stay. D_k: mean token entropy of step k of K, minus that of the step before (`entropy`);
c: right samples of N. `failed` chooses trajectories, `find_breakpoint` and `kept_steps` cut them, `repair` goes on from
there, and `sampling.accepts` says what is kept. Of the notes' 10 trajectories and 20 candidates of each [S] the scales
take fewer. [P] is the paper's abstract, [S] secondary notes, [R] this reconstruction.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heal_lib import entropy, sampling, worlds
from heal_lib.errors import HealError
from heal_lib.trajectory import problem_of, rng_of, seed_of, to_dataset

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import ArrayLike

    from heal_lib.embedded.writer import Writer
    from heal_lib.engines import Engine, SamplingParams
    from heal_lib.worlds.base import World

CUT_RULES = ("entropy", "random", "middle", "value", "start", "oracle", "fixed", "permuted", "random-text")
_WINDOW = ("surge", "window", "window_unit", "backoff")
# Switches that have no effect on a rule.
UNREAD = {"random": ("surge",), "value": ("surge",), "middle": _WINDOW, "start": _WINDOW, "oracle": _WINDOW,
          "random-text": _WINDOW[:3]}


def eligible(n_correct: ArrayLike, max_correct: int = 1) -> Any:
    """Whether a problem with `n_correct` right samples (int or array, of N = 30) is repaired [S]."""
    return np.asarray(n_correct) <= max_correct


def window_stop(n_steps: int, window: float, window_unit: str = "steps", step_lengths: ArrayLike | None = None) -> int:
    """One past the last step that may be the breakpoint: steps that begin in the window, at least step 1."""
    if not 0 < window <= 1:
        raise HealError(f"window={window}: must lie in (0, 1]; the default is 1/3")
    if window_unit == "steps":
        lengths = np.ones(n_steps)
    elif window_unit == "tokens":
        lengths = np.asarray(() if step_lengths is None else step_lengths)
        if lengths.shape != (n_steps,) or (lengths < 1).any():
            raise HealError(f"step_lengths: window_unit='tokens' needs the tokens (>= 1) of {n_steps} steps")
    else:
        raise HealError(f"window_unit={window_unit!r}: use 'steps' or 'tokens'")
    begins = np.cumsum(lengths) - lengths
    # 100 * 0.07 is 7.000000000000001 in floats; the tolerance keeps its ceiling at 7.
    return max(2, int((begins < math.ceil(lengths.sum() * window - 1e-9)).sum()))


def find_breakpoint(step_entropy: ArrayLike, window: float = 1 / 3, *, surge: str = "difference",
                    window_unit: str = "steps", step_lengths: ArrayLike | None = None) -> int | None:
    """Index of the step where the trajectory goes astray: the largest entropy surge early on [S].

    `step_entropy`: [K] nats, mean token entropy of each step. `surge`: "difference" (rise over the step
    before) or "value" (entropy itself) [R]. `window`: share of the steps, or with `window_unit="tokens"` of
    the tokens (`step_lengths`: [K] tokens per step), in which the step must begin [S/R]. Returns the
    0-based index i, 1 <= i <= max(1, ceil(K * window) - 1), ties to the earliest; None if K < 2. HealError
    on NaN, bad switches.
    """
    rise = entropy.surge(step_entropy, surge)
    stop = window_stop(len(rise), window, window_unit, step_lengths)
    return None if len(rise) < 2 else 1 + int(np.argmax(rise[1:stop]))


def kept_steps(breakpoint: int | None, backoff: int = 1) -> int:
    """How many leading steps stay: max(0, breakpoint - backoff) [S]; 0 if there is no breakpoint (None)."""
    if backoff < 0:
        raise HealError(f"backoff={backoff}: must be 0 or more steps")
    return 0 if breakpoint is None else max(0, breakpoint - backoff)


def cut_position(rule: str, step_entropy: Sequence[float] | np.ndarray, *, rng: np.random.Generator | None = None,
                 at: int | None = None, backoff: int = 1, window: float = 1 / 3, surge: str = "difference",
                 **unit: Any) -> int:
    """How many leading steps stay under GEAR's rule or one of its controls (docs/method.md, section 5) [R].

    "entropy": GEAR itself; "value": the step of largest entropy; "random": a step drawn evenly by `rng` (a
    numpy Generator). These three choose a breakpoint in the same window and step back by `backoff`, so they
    differ in the choice alone. "random-text": as random, from the whole text. "fixed", "permuted": the breakpoint
    is given, `at` (0-based, None for none), whatever this text says. "oracle": all steps before the break `at`, no
    back-off; None cuts before the last step. "middle": K // 2 steps, no back-off; "start": 0, the hint from the
    beginning (= STaR). `unit`: window_unit and step_lengths, as in `find_breakpoint`.
    """
    n_steps = len(step_entropy)
    if rule not in CUT_RULES:
        raise HealError(f"cut rule {rule!r}: use one of {', '.join(CUT_RULES)}")
    if rule == "start" or n_steps < 2:
        return 0
    if rule == "middle":
        return n_steps // 2
    if rule == "oracle":
        return n_steps - 1 if at is None else min(at, n_steps - 1)
    if rule in ("fixed", "permuted"):
        return kept_steps(None if at is None else min(at, n_steps - 1), backoff)
    if rule in ("random", "random-text"):
        if rng is None:
            raise HealError(f"rng: the cut rule '{rule}' needs numpy.random.default_rng(seed)")
        stop = window_stop(n_steps, window, **unit) if rule == "random" else n_steps
        return kept_steps(int(rng.integers(1, stop)), backoff)
    kind = "value" if rule == "value" else surge
    return kept_steps(find_breakpoint(step_entropy, window, surge=kind, **unit), backoff)


def repairs(*, world: str, pool: Dataset, rule: str, n_failed: int, n_candidates: int, max_correct: int, model: str,
            engine: str, settings: Mapping[str, Any], seed: int, **switches: Any) -> Dataset:
    """GEAR on a teacher's pool of one world and difficulty: all candidates of the eligible problems as a data set,
    accepted (`correct`) or not. settings: temperature, top_p, max_new_tokens. switches: those of `repair`."""
    chosen = [row for rows in failed(pool, n_failed, max_correct, seed).values() for row in rows]
    if not chosen:
        return to_dataset([])
    it = worlds.get(world)
    return to_dataset(repair(sampling.watched(model, engine), it, chosen, rule=rule, n_candidates=n_candidates,
                             params=sampling.params(it, chosen[0]["difficulty"], settings), seed=seed, **switches))


def failed(pool: Dataset, n_failed: int, max_correct: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Eligible problem id -> its failed trajectories chosen for repair (seeded, at most `n_failed`) [S]."""
    counts, chosen = sampling.counts(pool), {}
    for row in pool:
        if eligible(counts[row["problem_id"]][0], max_correct) and not row["correct"]:
            chosen.setdefault(row["problem_id"], []).append(row)
    for key, rows in chosen.items():
        rng_of(seed, "failed", key).shuffle(rows)
        del rows[n_failed:]
    return chosen


def given_breaks(rule: str, breakpoints: Sequence[int | None], oracle_breaks: Iterable[int | None] = (),
                 seed: int = 0) -> list[int | None]:
    """`cut_position`'s `at` for each trajectory of a call: lists [n] of GEAR's breakpoints and of the oracle's first
    breaks (None: none) to a list [n]. "fixed": the median of GEAR's, the lower of two; "permuted": GEAR's, dealt out
    anew by `seed`, so that they keep their distribution and lose their trajectory; "oracle": the oracle's; other rules
    are given none [R]."""
    if rule == "oracle":
        return list(oracle_breaks)
    found = [b for b in breakpoints if b is not None]
    if rule == "fixed" and found:
        return [statistics.median_low(found)] * len(breakpoints)
    if rule == "permuted":
        return [breakpoints[i] for i in np.random.default_rng(seed_of(seed, "permuted")).permutation(len(breakpoints))]
    return [None] * len(breakpoints)


def repair(engine: Engine | Writer, world: World, failed: Sequence[dict[str, Any]], *, rule: str = "entropy",
           n_candidates: int = 20, params: SamplingParams, seed: int, hint: str = "answer", window: float = 1 / 3,
           window_unit: str = "steps", surge: str = "difference", backoff: int = 1,
           step_delimiter: str = "") -> list[dict[str, Any]]:
    """Repairs failed trajectories of one world; returns one data-set row per candidate, accepted or not.

    `failed`: rows of the data set (trajectory.COLUMNS), incorrect, of any problems of the world. The teacher continues
    prompt + kept steps + hint; the row holds kept steps + continuation, the hint removed [R]. `rule`: GEAR's
    "entropy" or a control of `cut_position`. `hint`: a form that the world knows, or "none" to continue without [R].
    `step_delimiter`: "" for the world's own."""
    where = {"window": window, "window_unit": window_unit, "surge": surge}
    cuts = _cuts(engine, world, failed, rule, seed, backoff, where, step_delimiter)
    prompts, keys = [], []
    for row, (kept, _) in zip(failed, cuts, strict=True):
        problem = problem_of(row)
        told = world.told(problem, hint, "".join(engine.pieces(kept)))
        prompts.append([*engine.prompt(world.prompt(problem)), *kept, *engine.encode(told)])
        keys.append(f"{problem.id}/{row['sample']}/{len(kept)}")
    draws = engine.sample(prompts, n_candidates, params, seed, keys)
    rows, drawn = [], Counter()  # a problem's candidates are numbered through
    for row, (kept, found), group in zip(failed, cuts, draws, strict=True):
        problem = problem_of(row)
        for draw in group:
            rows.append(sampling.candidate_row(engine, world, problem, draw, source="repaired", kept=kept,
                                               sample=drawn[problem.id], parent=row["sample"],
                                               breakpoint=-1 if found is None else found))
            drawn[problem.id] += 1
    return rows


def _cuts(engine, world, failed, rule, seed, backoff, where, delimiter) -> list[tuple[list[int], int | None]]:
    """(kept tokens, GEAR's breakpoint under the rule "entropy") of each trajectory. `where`: window and surge."""
    spans = [world.spans(engine.pieces(row["token_ids"]), delimiter) for row in failed]
    means = [entropy.step_means(row["entropy"], span) for row, span in zip(failed, spans, strict=True)]
    lengths = [[end - start for start, end in span] for span in spans]
    found: list[int | None]
    breaks: list[int | None]
    found, breaks = [None] * len(failed), []
    if rule in ("entropy", "fixed", "permuted"):
        found = [find_breakpoint(h, step_lengths=n, **where) for h, n in zip(means, lengths, strict=True)]
    if rule == "oracle":
        reports = [world.check_steps(problem_of(row), row["text"]) for row in failed]
        if not any(reports):
            raise HealError(f"world '{world.name}' has no step oracle here; use another cut rule than 'oracle'")
        breaks = [report.first_break() if report else None for report in reports]
    cuts: list[tuple[list[int], int | None]] = []
    for i, at in enumerate(given_breaks(rule, found, breaks, seed)):
        rng = np.random.default_rng(seed_of(seed, "cut", failed[i]["problem_id"], failed[i]["sample"]))
        stay = cut_position(rule, means[i], rng=rng, at=at, backoff=backoff, step_lengths=lengths[i], **where)
        kept = list(failed[i]["token_ids"][: spans[i][stay - 1][1]]) if stay else []
        cuts.append((kept, found[i] if rule == "entropy" else None))
    return cuts

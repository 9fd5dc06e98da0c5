"""What a teacher must be for its world to judge GEAR, measured on the teacher alone and fixed before any student is
distilled: positions that matter, hints that inform, texts that vary, shortcuts without a surface of their own.

A gate that is missed is recorded as missed, by its number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heal_lib import gear, sampling, stats
from heal_lib.engines import SamplingParams
from heal_lib.trajectory import rng_of, split_steps

if TYPE_CHECKING:
    from heal_lib.engines import Engine
    from heal_lib.trajectory import Problem
    from heal_lib.worlds.base import World

N_PROBLEMS, N_SAMPLES, N_HINTED, N_FAILED, N_CANDIDATES = 40, 30, 10, 4, 5
GATES: dict[str, tuple[float, float | None]] = {  # lowest and highest value, None for no limit
    "unsolved_at_30": (0.30, 0.75),  # share of the problems
    "hinted_verify": (0.80, 1.0),  # of samples hinted from the start
    "hinted_spurious": (0.10, 0.40),  # of those that verify
    "wrong_hint_verify": (0.0, 0.10),  # another problem's answer; the larger of hinted from the start and repaired
    "wrong_hint_genuine": (0.0, 0.20),  # against the right answer's, likewise
    "no_hint_verify": (0.0, 0.10),  # repaired without a hint
    "kept_values": (4, None),  # different numbers of steps that GEAR keeps
    "kept_largest_share": (0.0, 0.50),  # of trajectories that keep the most frequent number
    "oracle_over_start": (1.30, None),  # genuine repairs per token drawn, as a ratio
    "oracle_over_random_text": (1.30, None),
    "repairs_unique": (0.60, 1.0),  # different texts among genuine repairs, GEAR's cut
    "repairs_as_hinted": (0.0, 0.20),  # genuine repairs that are a hinted sample's text
    "surface_auroc": (0.0, 0.90),  # the best single surface feature at telling spurious from genuine
}
RULES = ("entropy", "start", "oracle", "random-text", "random", "middle", "fixed", "permuted", "value")
# What an eye or a regular expression could go by: how often each of these occurs.
PATTERNS = (r"\*", r"\+", r"-", r"=\d\b", r"=\d\d", r"even", r"odd", r" \*", r" \+", r" -", r"[+-][7-9]=", r"\*\d=\d\b",
            r"\+\d=\d\d", r"-\d=\d\d", r"(.*)\n\n\1", r"([A-D]): .*\n\n(?!\1)")


def measure(engine: Engine, world: World, difficulty: str = "hard", n_problems: int = N_PROBLEMS,
            rules: Sequence[str] = RULES) -> dict[str, Any]:
    """{"gates": each gate's value, "surface": AUROC by feature, "repairs": a row of numbers for each cut rule and hint
    control} of a teacher, on development problems. Costs some 400,000 drawn tokens. No gate reads rules beyond the
    first four."""
    problems = world.problems("development", n_problems, 1, difficulty)
    params = SamplingParams(world.max_new_tokens[difficulty])
    pool = draw(engine, world, problems, params, N_SAMPLES)
    hinted, misled = (draw(engine, world, problems, params, N_HINTED, form) for form in ("answer", "wrong"))
    counts = Counter(r["problem_id"] for r in pool if r["correct"])
    failed = chosen(pool, counts)

    def repaired(rule, hint="answer"):
        return gear.repair(engine, world, failed, rule=rule, hint=hint, params=params, seed=1,
                           n_candidates=N_CANDIDATES)

    repairs = {rule: repaired(rule) for rule in rules}
    repairs |= {f"{rule}, {hint} hint": repaired(rule, hint) for hint in ("wrong", "none") for rule in rules[:2]}
    found = {name: summary(engine, rows, hinted) for name, rows in repairs.items()}
    surface = surface_aurocs([r for r in [*hinted, *repairs["entropy"]] if r["correct"]])
    kept = Counter(kept_of(engine, row) for row in repairs["entropy"])
    values = {
        "unsolved_at_30": float(np.mean([counts[p.id] == 0 for p in problems])),
        "hinted_verify": share(hinted, "correct"),
        "hinted_spurious": 1 - share([r for r in hinted if r["correct"]], "genuine"),
        "wrong_hint_verify": max(share(misled, "correct"), found["entropy, wrong hint"]["verified"]),
        "wrong_hint_genuine": max(over(share(misled, "genuine"), share(hinted, "genuine")),
                                  over(found["entropy, wrong hint"]["genuine"], found["entropy"]["genuine"])),
        "no_hint_verify": found["entropy, none hint"]["verified"],
        "kept_values": len(kept),
        "kept_largest_share": max(kept.values()) / max(1, kept.total()),
        "oracle_over_start": over(found["oracle"]["genuine_per_1000"], found["start"]["genuine_per_1000"]),
        "oracle_over_random_text": over(found["oracle"]["genuine_per_1000"], found["random-text"]["genuine_per_1000"]),
        "repairs_unique": found["entropy"]["unique"],
        "repairs_as_hinted": found["entropy"]["as_hinted"],
        "surface_auroc": max(surface.values()),
    }
    return {"gates": {name: rounded(value) for name, value in values.items()},
            "surface": {name: rounded(value) for name, value in surface.items()},
            "repairs": {name: {key: rounded(v) for key, v in row.items()} for name, row in found.items()},
            "kept": dict(sorted(kept.items())), "n_failed": len(failed)}


def verdict(values: dict[str, Any]) -> dict[str, list[Any]]:
    """Each gate: [value, lowest, highest, whether the value lies within]."""
    return {name: [values[name], low, high, low <= values[name] and (high is None or values[name] <= high)]
            for name, (low, high) in GATES.items()}


def draw(engine: Engine, world: World, problems: Sequence[Problem], params: SamplingParams, n: int,
         hint: str = "") -> list[dict[str, Any]]:
    """n samples of each problem as data-set rows, after a hint of that form where one is named."""
    prompts = [engine.encode(world.prompt(p) + (world.hint(p, hint) if hint else "")) for p in problems]
    draws = engine.sample(prompts, n, params, 1, [f"card{hint}/{p.id}" for p in problems])
    return [sampling.candidate_row(engine, world, p, one, source="sampled", sample=j)
            for p, group in zip(problems, draws, strict=True) for j, one in enumerate(group)]


def chosen(pool: Sequence[dict[str, Any]], counts: Counter[str]) -> list[dict[str, Any]]:
    """Failed trajectories of the problems that GEAR repairs, N_FAILED each."""
    failed: dict[str, list] = {}
    for row in pool:
        if gear.eligible(counts[row["problem_id"]]) and not row["correct"]:
            failed.setdefault(row["problem_id"], []).append(row)
    for key, rows in failed.items():
        rng_of("gates", key).shuffle(rows)
    return [row for rows in failed.values() for row in rows[:N_FAILED]]


def summary(engine: Engine, rows: Sequence[dict[str, Any]], hinted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Steps kept (mean), shares verified and genuine; of the genuine: different texts, and texts that are also hinted
    samples; genuine ones per 1,000 tokens drawn."""
    genuine = [(r["problem_id"], r["text"]) for r in rows if r["correct"] and r["genuine"] == 1]
    known = {(r["problem_id"], r["text"]) for r in hinted}
    return {"kept": float(np.mean([kept_of(engine, r) for r in rows])), "verified": share(rows, "correct"),
            "genuine": len(genuine) / len(rows), "unique": over(len(set(genuine)), len(genuine)),
            "as_hinted": over(sum(text in known for text in genuine), len(genuine)),
            "genuine_per_1000": 1000 * len(genuine) / sum(r["n_generated"] for r in rows)}


def surface_aurocs(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Surface feature -> AUROC, the better of its two directions, at telling spurious rows from genuine ones."""
    texts, spurious = [r["text"] for r in rows], [r["genuine"] == 0 for r in rows]
    features = {"tokens": [len(r["token_ids"]) for r in rows], "characters": [len(text) for text in texts],
                "steps": [len(split_steps(text)) for text in texts],
                **{pattern: [len(re.findall(pattern, text)) for text in texts] for pattern in PATTERNS}}
    found = {name: stats.auroc(values, spurious) for name, values in features.items()}
    return {name: max(a, 1 - a) for name, a in found.items()}


def kept_of(engine: Engine, row: dict[str, Any]) -> int:
    """How many steps a repair kept."""
    return len(split_steps("".join(engine.pieces(row["token_ids"][: row["n_kept"]]))))


def share(rows: Sequence[dict[str, Any]], column: str) -> float:
    """Share of rows in which a column is 1 (or True)."""
    return float(np.mean([r[column] == 1 for r in rows])) if rows else 0.0


def over(a: float, b: float) -> float:
    """a / b, 0 where both are 0."""
    return a / b if b else 0.0 if not a else float("inf")


def rounded(value: float) -> float:
    return round(value, 4)

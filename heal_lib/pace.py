"""PACE: Progressive Answer-guided Curriculum Evolution (METHOD section 4).

    I   base     verified teacher samples, capped per problem
    II  + hint   samples drawn with the answer given, hint removed, for problems with share correct < 0.5   [S]
    III + repair GEAR's trajectories for the problems with c <= 1                                           [S]

Three sequential stages on the same weights, data cumulative [S/R]. Every stage makes the same number of passes over
its data, so a stage's share of the token budget is its share of the (cumulative) tokens [R].
"""

from __future__ import annotations

from collections.abc import Callable

from heal_lib.errors import HealError
from heal_lib.trajectory import rng_of

STAGES = ("base", "hint", "repair")


def curriculum(sources: dict[str, list], *, order: str = "staged", cumulative: bool = True) -> list[list]:
    """Source name -> rows, to the list of stages' rows.

    order: staged [P], separate (staged, but never cumulative: every source weighs as much as when mixed), reversed,
    mixed (one stage, all rows alike) or interleaved (one stage, the rows of smaller sources repeated until all weigh
    the same).

    Sources without rows are left out; raises HealError where nothing is left."""
    parts = [rows for name in STAGES if (rows := sources.get(name))]
    if not parts:
        raise HealError("nothing to train on: no verified sample in any source; draw more samples, "
                        "or use easier problems")
    if order == "mixed":
        return [[row for part in parts for row in part]]
    if order == "interleaved":
        largest = max(map(len, parts))
        return [[part[i % len(part)] for i in range(largest) for part in parts]]
    if order not in ("staged", "reversed", "separate"):
        raise HealError(f"unknown curriculum order '{order}'; choose staged, separate, mixed, interleaved or reversed")
    parts = parts[::-1] if order == "reversed" else parts
    if not cumulative or order == "separate":
        return parts
    return [[row for part in parts[: i + 1] for row in part] for i in range(len(parts))]


def budgets(stages: list[list], total: int, length: Callable = len) -> list[int]:
    """Tokens of each stage, in proportion to its data; they add up to `total`."""
    sizes = [sum(map(length, rows)) for rows in stages]
    edges = [round(total * sum(sizes[:i]) / sum(sizes)) for i in range(len(sizes) + 1)]
    return [b - a for a, b in zip(edges, edges[1:], strict=False)]


def fill(rows: list, budget: int, seed: int, length: Callable = len) -> list:
    """Rows in shuffled passes until the budget of tokens is reached: methods differ in data, not in tokens.

    Raises HealError for rows without tokens, which would never reach it."""
    if budget > 0 and not sum(map(length, rows)):
        raise HealError("nothing to train on: the rows hold no tokens; check the stage before")
    out, spent, epoch = [], 0, 0
    while spent < budget:
        order = list(rows)
        rng_of(seed, "epoch", epoch).shuffle(order)
        for row in order:
            if spent >= budget:
                break
            out.append(row)
            spent += length(row)
        epoch += 1
    return out

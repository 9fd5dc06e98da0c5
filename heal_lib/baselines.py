"""What is compared (METHOD section 5): each method is a choice of data, filter and order; all else is equal."""

from __future__ import annotations

from dataclasses import dataclass

from heal_lib.errors import HealError


@dataclass(frozen=True)
class Method:
    """One row of the tables. `label` is for readers; `cut`, `filter` and `order` are the three modules."""

    label: str
    hint: str | None = None  # hinted samples for problems "below" the share correct, or only for the "failed"
    cut: str | None = None  # GEAR's cut rule, or None for no repair
    filter: str | None = None  # pure | random | nll | oracle | None
    order: str = "mixed"
    trained: bool = True


METHODS = {
    "teacher": Method("teacher, unhinted", trained=False),
    "student": Method("student before distillation", trained=False),
    "sft-rs": Method("rejection sampling"),
    "star": Method("STaR rationalisation", hint="failed"),
    "heal": Method("HEAL", "below", "entropy", "pure", "staged"),
    "heal-no-gear": Method("without GEAR (hint only)", "below", None, "pure", "staged"),
    "heal-no-pure": Method("without PURE", "below", "entropy", None, "staged"),
    "heal-no-pace": Method("without PACE (one mixed stage)", "below", "entropy", "pure", "mixed"),
    "heal-random-cut": Method("GEAR: random cut", "below", "random", "pure", "staged"),
    "heal-middle-cut": Method("GEAR: cut at the middle", "below", "middle", "pure", "staged"),
    "heal-start-cut": Method("GEAR: cut at 0", "below", "start", "pure", "staged"),
    "heal-random-drop": Method("PURE: random drop", "below", "entropy", "random", "staged"),
    "heal-nll": Method("PURE: mean NLL instead", "below", "entropy", "nll", "staged"),
    "heal-oracle": Method("PURE: the oracle instead", "below", "entropy", "oracle", "staged"),
    "heal-reversed": Method("PACE: reversed stages", "below", "entropy", "pure", "reversed"),
}
MAIN = ("teacher", "student", "sft-rs", "star", "heal")
MODULES = ("heal", "heal-no-gear", "heal-no-pure", "heal-no-pace")
CUTS = ("heal", "heal-random-cut", "heal-middle-cut", "heal-start-cut")
FILTERS = ("heal", "heal-no-pure", "heal-random-drop", "heal-nll", "heal-oracle")
ORDERS = ("heal", "heal-no-pace", "heal-reversed")
ABLATIONS = tuple(dict.fromkeys([*MODULES, *CUTS, *FILTERS, *ORDERS]))


def get(name: str) -> Method:
    """The method of that name. Raises HealError naming the known ones."""
    if name not in METHODS:
        raise HealError(f"unknown method '{name}'; choose one of {', '.join(METHODS)}")
    return METHODS[name]

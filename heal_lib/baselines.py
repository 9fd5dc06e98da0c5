"""What is compared (METHOD section 5): each method is a choice of data, filter and order; all else is equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal_lib import gear, pure
from heal_lib.errors import HealError
from heal_lib.trajectory import rng_of, seed_of


@dataclass(frozen=True)
class Method:
    """One row of the tables. `label` is for readers; `cut`, `filter` and `order` are the three modules."""

    label: str
    hint: str | None = None  # hinted samples for problems "below" the share correct, or only for the "failed"
    cut: str | None = None  # GEAR's cut rule, or None for no repair
    filter: str | None = None  # pure | pure+ | random | nll | oracle | None
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
    "heal-pure-plus": Method("PURE: pure+ instead", "below", "entropy", "pure+", "staged"),
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


def training_sources(run, name: str) -> dict[str, list[dict]]:
    """Source name (base, hint, repair) -> rows of a method's training data, filtered and capped per problem.

    `run`: the `Pipeline` that draws them. Only verified samples get in, Base included."""
    spec, cfg = get(name), run.cfg
    sources = {"base": _capped([row for row in run.pool() if row["correct"]], cfg)}
    if spec.hint:
        rows = _filtered(run, "hinted", "hint", spec.filter)
        if spec.hint == "failed":
            counts = run.correct_counts()
            rows = [row for row in rows if gear.eligible(counts[row["problem_id"]], cfg.eligible_max_correct)]
        sources["hint"] = _capped(rows, cfg)
    if spec.cut:
        sources["repair"] = _capped(_filtered(run, f"repairs {spec.cut}", "repair", spec.filter), cfg)
    return sources


def _filtered(run, which: str, pool: str, how: str | None) -> list[dict]:
    """Accepted rows that pass the filter; the share lambda is dropped within each problem's rows [R]."""
    rows, cfg = run.accepted(which), run.cfg
    if how is None or pool not in cfg.pure_pool or not rows:
        return rows
    if how == "oracle":
        return [row for row in rows if row["genuine"]]
    if how == "pure":
        scores = run.anomalies(which)
    elif how == "pure+":
        scores = np.array([pure.anomaly_plus(reading) for reading in run.readings(which)])
    elif how == "nll":
        scores = np.array([np.mean(reading["nll"]) for reading in run.readings(which)])
    else:
        scores = np.random.default_rng(seed_of(cfg.teacher_seed, "drop", which)).random(len(rows))
    kept = pure.keep(scores, cfg.pure_lambda, cfg.pure_rule, pools=[row["problem_id"] for row in rows])
    return [row for row, stays in zip(rows, kept, strict=True) if stays]


def _capped(rows: list[dict], cfg) -> list[dict]:
    """At most `per_problem_cap` rows per problem, a seeded choice."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["problem_id"], []).append(row)
    for key, group in groups.items():
        rng_of(cfg.teacher_seed, "cap", key).shuffle(group)
    return [row for group in groups.values() for row in group[: cfg.per_problem_cap]]

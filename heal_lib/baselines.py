"""What is compared (METHOD section 5): each method is a choice of data, filter and order; all else is equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heal_lib import gear, pure
from heal_lib.errors import HealError
from heal_lib.trajectory import rng_of, seed_of


@dataclass(frozen=True)
class Method:
    """One row of the tables. `label` is for readers; `cut`, `filter` and `order` are the three modules."""

    label: str
    base: str | Callable = "correct"  # what Base holds; see `_base`
    hint: str | None = None  # hinted samples for problems "below" the share correct, or only for the "failed"
    cut: str | None = None  # GEAR's cut rule, or None for no repair
    filter: str | None = None  # pure | pure+ | random | nll | oracle | None
    order: str = "mixed"
    restart: bool = True  # a learning-rate schedule for each stage, rather than one for all
    loss: str = "tokens"  # or "logits": TRL's DistillationTrainer, on the student's own samples
    trained: bool = True
    switches: tuple = ()  # ((switch, value), ...): assumption switches other than the run's


def _heal(label: str, *, hint="below", cut="entropy", filter="pure", order="staged", **other) -> Method:
    """HEAL, with what is named changed."""
    return Method(label, "correct", hint, cut, filter, order, **other)


METHODS = {
    "teacher": Method("teacher, unhinted", trained=False),
    "student": Method("student before distillation", trained=False),
    "answers": Method("answers only, no reasoning", "answers"),
    "sft-rs": Method("rejection sampling"),
    "sft-rs-matched": Method("rejection sampling, as many teacher tokens as HEAL", "matched"),
    "limo": Method("LIMO: few, hard, clean", "limo"),
    "paced": Method("PACED: weighted by p(1-p) of the student", "paced"),
    "logits": Method("logit distillation, on-policy", "prompts", loss="logits"),
    "star": Method("STaR rationalisation", hint="failed"),
    "heal": _heal("HEAL"),
    "heal-no-gear": _heal("without GEAR (hint only)", cut=None),
    "heal-no-pure": _heal("without PURE", filter=None),
    "heal-no-pace": _heal("without PACE (one mixed stage)", order="mixed"),
    "heal-random-cut": _heal("GEAR: random cut", cut="random"),
    "heal-middle-cut": _heal("GEAR: cut at the middle", cut="middle"),
    "heal-value-cut": _heal("GEAR: cut at the largest entropy", cut="value"),
    "heal-start-cut": _heal("GEAR: cut at 0", cut="start"),
    "heal-backoff-0": _heal("GEAR: no back-off", switches=(("backoff", 0),)),
    "heal-backoff-2": _heal("GEAR: back-off 2", switches=(("backoff", 2),)),
    "heal-window-half": _heal("GEAR: window 1/2", switches=(("window", 0.5),)),
    "heal-window-all": _heal("GEAR: window 1", switches=(("window", 1.0),)),
    "heal-first-step": _heal("hint: the first step only", switches=(("hint", "first_step"),)),
    "heal-random-drop": _heal("PURE: random drop", filter="random"),
    "heal-nll": _heal("PURE: mean NLL instead", filter="nll"),
    "heal-pure-plus": _heal("PURE: pure+ instead", filter="pure+"),
    "heal-oracle": _heal("PURE: the oracle instead", filter="oracle"),
    "heal-reversed": _heal("PACE: reversed stages", order="reversed"),
    "heal-interleaved": _heal("PACE: interleaved, sources weighted alike", order="interleaved"),
    "heal-one-schedule": _heal("PACE: one learning-rate schedule", restart=False),
    "heal-separate": _heal("PACE: stages, each of its own source alone", order="separate"),
}
MAIN = ("teacher", "student", "answers", "logits", "sft-rs", "sft-rs-matched", "limo", "paced", "star", "heal")
CORE = ("teacher", "student", "sft-rs", "sft-rs-matched", "star", "heal", "heal-no-gear", "heal-no-pure",
        "heal-no-pace", "heal-random-cut", "heal-middle-cut", "heal-start-cut")  # scales without `all_methods`
HEADLINE = ("teacher", "student", "sft-rs", "sft-rs-matched", "star", "heal")  # the columns of README's table
MODULES = ("heal", "heal-no-gear", "heal-no-pure", "heal-no-pace")
CUTS = ("heal", "heal-random-cut", "heal-middle-cut", "heal-value-cut", "heal-start-cut", "heal-backoff-0",
        "heal-backoff-2", "heal-window-half", "heal-window-all", "heal-first-step")
FILTERS = ("heal", "heal-no-pure", "heal-random-drop", "heal-nll", "heal-pure-plus", "heal-oracle")
ORDERS = ("heal", "heal-no-pace", "heal-reversed", "heal-interleaved", "heal-one-schedule", "heal-separate")
ABLATIONS = tuple(dict.fromkeys([*MODULES, *CUTS, *FILTERS, *ORDERS]))
LIMO_SHARE = 0.25  # of the solved problems, the hardest


def chosen(names, cfg) -> tuple[str, ...]:
    """Those of the methods that the scale compares."""
    return tuple(name for name in names if cfg.all_methods or name in CORE)


def get(name: str) -> Method:
    """The method of that name. Raises HealError naming the known ones."""
    if name not in METHODS:
        raise HealError(f"unknown method '{name}'; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def training_sources(run, name: str) -> dict[str, list[dict]]:
    """Source name (base, hint, repair) -> rows of a method's training data, filtered and capped per problem.

    `run`: the `Pipeline` that draws them. Only verified samples get in, Base included."""
    spec = get(name)
    run = run.variant(dict(spec.switches))
    cfg, sources = run.cfg, {"base": _base(run, spec.base)}
    if spec.hint:
        rows = _filtered(run, "hinted", "hint", spec.filter)
        if spec.hint == "failed":
            counts = run.correct_counts()
            rows = [row for row in rows if gear.eligible(counts[row["problem_id"]], cfg.eligible_max_correct)]
        sources["hint"] = _capped(rows, cfg)
    if spec.cut:
        sources["repair"] = _capped(_filtered(run, f"repairs {spec.cut}", "repair", spec.filter), cfg)
    return sources


def _base(run, kind: str | Callable) -> list[dict]:
    """The rows of Base: verified samples of problems, capped, or what a rival method makes of them.

    matched: from as many teacher tokens as HEAL draws in all. limo: the hardest quarter of the solved problems, of each
    the sample of lowest mean entropy. paced: drawn in proportion to p(1-p), p the student's smoothed pass rate on the
    problem. answers: every problem's answer, and no reasoning. prompts: samples right or wrong, for their prompts. A
    function is given the run, and its rows are capped."""
    if callable(kind):
        return _capped(kind(run), run.cfg)
    if kind == "answers":
        return [run.answer_row(problem) for problem in run.distil()]
    if kind == "prompts":
        return _capped(list(run.pool()), run.cfg)
    solved = [row for row in run.pool() if row["correct"]]
    if kind == "matched":
        solved += [row for row in run.matched() if row["correct"]]
    if kind == "limo":
        counts = run.correct_counts()
        ranked = sorted({row["problem_id"] for row in solved}, key=lambda key: (counts[key], key))
        hardest = ranked[: max(1, round(LIMO_SHARE * len(ranked)))]
        best = {}
        for row in sorted(solved, key=lambda row: np.mean(row["entropy"])):
            best.setdefault(row["problem_id"], row)
        return [best[key] for key in hardest]
    rows = _capped(solved, run.cfg)
    if kind == "paced" and rows:
        rates = run.student_pass_rates()
        weights = [rates[row["problem_id"]] * (1 - rates[row["problem_id"]]) for row in rows]
        return rng_of(run.cfg.teacher_seed, "paced").choices(rows, weights, k=4 * len(rows))
    return rows


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

"""Tables of notebooks 05-07: samples or an Experiment in, one DataFrame out.

Accuracies are avg@k and, like their differences, shares from 0 to 1; intervals are 95 %, over problems and seeds.
`samples` is the frame of `Experiment.evaluations`: one row per method, seed, problem and draw."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from heal_lib import baselines, claims, gear, scales, stats, students
from heal_lib.claims import POOLED
from heal_lib.evaluation import score_matrix
from heal_lib.stats import bootstrap_mean, minimum_detectable_effect, paired_bootstrap

if TYPE_CHECKING:
    from heal_lib.experiment import Experiment
    from heal_lib.scales import Scale

SAMPLED = ("correct", "matched", "limo", "paced")  # what Base may hold that the teacher wrote
_CELL = ["n_problems", "n_seeds", "n_samples"]


def with_pooled(samples: pd.DataFrame, suffix: str = "-hard", name: str = POOLED) -> pd.DataFrame:
    """The samples, and those of all benchmarks that end in `suffix` once more under one name.

    All of them count, `countdown` too: which worlds to pool is not chosen by their results. A method that was not
    tested on each of them has none."""
    hard = samples[samples["benchmark"].str.endswith(suffix)]
    tested = hard.groupby("method")["benchmark"].transform("nunique")
    hard = hard[tested == hard["benchmark"].nunique()]
    return pd.concat([samples, hard.assign(benchmark=name)], ignore_index=True)


def with_elsewhere(samples: pd.DataFrame) -> pd.DataFrame:
    """`with_pooled`, and the hard benchmarks but `claims.JUDGE` together once more, as `claims.ELSEWHERE`."""
    outside = with_pooled(samples[samples["benchmark"] != claims.JUDGE], name=claims.ELSEWHERE)
    return pd.concat([with_pooled(samples), outside[outside["benchmark"] == claims.ELSEWHERE]], ignore_index=True)


def derived(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples, where a right answer counts as `correct` only if the world's oracle finds it derived; without those
    of worlds that have no oracle."""
    judged = samples[samples["genuine"] >= 0]
    return judged.assign(correct=judged["correct"].astype(bool) & (judged["genuine"] == 1))


def only_pooled(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples of the hard benchmarks under one name, and no others."""
    samples = with_pooled(samples)
    return samples[samples["benchmark"] == POOLED]


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """A table without the rows of the hard benchmarks together where there is one alone, whose rows say the same."""
    single = table.loc[table["benchmark"].str.endswith("-hard"), "benchmark"].nunique() == 1
    return table[table["benchmark"] != POOLED] if single else table


def verdict(low: float, high: float) -> str:
    """Where an interval of a difference lies, in words."""
    return "above zero" if low > 0 else "below zero" if high < 0 else "includes zero"


def _cells(samples):
    """(method, benchmark) -> correctness [n_problems, n_seeds, n_samples], in the samples' order."""
    groups = samples.groupby(["method", "benchmark"], sort=False)
    return {key: score_matrix(part, *key, reduce=lambda draws: draws) for key, part in groups}


def accuracies(samples: pd.DataFrame, *, n_boot: int, by: str = "method") -> pd.DataFrame:
    """Mean and interval of every `by` (method, or another column such as "stage") on every benchmark."""
    rows = [[*key, *bootstrap_mean(cell.mean(-1), n_boot=n_boot), *cell.shape]
            for key, cell in _cells(samples.assign(method=samples[by])).items()]
    return pd.DataFrame(rows, columns=[by, "benchmark", "mean", "ci_low", "ci_high", *_CELL])


def by_seed(samples: pd.DataFrame, draws: int = 1) -> pd.DataFrame:
    """One row per benchmark, method and seed: mean accuracy, and over how many problems; of several draws of the
    teacher's texts also the `draw` that the student learned from, none if it is untrained."""
    table = samples.groupby(["benchmark", "method", "seed"], sort=False).agg(
        mean=("correct", "mean"), n_problems=("problem_id", "nunique")).reset_index()
    if draws > 1:
        trained = table["method"].map(lambda name: baselines.get(name).trained)
        table.insert(3, "draw", (table["seed"] % draws).astype("Int64").where(trained))
    return table.sort_values(["benchmark", "method"], key=lambda names: pd.factorize(names)[0], ignore_index=True)


def differences(samples: pd.DataFrame, pairs: Iterable[tuple[str, str]], *, n_boot: int) -> pd.DataFrame:
    """One row per (method, against) and benchmark: the paired difference, its p-value, also after Holm's correction
    within its family (`p_holm`; `claims.FAMILIES`, as far as `samples` has it), and the smallest one that would be
    found with 80 % power at 5 % (`detectable`). A pair has no row where one of the two was not evaluated."""
    cells, rows = _cells(samples), []
    there = set(samples["method"])
    pairs = [pair for pair in dict.fromkeys(pairs) if there.issuperset(pair)]
    whole = dict.fromkeys(member for pair in pairs for member in claims.family(*pair) if there.issuperset(member))
    for method, against in dict.fromkeys([*pairs, *whole]):
        for benchmark in samples["benchmark"].unique():
            if not {(method, benchmark), (against, benchmark)} <= cells.keys():
                continue
            a, b = cells[method, benchmark], cells[against, benchmark]
            difference, low, high = paired_bootstrap(a.mean(-1), b.mean(-1), n_boot=n_boot)
            rows.append([method, against, benchmark, difference, low, high, verdict(low, high),
                         stats.paired_p(a.mean(-1), b.mean(-1)),
                         minimum_detectable_effect(a.mean(-1) - b.mean(-1)), *a.shape])
    table = pd.DataFrame(rows, columns=["method", "against", "benchmark", "difference", "ci_low", "ci_high", "interval",
                                        "p", "detectable", *_CELL])
    table.insert(table.columns.get_loc("p") + 1, "p_holm", claims.corrected(table))
    asked = [pair in pairs for pair in zip(table["method"], table["against"], strict=True)]
    return table[np.array(asked, dtype=bool)]


def least(table: pd.DataFrame) -> pd.DataFrame:
    """Of `differences` against several the row of least difference on each benchmark: what is hardest to beat."""
    return table.loc[table.groupby("benchmark", sort=False)["difference"].idxmin()]


def beside_default(samples: pd.DataFrame, names: list[str], *, n_boot: int) -> pd.DataFrame:
    """`accuracies` of several settings, with their paired differences to the first of `names`, the default."""
    gains = differences(samples, [(name, names[0]) for name in names[1:]], n_boot=n_boot)
    gains = gains[["method", "benchmark", "difference", "ci_low", "ci_high"]]
    gains.columns = pd.Index(["method", "benchmark", "minus_default", "minus_low", "minus_high"])
    return accuracies(samples[samples["method"].isin(names)], n_boot=n_boot).merge(gains, "left",
                                                                                  ["method", "benchmark"])


def aggregates(samples: pd.DataFrame, *, n_boot: int, suffix: str = "-hard",
               against: str = "sft-rs") -> pd.DataFrame:
    """One row per method over the benchmarks that end in `suffix`: interquartile mean of the runs' accuracies, and
    the chance that a run beats one of `against`; whole runs (seeds) are resampled."""
    hard = samples[samples["benchmark"].str.endswith(suffix)]
    runs = {m: part.pivot_table("correct", "seed", "benchmark").to_numpy(float)
            for m, part in hard.groupby("method", sort=False)}
    rows = []
    for method, x in runs.items():
        iqm = stats.bootstrap_runs(stats.interquartile_mean, x, n_boot=n_boot)
        better = (np.nan,) * 3 if against not in runs or method == against else stats.bootstrap_runs(
            stats.probability_of_improvement, x, runs[against], n_boot=n_boot)
        rows.append([method, *iqm, *better, *x.shape])
    return pd.DataFrame(rows, columns=["method", "iqm", "iqm_low", "iqm_high", "p_better", "p_better_low",
                                       "p_better_high", "n_seeds", "n_benchmarks"])


def tuning(run: Experiment, methods: Sequence[str]) -> pd.DataFrame:
    """One row per trained method: its accuracy on development problems at each learning rate that was tried for any
    (missing where it was not for this one, and for a grid of one, where there is nothing to choose), and the rate
    chosen."""
    tried = run.rates([m for m in methods if baselines.get(m).trained])
    every = sorted({rate for rates in tried.values() for rate in rates})
    rows = [[method, *(run.tuning(method, rate) if rate in rates and len(rates) > 1 else np.nan for rate in every),
             run.learning_rate(method)] for method, rates in tried.items()]
    return pd.DataFrame(rows, columns=["method", *(f"{rate:g}" for rate in every), "chosen"])


# --- cost (notebook 07)
def of_one_draw(cfg: Scale) -> str:
    """What is to be said beside counts of the teacher's texts where students learn from several draws of them."""
    return (f" Counted in the first of the {cfg.teacher_draws} draws of the teacher's texts that students learn from."
            if cfg.teacher_draws > 1 else "")


def teacher_sources(run: Experiment, rules: Iterable[str] = gear.CUT_RULES[:1]) -> pd.DataFrame:
    """One row per teacher data set: problems, samples, tokens drawn, samples accepted and how many texts these are,
    seconds of one core when first made."""
    sets = {"pool": run.pool(), "hinted": run.hinted(), **{f"repairs {rule}": run.repairs(rule) for rule in rules}}
    rows = [[name, len(set(data["problem_id"])), len(data), sum(data["n_generated"]), sum(data["correct"]),
             len({(row["problem_id"], row["text"]) for row in data if row["correct"]}),
             sum(run.store.get(stage).seconds for stage in run.stages(name))] for name, data in sets.items()]
    table = pd.DataFrame(rows, columns=["source", "problems", "samples", "tokens", "accepted", "unique", "seconds"])
    return table.assign(accepted_share=table["accepted"] / table["samples"],
                        tokens_per_accepted=table["tokens"] / table["accepted"].where(table["accepted"] > 0))


def method_costs(run: Experiment, methods: Sequence[str]) -> pd.DataFrame:
    """One row per method: teacher tokens by source, rows, unique texts and tokens trained on, seconds (means over
    seeds; families of worlds together)."""
    rows = []
    for name in methods:
        tokens = _drawn(run, name)
        rows.append({"method": name, **tokens, "teacher_tokens": sum(tokens.values()),
                     **_training(run, name, baselines.get(name))})
    return pd.DataFrame(rows)


def _drawn(run, name):
    """Teacher tokens of a method, by what they were drawn for."""
    spec = baselines.get(name)
    its = run.variant(dict(spec.switches))
    sampled = spec.trained and (callable(spec.base) or spec.base in SAMPLED)
    parts = {"pool": its.pool if sampled else None, "matched": its.matched if spec.base == "matched" else None,
             "hinted": run.hinted if spec.hint else None,
             "repairs": functools.partial(its.repairs, spec.cut) if spec.cut else None,
             "development": functools.partial(_development, run, name) if spec.early else None}
    return {part: sum(drawn()["n_generated"]) if drawn else 0 for part, drawn in parts.items()}


def _development(run, name):
    """The samples of development problems, by which training is stopped early."""
    pools = [pool for cfg in students.families(run.cfg, name) for pool in students.heldout(cfg).inputs["pool"]]
    run.have(pools)
    return {"n_generated": [n for pool in pools for n in run.store.data(pool)["n_generated"]]}


def budget_samples(run: Experiment, methods: Sequence[str], whole: Sequence[str] = ()) -> pd.DataFrame:
    """Test samples of `methods` at the scale's budgets of the teacher, `budgets` and the whole, and of `whole` at the
    whole one only, with `share` of the problems, their number `n_distil`, and `teacher_tokens`. A smaller budget asks
    fewer problems, each with its whole pool, hints and repairs [R]: of smaller pools PURE would drop nothing, and other
    problems would be eligible. Each method keeps the learning rate that it has for the whole [R]. A method without
    rows is left out."""
    found = []
    for share in (*run.cfg.budgets, 1.0):
        n = max(1, round(share * run.cfg.n_distil))
        for name in (*methods, *(whole if share == 1 else ())):
            its = run.variant({"n_distil": n, "learning_rates": (run.learning_rate(name),)})
            if any(its.training_sources(name).values()):
                found.append(its.evaluations([name], run.cfg.ablation_seeds).assign(
                    share=share, n_distil=n, teacher_tokens=sum(_drawn(its, name).values())))
    return pd.concat(found, ignore_index=True)


def at_budgets(samples: pd.DataFrame, *, n_boot: int) -> pd.DataFrame:
    """`accuracies` of `budget_samples` at each budget, with its `share` and what the method drew, `teacher_tokens`."""
    found = []
    for share, part in samples.groupby("share"):
        table, tokens = accuracies(with_pooled(part), n_boot=n_boot), part.groupby("method")["teacher_tokens"].first()
        found.append(table.assign(share=share, teacher_tokens=table["method"].map(tokens)))
    return pd.concat(found, ignore_index=True)


def _training(run, name, spec):
    if not spec.trained:
        return {"rows": 0, "unique": 0, "trained_tokens": 0, "training_seconds": 0.0}
    seeds = run.trained(name, run.cfg.seeds if name in baselines.MAIN else run.cfg.ablation_seeds)
    logs, rows = [run.training_logs(name, seed) for seed in seeds], sum(run.training_sources(name).values(), [])
    spent = [sum(run.store.get(stage).seconds for stage in run.students(name, seed)) for seed in seeds]
    tokens = [sum(part["tokens"] for log in each for part in log["stages"]) for each in logs]
    return {"rows": len(rows), "unique": len({(row["problem_id"], row["text"]) for row in rows}),
            "trained_tokens": np.mean(tokens) if logs else np.nan,  # of students that are kept, nobody knows
            "training_seconds": np.mean(spent) if logs else np.nan}


# --- the assumption switches (notebook 06, docs/method.md, section 7)
SWITCHES = (
    "step_delimiter", "entropy", "surge", "window", "window_unit", "backoff", "hint", "n_samples",
    "eligible_max_correct", "n_failed", "n_candidates", "pure_eps", "pure_lambda", "pure_rule", "pure_aggregate",
    "pure_uncertainty", "pure_answers", "pure_pool", "stage_hint_below", "stages_cumulative", "stages_restart",
    "per_problem_cap", "deduplicate")
ALONG = {"pure_rule": " -p pure_lambda 5"}  # a largest anomaly: of the shipped teachers' rows it drops some tenths


def switches(cfg: Scale) -> pd.DataFrame:
    """Every switch with its value in this run, its range, and the options that try another value."""
    values = {name: getattr(cfg, name) for name in SWITCHES}
    shown = {name: f"{v:.4g}" if isinstance(v, float) else repr(v) for name, v in values.items()}
    rows = [[name, shown[name], scales.describe(name), f"-p {name} {scales.to_try(name)}{ALONG.get(name, '')}"]
            for name in SWITCHES]
    return pd.DataFrame(rows, columns=["switch", "value", "range", "to try"])

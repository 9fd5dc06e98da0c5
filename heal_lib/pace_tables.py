"""Tables of notebook 04: what PACE's stages are given, and what each of them adds and undoes.

Units and intervals are those of `tables`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from heal_lib import baselines, pace, students, teacher
from heal_lib.evaluation import score_matrix
from heal_lib.stats import bootstrap_mean, paired_bootstrap
from heal_lib.tables import differences

if TYPE_CHECKING:
    from heal_lib.experiment import Experiment

# Pairs that see every row as often: in stages (each with its schedule) or mixed; with a schedule a stage, or one.
EQUAL = (("heal-separate", "heal-no-pace"), ("heal", "heal-one-schedule"))


def stage_names(run: Experiment, method: str) -> list[str]:
    """Sources that a method's stages add, in order; a source without rows makes no stage. Under one learning-rate
    schedule stages are trained as one, "all"."""
    if not run.cfg.stages_restart:
        return ["all"]
    sources = run.training_sources(method)
    return [name for name in pace.STAGES if sources.get(name)]


def stage_data(run: Experiment, method: str = "heal") -> pd.DataFrame:
    """What each source holds, per world and difficulty: problems, rows, unique texts, tokens (completions)."""
    rows = [{"source": source, "benchmark": f"{row['world']}-{row['difficulty']}", "problem": row["problem_id"],
             "text": row["problem_id"] + row["text"], "tokens": len(row["token_ids"])}
            for source, part in run.training_sources(method).items() for row in part]
    frame = pd.DataFrame(rows, columns=["source", "benchmark", "problem", "text", "tokens"])
    return frame.groupby(["source", "benchmark"], sort=False).agg(
        problems=("problem", "nunique"), rows=("problem", "size"), unique=("text", "nunique"),
        tokens=("tokens", "sum")).reset_index()


def stage_samples(run: Experiment, method: str = "heal") -> pd.DataFrame:
    """Test samples of the student before training (stage 0) and after each stage, with a column `stage`; those before
    the last are of a method of their own, such as "heal-after-base"."""
    names, seeds = stage_names(run, method), run.cfg.ablation_seeds
    n = len(names)
    jobs = [(method, seed, stage) for seed in seeds for stage in range(1, n)]
    run.evaluate(jobs)
    frames = [run.evaluation(*job).assign(stage=job[2], method=f"{method}-after-{names[job[2] - 1]}") for job in jobs]
    for seed in seeds:
        frames += [run.evaluation("student", seed).assign(stage=0), run.evaluation(method, seed).assign(stage=n)]
    return pd.concat(frames, ignore_index=True).sort_values("stage", kind="stable")


def exposure(run: Experiment, methods: Sequence[str]) -> pd.DataFrame:
    """One row per family of worlds and method that has students there: share of its training tokens that come from each
    source, and of the last third of them. Families are never averaged, for not every method has students of each. From
    the data and the order alone: a stage goes through its rows evenly."""
    rows, every = [], [cfg.worlds for cfg in teacher.families(run.cfg)]
    pairs = [(cfg, method) for method in methods for cfg in students.families(run.cfg, method)]
    for cfg, method in sorted(pairs, key=lambda pair: every.index(pair[0].worlds)):
        sources = {name: [(name, pace.length(row)) for row in part if row["world"] in cfg.worlds]
                   for name, part in run.training_sources(method).items()}
        if any(sources.values()):
            shares = _exposure(sources, baselines.get(method).order, cfg)
            rows.append({"family": "+".join(cfg.worlds), "method": method, **shares})
    return pd.DataFrame(rows, columns=None if rows else ["family", "method"]).fillna(0)


def _exposure(sources, order, cfg):
    stages, found = pace.curriculum(sources, order=order, cumulative=cfg.stages_cumulative), {}
    ends = np.cumsum(pace.budgets(stages, cfg.train_tokens, length=lambda row: row[1])) / cfg.train_tokens
    for stage, start, end in zip(stages, [0, *ends], ends, strict=False):
        size = sum(n for _, n in stage)
        late = max(0, end - max(start, 2 / 3)) * 3
        for name, n in stage:
            for key, weight in ((name, end - start), (f"{name}, last third", late)):
                found[key] = found.get(key, 0) + weight * n / size
    return found


def stage_steps(staged: pd.DataFrame, names: Sequence[str], *, n_boot: int) -> pd.DataFrame:
    """Each stage minus the one before it: paired differences, by the names of the stages. And of all (problem, seed)
    the share `solved_before`, that is in any of its samples, those that the stage `lost` and `gained`, and their `net`.
    `lost_between_seeds`: what the student before the stage itself loses from one seed to another, for comparison."""
    named = staged.assign(method=staged["stage"].map(dict(enumerate(names))))
    table = differences(named, list(zip(names[1:], names, strict=False)), n_boot=n_boot)
    rows = []
    for row in table.itertuples():
        before, after = (score_matrix(named, name, row.benchmark, reduce=lambda draws: draws.max(-1))
                         for name in (row.against, row.method))
        n = before.shape[1]
        again = (before[:, :, None] > before[:, None, :]).mean() * n / (n - 1) if n > 1 else np.nan
        rows.append([before.mean(), *bootstrap_mean(before > after, n_boot=n_boot), again,
                     *bootstrap_mean(before < after, n_boot=n_boot), *paired_bootstrap(after, before, n_boot=n_boot)])
    return table.join(pd.DataFrame(rows, table.index, [
        "solved_before", "lost", "lost_low", "lost_high", "lost_between_seeds", "gained", "gained_low", "gained_high",
        "net", "net_low", "net_high"], dtype=float))


def training_logs(run: Experiment, methods: Sequence[str]) -> pd.DataFrame:
    """One row per method, family of worlds, seed, stage and logged update: the stage's `rows`, how many of them are
    `unique` texts, and `trained` tokens, `tokens` seen so far (prompts included), loss in nats per token. Of students
    that are kept (`kept`) none."""
    rows = []
    for method in methods:
        for seed in run.trained(method, run.cfg.ablation_seeds):
            for cfg, log in zip(students.families(run.cfg, method), run.training_logs(method, seed), strict=True):
                family, seen = "+".join(cfg.worlds), 0
                for part in log["stages"]:
                    last = max((step for step, _ in part["loss"]), default=1)
                    stage = [method, family, seed, part["stage"], part["rows"], part["unique"], part["tokens"]]
                    rows += [[*stage, seen + part["tokens"] * step / last, loss] for step, loss in part["loss"]]
                    seen += part["tokens"]
    return pd.DataFrame(rows, columns=["method", "family", "seed", "stage", "rows", "unique", "trained", "tokens",
                                       "loss"])

"""What notebook 08 and `heal distil` measure on a pretrained model: tables with intervals, and sentences from them.

    ceiling(run)        what the teacher solves unprompted
    cuts(run)           repair by cut rule and by what the teacher is told, each against GEAR's
    filters(run)        PURE and its rivals against the calculator
    said_...(table)     what these say in words, whichever way they fall; `first_page` picks from them for README

"genuine" is the world's oracle: for prose the calculator, which judges calculations and not words. Where a world has
none, its columns are missing (NaN). Problems are the unit of every interval (95 %); shares lie between 0 and 1."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from heal_lib import analysis, detection, evaluation, provenance, report, scales, stats, tables
from heal_lib.cuts import tokens_per
from heal_lib.places import ROOT
from heal_lib.progress import clock

if TYPE_CHECKING:
    from heal_lib.experiment import Experiment

POOLED = "all, pooled"
METHODS = ("student", "sft-rs", "star", "heal")  # of notebook 08
RULES = ("entropy", "start", "random", "fixed", "permuted", "oracle")
TOLD = (("entropy", "none"), ("entropy", "wrong"), ("start", "wrong"))  # controls of the hint: (cut, what is told)
BY_POSITION = {"permuted": "another text's breakpoint", "fixed": "the median breakpoint"}  # chances of `cuts.breaks`
READINGS = ("pure+", "mean NLL", "token entropy", "length", "random")  # beside the scale's own ratio


def ceiling(run: Experiment) -> pd.DataFrame:
    """One row per benchmark of the teacher's pool: `unsolved`, `pass_1` and `pass_n` with intervals, the share of the
    right samples that are genuine, the share cut off by the length limit, tokens per sample."""
    pool = run.pool().select_columns(["problem_id", "world", "difficulty", "correct", "genuine", "finished",
                                      "n_generated"]).to_pandas()
    rows = []
    for (world, level), part in pool.groupby(["world", "difficulty"], sort=False):
        c = part.groupby("problem_id", sort=False)["correct"].sum().to_numpy()
        n, right = run.cfg.n_samples, part[part["correct"]]
        shares = {"unsolved": c == 0, "pass_1": c / n, "pass_n": c > 0}
        row = {"benchmark": f"{world}-{level}", "n_problems": len(c), "n_samples": n}
        for name, share in shares.items():
            row |= stats.named(name, stats.bootstrap_mean(np.asarray(share, float), n_boot=run.cfg.n_boot))
        judged = right[right["genuine"] >= 0]
        rows.append({**row, "right_genuine": judged["genuine"].mean(), "truncated": 1 - part["finished"].mean(),
                     "tokens": part["n_generated"].mean()})
    return pd.DataFrame(rows)


def curves(run: Experiment) -> dict[str, tuple[Any, ...]]:
    """benchmark -> (k, mean, low, high) of pass@k, [N] each."""
    found: dict[str, list] = {}
    for problem in run.problems():
        found.setdefault(f"{problem.world}-{problem.difficulty}", []).append(run.correct_counts()[problem.id])
    k = np.arange(1, run.cfg.n_samples + 1)
    return {name: (k, *analysis.mean_curve(evaluation.pass_at_k(run.cfg.n_samples, np.array(c)[:, None], k),
                                           n_boot=run.cfg.n_boot)) for name, c in found.items()}


def has_oracle(run: Experiment) -> bool:
    """Whether the worlds' oracle judges some of the teacher's samples."""
    return max(run.pool()["genuine"]) >= 0


def repairs(run: Experiment) -> dict[tuple[str, str], pd.DataFrame]:
    """(cut rule, what is told) -> GEAR's candidates, for RULES under the answer and the controls TOLD."""
    asked = [(rule, run.cfg.hint) for rule in RULES if rule != "oracle" or has_oracle(run)] + list(TOLD)
    variants = {told: run.variant({} if told == run.cfg.hint else {"hint": told}) for _, told in asked}
    run.have(stage for rule, told in asked for stage in variants[told].stages(f"repairs {rule}"))
    columns = ["problem_id", "correct", "genuine", "n_generated", "n_kept", "text"]
    return {(rule, told): variants[told].repairs(rule).select_columns(columns).to_pandas() for rule, told in asked}


def cuts(run: Experiment) -> pd.DataFrame:
    """One row per cut rule and hint: shares of the candidates that are `verified` and `genuine` (verified and so
    judged) with intervals, GEAR's minus these, how many of the genuine are different texts, tokens per genuine one
    (see `cuts.tokens_per`)."""
    drawn, rows, n_boot = repairs(run), [], run.cfg.n_boot
    judged = has_oracle(run)
    totals = {key: _totals(table) for key, table in drawn.items()}
    gears = totals["entropy", run.cfg.hint]
    for (rule, told), part in totals.items():
        row = {"cut": rule, "told": told, "n_problems": len(part), "n_candidates": int(part["candidates"].sum())}
        for name in ("verified", "genuine")[: 1 + judged]:
            row |= stats.named(name, analysis.bootstrap_ratio(part[name], part["candidates"], n_boot=n_boot)
                               if len(part) else (np.nan,) * 3)
            if (rule, told) != ("entropy", run.cfg.hint) and len(part):
                a, b = ((t[name] / t["candidates"]).to_numpy() for t in (gears, part))
                row |= stats.named(f"{name}_gain", stats.paired_bootstrap(a, b, n_boot=n_boot))
        good = drawn[rule, told].query("correct and genuine == 1")
        row |= {"genuine_texts": len(set(zip(good["problem_id"], good["text"], strict=True))),
                "tokens_kept": part["kept"].sum() / max(1, len(drawn[rule, told]))}
        row |= stats.named("tokens_per_genuine", tokens_per(part, "genuine", n_boot=n_boot) if judged and len(part)
                           else (np.nan,) * 3)
        rows.append(row)
    return pd.DataFrame(rows)


def _totals(table):
    good = table["correct"] & (table["genuine"] == 1)
    return table.assign(verified=table["correct"].astype(int), genuine=good.astype(int), candidates=1).groupby(
        "problem_id", sort=True).agg(verified=("verified", "sum"), genuine=("genuine", "sum"), kept=("n_kept", "sum"),
                                     candidates=("candidates", "sum"), tokens=("n_generated", "sum"))


def filters(run: Experiment) -> pd.DataFrame:
    """One row per reading of PURE and its rivals: AUROC (spurious above genuine) with interval, what dropping lambda of
    each problem's pool keeps; see `detection.detection_table`. Empty where the oracle judges no accepted row."""
    rows, reads = [], []
    for which in ("hinted", "repairs entropy"):
        for row, reading in zip(run.accepted(which), run.readings(which), strict=True):
            if row["genuine"] >= 0:
                rows.append(row)
                reads.append(reading)
    if not rows:
        return pd.DataFrame(columns=detection.DETECTION)
    cfg = run.cfg
    mine = f"ratio {cfg.pure_aggregate}, U {cfg.pure_uncertainty}"
    every = detection.anomaly_scores(rows, reads, cfg.pure_eps)
    scores = {name: every[name] for name in (mine, *READINGS)}
    return pd.DataFrame(detection.detection_table(
        scores, [int(row["genuine"] == 0) for row in rows], [row["problem_id"] for row in rows],
        [f"{row['source']} {row['problem_id']}" for row in rows], lam=cfg.pure_lambda, rule=cfg.pure_rule,
        n_boot=cfg.n_boot))


def students(run: Experiment, methods: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(samples of `run.evaluations`, the same with all benchmarks once more under POOLED)."""
    samples = run.evaluations(list(methods))
    return samples, tables.with_pooled(samples, "", POOLED)


# --- words
def _said(row, name):
    return report.interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def said_ceiling(table: pd.DataFrame) -> list[str]:
    """What the teacher cannot do, one sentence per benchmark; shares in per cent."""
    return [f"**{row['benchmark']}**: {_said(row, 'unsolved')} % of {row['n_problems']} problems unsolved in "
            f"{row['n_samples']} samples; {_said(row, 'pass_1')} % of samples right"
            + ("." if pd.isna(row["right_genuine"]) else f", {100 * row['right_genuine']:.0f} % of these genuine.")
            for row in table.to_dict("records")]


def said_breaks(table: pd.DataFrame) -> list[str]:
    """Whether the breakpoint finds the first false step, and what its stronger control by position leaves of that: one
    sentence per row of `table`, of `cuts.breaks`."""
    lines = []
    for row in table.to_dict("records"):
        control = min(BY_POSITION, key=lambda name: row[f"gain_{name}"])
        gain, low, high = (row[f"{end}_{control}"] for end in ("gain", "gain_low", "gain_high"))
        lines.append(f"**{row['world']}**: the breakpoint lies {'within a step of' if row['slack'] else 'on'} the "
                     f"first false step in {report.interval(row['mean'], row['ci_low'], row['ci_high'])} % (mean over "
                     f"{row['n_problems']} problems, {row['n_trajectories']} failed texts); minus chance by "
                     f"{BY_POSITION[control]}, the stronger of two controls, {report.interval(gain, low, high, '+')} "
                     f"points: {tables.verdict(low, high)}.")
    return lines or ["No oracle says where the failed texts go wrong."]


def said_cuts(table: pd.DataFrame) -> list[str]:
    """GEAR's repairs and what their controls leave of the claim."""
    if not table["n_candidates"].sum():
        return ["No problem was eligible, so nothing was repaired."]
    what = "genuine" if "genuine" in table else "verified"
    gear, *others = table.to_dict("records")
    lines = [f"**GEAR**: {_said(gear, 'verified')} % of its candidates verify"
             + (f", {_said(gear, 'genuine')} % are genuine." if what == "genuine" else ".")]
    for row in others:
        gain, low, high = (row[f"{what}_gain{end}"] for end in ("", "_low", "_high"))
        told = "" if row["told"] == gear["told"] else f" with {row['told']} hint"
        lines.append(f"{what}, minus cut `{row['cut']}`{told}: {report.interval(gain, low, high, '+')} points: "
                     f"{tables.verdict(low, high)}.")
    return lines


def said_filters(table: pd.DataFrame) -> list[str]:
    """How well PURE's ratio and mean NLL tell spurious rows from genuine ones, and, where the table has it (older ones
    do not), the difference of the two."""
    if table.empty or table["auroc"].isna().all():
        return ["**PURE** could not be judged: the accepted rows are not of both kinds, genuine and spurious."]
    pure, nll = table.iloc[0], table[table["reading"] == "mean NLL"].iloc[0]
    lies = tables.verdict(pure["ci_low"] - 0.5, pure["ci_high"] - 0.5).replace("zero", "chance (0.5)")
    minus = ""
    if "minus_nll" in table:
        ends = "minus_nll_low", "minus_nll_high"
        minus = f", the ratio minus this {analysis.said(pure, 'minus_nll', *ends)}: {tables.verdict(*pure[[*ends]])}"
    return [f"**PURE**: AUROC {analysis.said(pure, 'auroc')} over {pure['n']} rows of {pure['n_problems']} problems "
            f"({100 * pure['genuine_before']:.0f} % genuine): {lies}; mean NLL {analysis.said(nll, 'auroc')}{minus}."]


def said_students(gains: pd.DataFrame) -> list[str]:
    """Paired differences of methods on all benchmarks together, in points. `gains`: of `tables.differences`."""
    rows = gains[gains["benchmark"] == POOLED]
    lines = [f"**{row.method}** minus {row.against}, all benchmarks: "
             f"{report.interval(row.difference, row.ci_low, row.ci_high, '+')} points: {row.interval}; a difference of "
             f"{report.number(100 * row.detectable)} would be found with 80 % power." for row in rows.itertuples()]
    return lines or ["No student was trained: no verified sample in any source."]


def bullets(*groups: list[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {line}" for group in groups for line in group)


def gains(folder: Path) -> pd.DataFrame:
    """HEAL minus rejection sampling by today's rule, from every sample of a run, which may be older than the rule; as
    its table has it where no samples are kept."""
    files = sorted((folder / "per_sample").glob("*.parquet"))
    if not files:
        return pd.read_csv(folder / "tables" / "llm_differences.csv")
    samples = pd.concat(map(pd.read_parquet, files), ignore_index=True)
    return tables.differences(tables.with_pooled(samples, "", POOLED), [("heal", "sft-rs")],
                              n_boot=scales.SCALES["llm"].n_boot)


def first_page(*folders: Path) -> list[str]:
    """A paragraph for README on a run of notebook 08, the first that was made; nothing where none was."""
    folder, record = next(((each, found) for each in folders if (found := provenance.record(each))), (None, {}))
    if folder is None:
        return []
    ceilings, cut, breaks, filters = (pd.read_csv(folder / "tables" / f"llm_{name}.csv") for name in (
        "ceiling", "cuts", "breakpoints", "filters"))
    told = cut[cut["cut"] == "entropy"].set_index("told").to_dict("index")
    stages = [stage for facts in record["notebooks"].values() for stage in facts["stages"].values()]
    unsolved = ", ".join(f"{_said(row, 'unsolved')} % of `{row['benchmark']}`" for row in ceilings.to_dict("records"))
    verified = {name: _said(row, "verified") for name, row in told.items()}
    where = os.path.relpath(folder, ROOT)
    gpu = (record.get("environment", {}).get("gpu") or "").partition(",")[0]
    return [" ".join([
        f"**On a pretrained model**, {record['config']['teacher']} as teacher and student "
        f"([executed]({where}/notebooks/08_llm_single_gpu.ipynb), [explorer]({where}/explorer.html); "
        f"{ceilings['n_problems'].sum()} word problems, one draw of the teacher at temperature "
        f"{record['config']['temperature']:g}, {record['config']['train_tokens']:,} training tokens a student, "
        f"{clock(sum(stage['seconds_to_make'] for stage in stages))} of "
        f"{f'workers that share one {gpu}' if gpu else 'a core'}): unsolved in "
        f"{record['config']['n_samples']} samples are {unsolved}. Of GEAR's candidates {verified['answer']} % verify, "
        f"{verified['none']} % without a hint, {verified['wrong']} % with a wrong one; genuine are "
        f"{_said(told['answer'], 'genuine')} %.", said_cuts(cut)[1].replace("genuine,", "Genuine,"),
        *said_breaks(breaks)[:1], *said_filters(filters), *said_students(gains(folder))[:1]])]

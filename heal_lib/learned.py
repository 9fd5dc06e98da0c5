"""What students learn, beyond how often they are right: the taught strategy, and the problems that the teacher fails.

    strategy(samples, problems)  who uses the strategy that only hinted texts show, and does it then succeed?
    corners(samples)             accuracy by how often the teacher solves the problem: the abstract's corner cases
    said_corners(table)          what HEAL adds in them, whichever way it falls

`samples` is the frame of `Experiment.evaluations`. Shares lie between 0 and 1; intervals (95 %) are over problems and
seeds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from heal_lib import report, tables, worlds
from heal_lib.stats import bootstrap_share, cell_shares, exact, named, paired_p
from heal_lib.trajectory import Problem

TAUGHT = "derive"  # the oracle's word for a step of the strategy that the hint brings out
CORNERS = ((0, 0), (1, 1), (2, 5), (6, 10**9))  # correct samples of the teacher, from and to
SHARES = {"right": ("right", "all"), "uses": ("uses", "all"), "sound": ("sound", "uses"),
          "right_using": ("using", "uses"), "right_else": ("other", "else"), "genuine": ("genuine", "all"),
          "before_break": ("before", "all")}
SHOWS = {"includes zero": "includes zero: it shows nothing", "above zero": "lies above zero: heal solves more of these",
         "below zero": "lies below zero: heal solves fewer of these"}


def strategy(samples: pd.DataFrame, problems: Iterable[Problem], *, n_boot: int) -> pd.DataFrame:
    """One row per method and benchmark: `right`; `uses`, the share of samples with a step of the taught strategy;
    `sound`, of those with one, the share whose every such step is valid (in `registers`: every fork that it comes to is
    taken rightly); `right_using` and `right_else`, the share right of those with and without one; `genuine`, the share
    right and derived; `before_break`, the mean share of a text's steps before its first false or fruitless one.

    Rows are apart by `decoding`, a column that samples may have, by default "sampled". A share of no samples is missing
    (NaN). Samples of worlds without an oracle have no row."""
    known, rows = {p.id: p for p in problems}, []
    samples = samples.assign(decoding=samples.get("decoding", "sampled"))
    for (decoding, method, benchmark), part in samples.groupby(["decoding", "method", "benchmark"], sort=False):
        judged = [worlds.get(world).check_steps(known[key], text) for world, key, text in
                  zip(part["world"], part["problem_id"], part["text"], strict=True)]
        reports = [report for report in judged if report is not None]
        if len(reports) < len(judged):
            continue
        taught = [[step.valid for step in report.steps if step.kind == TAUGHT] for report in reports]
        uses, sound = np.array([bool(each) for each in taught]), np.array([all(each) for each in taught])
        right = part["correct"].to_numpy(bool)
        counts = pd.DataFrame({"all": 1, "right": right, "uses": uses, "sound": uses & sound, "using": uses & right,
                               "else": ~uses, "other": ~uses & right, "before": [*map(_unbroken, reports)],
                               "genuine": right & [report.genuine for report in reports]}).astype(float)
        cells = counts.groupby([part["problem_id"].to_numpy(), part["seed"].to_numpy()]).sum().unstack(fill_value=0)
        row = {"method": method, "benchmark": benchmark, "decoding": decoding, "n_problems": len(cells),
               "n_samples": len(part)}
        for name, (top, below) in SHARES.items():
            row |= named(name, bootstrap_share(cells[top], cells[below], n_boot=n_boot))
        rows.append(row)
    return pd.DataFrame(rows)


def beside(table: pd.DataFrame) -> pd.DataFrame:
    """`strategy` with one row per benchmark and method, ways of decoding side by side: as many as a page shows."""
    wide = table.pivot_table([*SHARES], ["benchmark", "method"], "decoding", sort=False)
    return wide[[name for name in SHARES if name in wide]]


def _unbroken(report):
    """The share of a text's steps before its first false or fruitless one, 1 where none is."""
    at, n = report.first_break(), len(report.steps)
    return 1.0 if at is None else at / n


def by_family(samples: pd.DataFrame) -> pd.DataFrame:
    """The hard benchmarks' samples, those of worlds that share a student under one name ("equations+paths-hard")."""
    hard = samples[samples["difficulty"] == "hard"]
    of = {world: worlds.get(world).family for world in hard["world"].unique()}
    name = {world: "+".join(other for other in of if of[other] == of[world]) + "-hard" for world in of}
    return hard.assign(benchmark=hard["world"].map(name))


def corners(samples: pd.DataFrame, *, n_boot: int, by: str = "teacher", lead: str = "heal") -> pd.DataFrame:
    """One row per method, benchmark and class of problems by c, the number of right samples of the method `by`:
    `solved` names the class ("0", "1", "2-5", "6+" of the `of` samples), then mean accuracy with its interval, and the
    `gain`: that of `lead` minus this one's, paired, and the p-value of none, `gain_p` (missing on its own rows, and
    where it is not).

    Under one seed all methods are drawn with the same random numbers, so what a sample is counted for is decided by the
    *other* seeds of `by`: a problem's class may differ between seeds, and no accuracy shares noise with it, be it that
    of `by`. No row where `by` has fewer than two seeds; n_problems are those that are in the class under any seed."""
    rows = []
    for benchmark, part in samples.groupby("benchmark", sort=False):
        judge = part[part["method"] == by].groupby(["problem_id", "seed"])["correct"].agg(["sum", "size"])
        if judge.index.get_level_values("seed").nunique() < 2:
            continue
        own = judge.unstack("seed", fill_value=0)
        c, of = (own[what].rsub(own[what].sum(axis=1), axis=0) for what in ("sum", "size"))
        for low, high in CORNERS:
            name = f"{low}" if low == high else f"{low}+" if high > 10**6 else f"{low}-{high}"
            every = {method: drawn.pivot_table("correct", "problem_id", "seed")
                     for method, drawn in part.groupby("method", sort=False)}
            for method, right in every.items():
                counts = c.reindex_like(right)
                inside = (counts >= low) & (counts <= high)
                if inside.to_numpy().any():
                    share = bootstrap_share(right.where(inside, 0.0), inside.astype(float), n_boot=n_boot)
                    gain = _gain(every[lead] - right, inside, n_boot) if method != lead in every else (np.nan,) * 4
                    rows.append([method, benchmark, name, int(of.max(axis=None)), *share, inside.any(axis=1).sum(),
                                 inside.any().sum(), *gain])
    return pd.DataFrame(rows, columns=["method", "benchmark", "solved", "of", "mean", "ci_low", "ci_high", "n_problems",
                                       "n_seeds", "gain", "gain_low", "gain_high", "gain_p"])


def _gain(difference, inside, n_boot):
    """(mean, low, high, p) of paired differences, -1 to 1, over the cells that are inside: (1 + difference) / 2 is a
    part of its cell. Where none differs, the exact interval for the problems."""
    difference = difference.reindex_like(inside)
    inside = inside & difference.notna()
    difference = difference.where(inside, 0.0)
    if not difference.any(axis=None) and inside.any(axis=None):
        return *exact(0.0, int(inside.any(axis=1).sum()), -1.0), 1.0
    part = (1 + difference) / 2 * inside
    shares = cell_shares(difference, inside.astype(float))
    found = 2 * np.array(bootstrap_share(part, inside.astype(float), n_boot=n_boot)) - 1
    return *found, paired_p(shares, np.zeros_like(shares))


def said_corners(table: pd.DataFrame, against: str = "sft-rs", solved: Iterable[str] = ("0", "1")) -> list[str]:
    """What HEAL adds to a method on the problems that the teacher never solves, and solves once: a sentence each."""
    rows = table[(table["method"] == against) & table["solved"].isin(list(solved))].dropna(subset=["gain"])
    return [f"**{row['benchmark']}**, solved {row['solved']} of {row['of']} ({row['n_problems']} problems): heal minus "
            f"{against} is {report.interval(row['gain'], row['gain_low'], row['gain_high'], '+')} points; the interval "
            f"{SHOWS[tables.verdict(row['gain_low'], row['gain_high'])]}." for row in rows.to_dict("records")]

"""What students learn, beyond how often they are right: the taught strategy, and the problems that the teacher fails.

    strategy(samples, problems)  who uses the strategy that only hinted texts show, and does it then succeed?
    corners(samples)             accuracy by how often the teacher solves the problem: the abstract's corner cases

`samples` is the frame of `Experiment.evaluations`. Shares lie between 0 and 1; intervals (95 %) are over problems, and
over seeds too where every problem has all of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from heal_lib import analysis, worlds
from heal_lib.evaluation import score_matrix
from heal_lib.stats import bootstrap_mean, named
from heal_lib.trajectory import Problem

TAUGHT = "derive"  # the oracle's word for a step of the strategy that the hint brings out
CORNERS = ((0, 0), (1, 1), (2, 5), (6, 10**9))  # correct samples of the teacher, from and to


def strategy(samples: pd.DataFrame, problems: Iterable[Problem], *, n_boot: int) -> pd.DataFrame:
    """One row per method and benchmark: `uses`, the share of samples with a step of the taught strategy; `right_using`
    and `right_else`, the share right of those with and without one; `genuine`, the share right and derived.

    A share of no samples is missing (NaN). Samples of worlds without an oracle have no row."""
    known, rows = {p.id: p for p in problems}, []
    for (method, benchmark), part in samples.groupby(["method", "benchmark"], sort=False):
        judged = [worlds.get(world).check_steps(known[key], text) for world, key, text in
                  zip(part["world"], part["problem_id"], part["text"], strict=True)]
        reports = [report for report in judged if report is not None]
        if len(reports) < len(judged):
            continue
        uses = np.array([any(step.kind == TAUGHT for step in report.steps) for report in reports])
        right = part["correct"].to_numpy(bool)
        counts = pd.DataFrame({"all": 1, "uses": uses, "using": uses & right, "else": ~uses, "other": ~uses & right,
                               "genuine": right & [report.genuine for report in reports]}).astype(int).groupby(
            part["problem_id"].to_numpy(), sort=False).sum()
        row = {"method": method, "benchmark": benchmark, "n_problems": len(counts), "n_samples": len(part)}
        for name, top, below in (("uses", "uses", "all"), ("right_using", "using", "uses"),
                                 ("right_else", "other", "else"), ("genuine", "genuine", "all")):
            found = (analysis.bootstrap_ratio(counts[top], counts[below], n_boot=n_boot) if counts[below].sum()
                     else (np.nan,) * 3)
            row |= named(name, found)
        rows.append(row)
    return pd.DataFrame(rows)


def corners(samples: pd.DataFrame, *, n_boot: int, by: str = "teacher") -> pd.DataFrame:
    """One row per method, benchmark and class of problems by c, the number of right samples of the method `by` over all
    its seeds: `solved` names the class ("0", "1", "2-5", "6+" of n), then mean accuracy with its interval.

    Classes are cut by the samples of `by` itself, so its own row is biased (0 where it solved nothing); the
    others' draws are independent of them, and may be compared."""
    rows = []
    for benchmark, part in samples.groupby("benchmark", sort=False):
        c = part[part["method"] == by].groupby("problem_id")["correct"].agg(["sum", "size"])
        if c.empty:
            continue
        for low, high in CORNERS:
            ids = c.index[(c["sum"] >= low) & (c["sum"] <= high)]
            some = part[part["problem_id"].isin(ids)]
            name = f"{low}" if low == high else f"{low}+" if high > 10**6 else f"{low}-{high}"
            for method in some["method"].unique():
                cell = score_matrix(some, method, benchmark)
                rows.append([method, benchmark, name, int(c["size"].max()), *bootstrap_mean(cell, n_boot=n_boot),
                             *cell.shape])
    return pd.DataFrame(rows, columns=["method", "benchmark", "solved", "of", "mean", "ci_low", "ci_high", "n_problems",
                                       "n_seeds"])

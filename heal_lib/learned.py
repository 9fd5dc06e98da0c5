"""What students learn, beyond how often they are right: the taught strategy, and the problems that the teacher fails.

    strategy(samples, problems)  who uses the strategy that only hinted texts show, and does it then succeed?
    corners(samples)             accuracy by how often the teacher solves the problem: the abstract's corner cases

`samples` is the frame of `Experiment.evaluations`. Shares lie between 0 and 1; intervals (95 %) are over problems and
seeds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from heal_lib import worlds
from heal_lib.stats import bootstrap_share, named
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
                               "genuine": right & [report.genuine for report in reports]}).astype(int)
        cells = counts.groupby([part["problem_id"].to_numpy(), part["seed"].to_numpy()]).sum().unstack(fill_value=0)
        row = {"method": method, "benchmark": benchmark, "n_problems": len(cells), "n_samples": len(part)}
        for name, top, below in (("uses", "uses", "all"), ("right_using", "using", "uses"),
                                 ("right_else", "other", "else"), ("genuine", "genuine", "all")):
            row |= named(name, bootstrap_share(cells[top], cells[below], n_boot=n_boot))
        rows.append(row)
    return pd.DataFrame(rows)


def corners(samples: pd.DataFrame, *, n_boot: int, by: str = "teacher") -> pd.DataFrame:
    """One row per method, benchmark and class of problems by c, the number of right samples of the method `by`:
    `solved` names the class ("0", "1", "2-5", "6+" of the `of` samples), then mean accuracy with its interval.

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
            for method, drawn in part.groupby("method", sort=False):
                right = drawn.pivot_table("correct", "problem_id", "seed")
                counts = c.reindex_like(right)
                inside = (counts >= low) & (counts <= high)
                if inside.to_numpy().any():
                    share = bootstrap_share(right.where(inside, 0.0), inside.astype(float), n_boot=n_boot)
                    rows.append([method, benchmark, name, int(of.max(axis=None)), *share, inside.any(axis=1).sum(),
                                 inside.any().sum()])
    return pd.DataFrame(rows, columns=["method", "benchmark", "solved", "of", "mean", "ci_low", "ci_high", "n_problems",
                                       "n_seeds"])

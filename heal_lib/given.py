"""What PURE changes in the rows that students are given, once duplicates are out and problems capped (notebook 03) [R].

    other_rows:  share of the filtered method's rows that are not among the unfiltered one's, by problem and text
    difference:  genuine share of its rows minus that of the other's; whole problems are resampled, both together

Where the filter dropped a text, the cap draws from fewer, and anew: a row may be another by the draw alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from heal_lib import analysis, stats

if TYPE_CHECKING:
    from heal_lib.scales import Scale

SOURCES = {"hint": ("hint",), "repair": ("repair",), "both": ("hint", "repair")}
COLUMNS = ("benchmark", "source", "problems", "rows", "rows_without", "other_rows", "genuine", "genuine_without",
           "difference", "diff_low", "diff_high")


def rule(cfg: Scale) -> str:
    """What the filter and then the cap do to a problem's rows of one source, in words."""
    lam, cap = cfg.pure_lambda, cfg.per_problem_cap
    capped = f"then at most {cap} of each source are kept."
    if cfg.pure_rule != "quantile":
        return f"PURE drops each text whose anomaly is above {lam:g}; {capped}"
    text = f"Of a problem's n {'different ' * cfg.deduplicate}texts of a source PURE drops floor({lam:g} n); {capped}"
    if lam <= 0:
        return text
    first = math.ceil(1 / lam - 1e-9)  # the least n of which one is dropped
    if first <= cap:
        return f"{text} A problem with {first} texts or more may get fewer rows by it."
    return (f"{text} So the filter never lowers the number of rows: it changes only **which** rows stay, and nothing "
            f"where a problem has {first - 1} texts or fewer.")


def compared(filtered: Mapping[str, Sequence[dict[str, Any]]], unfiltered: Mapping[str, Sequence[dict[str, Any]]], *,
             n_boot: int = 2000) -> pd.DataFrame:
    """One row of COLUMNS per benchmark and source (hint, repair, both), from the training sources of two methods.

    `_without` is of the unfiltered method. Shares are NaN where there is no row, or no oracle."""
    methods, lines = (filtered, unfiltered), []
    every = [row for sources in methods for name in SOURCES["both"] for row in sources.get(name, ())]
    for benchmark in dict.fromkeys(_benchmark(row) for row in every):
        for source, names in SOURCES.items():
            ours, theirs = ([row for name in names for row in sources.get(name, ()) if _benchmark(row) == benchmark]
                            for sources in methods)
            if ours or theirs:
                lines.append([benchmark, source, *_line(ours, theirs, n_boot)])
    return pd.DataFrame(lines, columns=list(COLUMNS))


def sentence(folder: Path) -> str:
    """What the filter changes in students' rows, for the first page; "" where 03 has not measured it."""
    file = folder / "tables" / "pure_given.csv"
    if not file.is_file():
        return ""
    both = pd.read_csv(file).query("source == 'both'").sort_values("other_rows", ascending=False, kind="stable")
    moved = [f"{row.other_rows:.0%} on {row.benchmark} (genuine share {100 * row.difference:+.1f} points "
             f"[{100 * row.diff_low:+.1f}, {100 * row.diff_high:+.1f}])" for row in both.itertuples() if row.other_rows]
    return (f"Of the hinted and repaired rows that a student is given it changes {', '.join(moved) or 'none'}"
            f"{', none elsewhere' * bool(moved and len(moved) < len(both))} (`03_pure`).")


def _benchmark(row):
    return f"{row['world']}-{row['difficulty']}"


def _line(ours, theirs, n_boot):
    """The columns after benchmark and source."""
    known = {(row["problem_id"], row["text"]) for row in theirs}
    other = [(row["problem_id"], row["text"]) not in known for row in ours]
    places = {name: i for i, name in enumerate(dict.fromkeys(row["problem_id"] for row in (*ours, *theirs)))}
    counts = np.zeros((2, len(places), 2))  # per method and problem: genuine rows, rows that the oracle judges
    for table, rows in zip(counts, (ours, theirs), strict=True):
        for row in rows:
            table[places[row["problem_id"]]] += row["genuine"] == 1, row["genuine"] >= 0
    return (len(places), len(ours), len(theirs), np.mean(other) if other else np.nan, *_shares(counts.sum(1)),
            *_difference(counts, n_boot))


def _shares(counts):
    """counts [..., 2] to [...]; NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore"):
        return counts[..., 0] / counts[..., 1]


def _difference(counts, n_boot):
    """(difference, low, high) of the two methods' shares, counts [2, n_problems, 2]; exact where no problem differs."""
    ours, theirs = _shares(counts.sum(1))
    if not np.isfinite(ours - theirs):
        return (np.nan,) * 3
    if (counts[0] == counts[1]).all():
        return stats.exact(0.0, int((counts[0, :, 1] > 0).sum()), -1.0)
    drawn = np.subtract(*_shares(analysis.weights(counts.shape[1], n_boot, 0) @ counts))
    return (ours - theirs, *np.nanquantile(drawn, [0.025, 0.975]))

"""What HEAL presupposes of a teacher's texts, each beside the number that decides it: claims before any student.

A premise is one row of a table of notebooks 01-03, in the world made to judge (`claims.JUDGE`), or of several controls
the strongest. Its interval decides; nothing is corrected, for each is another question [R]."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from heal_lib import claims

WORLD, HARD = claims.JUDGE.rpartition("-")[::2]


class Premise(NamedTuple):
    """Of the rows of `table` that agree with `where`, `columns` (value, low, high) lie above `above`; of several rows
    those of the least value. `name`: the column that says what the row is, `shown`: what the number is."""

    text: str
    table: str
    notebook: str
    where: dict[str, list[Any]]
    columns: tuple[str, str, str]
    shown: str
    above: float = 0.0
    name: str = ""


def _minus(column: str, prefix: str) -> tuple[str, str, str]:
    return column, f"{prefix}_low", f"{prefix}_high"


GENUINE = {"world": [WORLD], "metric": ["genuine_rate"]}
CUT = _minus("entropy_minus_this", "diff")
PREMISES = (
    Premise("a teacher keeps failing some problems", "teacher_ceiling", "01", {"world": [WORLD], "difficulty": [HARD]},
            _minus("unsolved", "unsolved"), "share unsolved"),
    Premise("a failed text broke where its entropy surges", "gear_breakpoints", "02", {"world": [WORLD], "slack": [0]},
            ("gain_permuted", "gain_low_permuted", "gain_high_permuted"), "hits, minus another text's breakpoint"),
    Premise("the answer given there lets the teacher repair it", "gear_hints", "02",
            GENUINE | {"hint": ["none", "wrong"]}, _minus("first_minus_this", "diff"), "genuine repairs, minus hint",
            name="hint"),
    Premise("the surge is where to cut, rather than elsewhere in the window", "gear_cut_rules", "02",
            GENUINE | {"cut": ["random", "fixed", "permuted"]}, CUT, "genuine repairs, minus cut", name="cut"),
    Premise("keeping the text before it beats a hint at the start", "gear_cut_rules", "02",
            GENUINE | {"cut": ["start"]}, CUT, "genuine repairs, minus cut", name="cut"),
    Premise("perplexity against uncertainty tells derivations from shortcuts", "pure_auroc", "03",
            {"world": [WORLD], "reading": ["ratio mean, U before"]}, ("auroc", "ci_low", "ci_high"), "AUROC, chance .5",
            above=0.5),
)


def table(folder: Path) -> pd.DataFrame:
    """One row per premise: what is measured with its 95 % interval, the verdict, and the table and command that show
    it. What a folder lacks is "not measured"."""
    rows = []
    for premise in PREMISES:
        file = Path(folder) / "tables" / f"{premise.table}.csv"
        found = _decisive(pd.read_csv(file), premise) if file.is_file() else None
        command = f'`make reproduce ARGS="--only {premise.notebook}"`'
        if found is None:
            rows.append([premise.text, premise.shown, "", claims.UNMEASURED, premise.table, command])
            continue
        value, low, high = (found[column] for column in premise.columns)
        shown = f"{premise.shown} {found[premise.name]}" if premise.name else premise.shown
        verdict = claims.strength(low - premise.above, high - premise.above, 0.0)
        rows.append([premise.text, shown, f"{value:.2f} [{low:.2f}, {high:.2f}]", verdict, premise.table, command])
    return pd.DataFrame(rows, columns=[f"premise (in {WORLD})", "measured", "value [95 %]", "verdict", "table",
                                       "command"])


def sentence(folder: Path) -> str:
    """All premises that were measured, by their verdicts, in one line; "" where there is none."""
    found = table(folder)
    found = found[found["verdict"] != claims.UNMEASURED]
    said = [f"*{verdict}*: " + "; ".join(f"{row[0]} ({row[1]}: {row[2]})" for row in part.to_numpy())
            for verdict, part in found.groupby("verdict", sort=False)]
    return f"**The teacher's texts** (in {WORLD}). {'. '.join(said)}." if said else ""


def _decisive(found: pd.DataFrame, premise: Premise):
    """The row that a premise rests on, None where there is none."""
    for column, values in premise.where.items():
        found = found[found[column].isin(values)]
    found = found.dropna(subset=list(premise.columns))
    return found.loc[found[premise.columns[0]].idxmin()] if len(found) else None

"""What HEAL presupposes of a teacher's texts, each beside the number that decides it: claims before any student.

A premise is one row of a table of notebooks 01-03, in the world made to judge (`claims.JUDGE`), or of several controls
the strongest. Its p-value is that of a normal distribution as wide as its interval, times the number of controls that
it was picked from; all of them are corrected together by Holm's method [R]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from heal_lib import claims, provenance, scales, stats

WORLD, HARD = claims.JUDGE.rpartition("-")[::2]


class Premise(NamedTuple):
    """Of the rows of `table` that agree with `where`, `columns` (value, low, high) lie above `above`; of several rows
    those of the least value. Names in braces are fields of the run's scale. `name`: the column that says what the row
    is, `shown`: what the number is; `or_else`: columns of other controls in the same rows, by what they are; `beside`:
    which row, otherwise alike, is shown for comparison."""

    text: str
    table: str
    notebook: str
    where: dict[str, list[Any]]
    columns: tuple[str, str, str]
    shown: str
    above: float = 0.0
    name: str = ""
    beside: dict[str, list[Any]] = {}
    or_else: dict[str, tuple[str, str, str]] = {}


def _minus(column: str, prefix: str) -> tuple[str, str, str]:
    return column, f"{prefix}_low", f"{prefix}_high"


GENUINE = {"world": [WORLD], "metric": ["genuine_rate"]}
RATIO = {"world": [WORLD], "reading": ["ratio {pure_aggregate}, U {pure_uncertainty}"]}
CUT = _minus("entropy_minus_this", "diff")
PREMISES = (
    Premise("a teacher keeps failing more than a tenth of the hard problems", "teacher_ceiling", "01",
            {"world": [WORLD], "difficulty": [HARD]}, _minus("unsolved", "unsolved"), "share unsolved", above=0.1),
    Premise("the surge is where a failed text broke, more often than by position", "gear_breakpoints", "02",
            {"world": [WORLD], "slack": [0]},
            ("gain_permuted", "gain_low_permuted", "gain_high_permuted"), "hits, minus another text's breakpoint",
            or_else={"hits, minus a fixed step": ("gain_fixed", "gain_low_fixed", "gain_high_fixed")}),
    Premise("the answer given there lets the teacher repair it", "gear_hints", "02",
            GENUINE | {"hint": ["none", "wrong"]}, _minus("first_minus_this", "diff"), "genuine repairs, minus hint",
            name="hint"),
    Premise("the surge is where to cut, rather than elsewhere in the window", "gear_cut_rules", "02",
            GENUINE | {"cut": ["random", "fixed", "permuted"]}, CUT, "genuine repairs, minus cut", name="cut"),
    Premise("keeping the text before it beats a hint at the start", "gear_cut_rules", "02",
            GENUINE | {"cut": ["start"]}, CUT, "genuine repairs, minus cut", name="cut"),
    Premise("GEAR takes fewer teacher tokens per genuine repair than a hint at the start", "gear_cut_rules", "02",
            {"world": [WORLD], "metric": ["tokens_per_genuine"], "cut": ["start"]},
            ("entropy_over_this", "over_low", "over_high"), "genuine per token, GEAR's over that of cut start",
            above=1.0, name="cut", beside={"cut": ["fixed", "permuted"]}),
    Premise("perplexity against uncertainty tells derivations from shortcuts better than chance", "pure_auroc", "03",
            RATIO, ("auroc", "ci_low", "ci_high"), "AUROC, chance .5", above=0.5, name="reading",
            beside={"reading": ["mean NLL"]}),
    Premise("perplexity against uncertainty tells derivations from shortcuts better than mean NLL alone", "pure_auroc",
            "03", RATIO, _minus("minus_nll", "minus_nll"), "AUROC minus that of mean NLL"),
)
CORNERS = Premise("HEAL beats rejection sampling, the best of its kinds, on hard problems that its teacher never "
                  "solved (by samples under the other seeds)", "learned_corners", "05",
                  {"method": [*claims.SAMPLING], "benchmark": [claims.POOLED], "solved": ["0", 0]},
                  _minus("gain", "gain"), "share right, heal minus", name="method",
                  beside={"method": ["sft-rs", "star"]})  # no premise, but read as they are


def command(folder: Path, notebook: str) -> str:
    """What makes the results of a notebook, given by number, again: a run of the scale that the folder is named for."""
    scale = Path(folder).name.partition("+")[0]
    return f'`make reproduce {f"SCALE={scale} " * (scale != "demo")}ARGS="--only {notebook}"`'


def table(folder: Path, asked: Sequence[Premise] = PREMISES) -> pd.DataFrame:
    """One row per premise: what is measured with its 95 % interval, the verdict, and the table and command that show
    it. What a folder lacks is "not measured"."""
    found = [_decisive(Path(folder), premise) for premise in asked]
    known = [each is not None for each in found]
    p = np.ones(len(found))
    p[known] = stats.holm(np.array([each["p"] for each in found if each is not None]))
    rows = []
    for premise, row, p_holm in zip(asked, found, p, strict=True):
        shown = [premise.table, command(folder, premise.notebook)]
        if row is None:
            rows.append([premise.text, premise.shown, "", claims.UNMEASURED, *shown])
            continue
        verdict = claims.strength(row["low"] - premise.above, row["high"] - premise.above, p_holm)
        rows.append([premise.text, row["shown"], row["said"], verdict, *shown])
    return pd.DataFrame(rows, columns=[f"premise (in {WORLD})", "measured", "value [95 %]", "verdict", "table",
                                       "command"])


def measured(folder: Path) -> pd.DataFrame:
    """The rows of `table` that were measured, the verdict after what it is about."""
    found = table(folder)
    found.insert(3, "in other worlds", [_elsewhere(Path(folder), premise) for premise in PREMISES])
    first = [found.columns[0], "verdict"]
    return found.loc[found["verdict"] != claims.UNMEASURED, [*first, *found.columns.drop(first)]]


def _elsewhere(folder: Path, premise: Premise) -> str:
    """The same in the run's other worlds, in words, and which control is the strongest there, where it is another; no
    verdict rests on it."""
    of, said = {}, []
    for world in (WORLD, *provenance.record(folder).get("config", {}).get("worlds", ())):
        of[world] = _decisive(folder, premise._replace(beside={}), {"world": [world]})
    judged = of.pop(WORLD)
    for world, row in of.items():
        if row:
            control = f" ({row['shown']})" if judged and row["shown"] != judged["shown"] else ""
            said.append(f"{world} {row['said']}{control}")
    return "; ".join(said)


def _decisive(folder: Path, premise: Premise, other: dict[str, list[Any]] | None = None) -> dict[str, Any] | None:
    """What a premise rests on, in words and numbers; None where it was not measured. `other`: instead of `where`."""
    file, where = folder / "tables" / f"{premise.table}.csv", _asked(folder, premise) | (other or {})
    if not file.is_file() or not len(found := _rows(pd.read_csv(file), premise, where)):
        return None
    several = {premise.shown: premise.columns, **premise.or_else}
    shown = min(several, key=lambda each: found[several[each][0]].min())
    columns, n = several[shown], len(found) * len(several)
    row = found.loc[found[columns[0]].idxmin()]
    value, low, high = (float(row[column]) for column in columns)
    error = (high - low) / (2 * norm.ppf(0.975))
    far = abs(value - premise.above) / error if error else np.inf * (value != premise.above)
    said = _said(row, columns)
    if premise.beside:
        others = _rows(pd.read_csv(file), premise, where | premise.beside)
        for _, other in others[others[premise.name] != row[premise.name]].iterrows():
            said += f"; {other[premise.name]} {_said(other, columns)}"
    one_of = premise.name and (len(premise.where.get(premise.name, ())) > 1 or not premise.beside)
    named = f"{shown} {row[premise.name]}" if one_of else shown
    p = row.get(f"{columns[0]}_p", 2 * norm.sf(np.nan_to_num(far)))  # its own, where a table has one
    return {"low": low, "high": high, "p": min(1.0, n * p), "said": said, "shown": named}


def _rows(found: pd.DataFrame, premise: Premise, where: dict[str, list[Any]]) -> pd.DataFrame:
    """The measured rows that agree with `where`; none where an older table lacks a column."""
    for column, values in where.items():
        found = found[found[column].isin(values)]
    asked = [*premise.columns, *sum(map(list, premise.or_else.values()), [])]
    return found.dropna(subset=asked) if set(asked) <= set(found) else found[:0]


def _asked(folder: Path, premise: Premise) -> dict[str, list[Any]]:
    """`where` of a premise with what the run's record says of its scale, or, without one, the defaults."""
    usual = {name: default for name, (_, _, default) in scales.kinds().items()}
    used = usual | provenance.record(folder).get("config", {})
    return {column: [value.format(**used) if isinstance(value, str) else value for value in values]
            for column, values in premise.where.items()}


def _said(row: pd.Series, columns: tuple[str, str, str]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*(row[column] for column in columns))

"""What a sweep over teachers says (`sweep`): a verdict per cell, all teachers together, and both in words.

    cells (a row per question and teacher) -> judged -> sentences: where each part helps, where it does not
    cells, samples -> together: over all teachers, and along each of their knobs"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import t

from heal_lib import claims, knobs, provenance, report, stats

SHIPPED = "student"
QUESTIONS = {"HEAL": "sft-rs", "GEAR": "heal-no-gear", "PURE": "heal-no-pure", "PACE": "heal-no-pace"}  # HEAL minus it
# The knobs of a family's teachers: rows and columns of the map. A scale has the values of each as sweep_<knob>.
KNOBS = {"": ("derive_hinted", "derive_unprompted"), "registers": ("hazard", "confident")}
WORDS = {"derive_hinted": "{} of the hinted texts read derive",
         "derive_unprompted": "{} of the unhinted texts read derive", "parameters": "the student has {} parameters",
         "hazard": "the chance of a shortcut is {}", "confident": "of two wrong operations one is taken with chance {}"}
AXES = {"derive_hinted": "derivations in hinted text (share)",
        "derive_unprompted": "derivations in unhinted text (share)", "parameters": "parameters of the student",
        **{name: knobs.WORDS[name] for name in KNOBS["registers"]}}


def judged(rows: pd.DataFrame, of: str | pd.Series = "question") -> pd.DataFrame:
    """The table with p-values after Holm's correction over all rows `of` a question, and with verdicts."""
    rows = rows.assign(p_holm=np.nan)
    for _, part in rows.groupby(of):
        rows.loc[part.index, "p_holm"] = stats.holm(part["p"])
    told = [claims.strength(*row) for row in rows[["ci_low", "ci_high", "p_holm"]].itertuples(index=False)]
    return rows.assign(verdict=told)


def together(table: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """What one cell is too small to tell: HEAL minus what answers each question on hard problems over *all* teachers
    with the shipped student (`along` = "all"); and how much it changes from the least to the greatest value of a knob,
    by a straight line through the cells. Cells in which both are the same students are left out, and a knob of one
    value. 95 % intervals; p-values after Holm's correction over the questions, of lines over questions and knobs.

    Problems, seeds and teachers each have an error: of means over the others, and of cells around mean or line. They
    add as in `stats.paired_p`. table, samples: of `Sweep.table` and `Sweep.samples`."""
    cells, names, rows = table[table["student"] == SHIPPED], list(varying(table)), []
    runs = samples[(samples["student"] == SHIPPED) & samples["benchmark"].str.endswith("-hard")]
    for question, part in cells.groupby("question", sort=False):
        part = part if question == "PACE" else part[part["other_rows"] > 0]
        if len(part) < 3:
            continue
        heal, other = (runs[runs["method"] == method].pivot_table("correct", names, ["problem_id", "seed"])
                       for method in ("heal", part["against"].iloc[0]))
        gains = (heal - other).loc[[*part[names].itertuples(index=False, name=None)]]
        n_cells = len(gains)
        rows.append([question, "all", np.nan, np.nan, *_weighed(gains, np.full(n_cells, 1 / n_cells), n_cells - 1)])
        for name in names:
            x = gains.index.get_level_values(name).to_numpy()
            if (reach := np.ptp(x)) > 0:
                slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
                rows.append([question, name, x.min(), x.max(), *_weighed(gains, reach * slope, n_cells - 2, x)])
    found = pd.DataFrame(rows, columns=["question", "along", "least", "most", "difference", "ci_low", "ci_high", "p"])
    return judged(found, found["along"] == "all")


def _weighed(gains, weights, df, x=()):
    """(value, low, high, p) of a weighted sum over the rows of gains [cell, (problem, seed)]. A cell's own error is its
    distance from the mean, or from a straight line along x."""
    means, value = gains.mean(axis=1), gains.T @ weights
    around = means - np.polyval(np.polyfit(x, means, 1), x) if len(x) else means - means.mean()
    errors = [(float(np.sqrt((around**2).sum() / df * (weights**2).sum())), df)]
    for level in ("problem_id", "seed"):
        each = value.groupby(level=level).mean()
        errors += [(each.std() / len(each) ** 0.5, len(each) - 1)] * (len(each) > 1)
    far, half = value.mean(), _half_width(errors, np.log(0.05))
    least = np.log(1e-12)
    p = 1e-12 if abs(far) >= _half_width(errors, least) else np.exp(
        brentq(lambda log_p: abs(far) - _half_width(errors, log_p), least, 0.0)) if far else 1.0
    return far, far - half, far + half, float(p)


def _half_width(errors, log_p):
    """As `stats.paired_p` has it, of three errors. Not shared with it: the code of `stats` is in the keys of the
    teachers that a sweep trains, and these would be trained again."""
    return np.sqrt(sum((se * t.isf(np.exp(log_p) / 2, df)) ** 2 for se, df in errors))


def varying(table: pd.DataFrame) -> tuple[str, str]:
    """The knobs of the teachers of a table of cells, or of samples."""
    return next(pair for pair in KNOBS.values() if set(pair) <= set(table))


BY_CELL = ". By teacher: "


def overall(pooled: pd.DataFrame) -> dict[str, str]:
    """What `together` says of each question, and along which knobs it changes."""
    said = {}
    for question, part in pooled.groupby("question", sort=False):
        whole, *lines = part.to_dict("records")
        moved = [f"{report.interval(line['difference'], line['ci_low'], line['ci_high'], '+')} as "
                 f"*{AXES[line['along']]}* goes from {line['least']:g} to {line['most']:g} "
                 f"({'after' if line['p_holm'] < claims.LEVEL else 'before'} correction)"
                 for line in lines if line["verdict"] != claims.NOT]
        number = report.interval(whole["difference"], whole["ci_low"], whole["ci_high"], "+")
        said[question] = (f"over all teachers {number} points, {whole['verdict']}"
                          + f"; it changes by {', by '.join(moved)}" * bool(moved) + BY_CELL)
    return said


def sentences(table: pd.DataFrame, pooled: pd.DataFrame | None = None) -> list[str]:
    """What the table says, per question over the teachers with the shipped student (first of all together, where
    `together` was asked), and on HEAL over students of all sizes; nothing of an empty one."""
    if not len(table):
        return []
    varied, whole = varying(table), overall(pooled) if pooled is not None else {}
    parted = [(table[table["student"] == SHIPPED], "teachers", varied),
              (table[table["student"] != SHIPPED], "pairs of a teacher and a size", (varied[0], "parameters"))]
    return [f"**{question}** (minus {cells['against'].iloc[0]}): {whole.get(question, '') * (of == 'teachers')}"
            f"{told(cells, of, varied)}." for part, of, varied in parted
            for question, cells in part.groupby("question", sort=False)]


def told(cells: pd.DataFrame, of: str, varied: Sequence[str]) -> str:
    """In how many cells of one question each verdict holds, and where; in how many nothing was asked, for both are
    given the same rows; and half the median interval."""
    n, order = len(cells), "PACE" in set(cells["question"])  # which is about order alone
    cells = cells if order else cells[cells["other_rows"] != 0]
    if not len(cells):
        return f"not asked: in all {n} {of} both are given the same rows"
    half, said = 50 * (cells["ci_high"] - cells["ci_low"]).median(), []
    for verdict in dict.fromkeys((claims.SHOWN, *sorted(set(cells["verdict"]) - {claims.NOT}), claims.NOT)):
        which = cells["verdict"] == verdict
        where = "" if verdict == claims.NOT else region(cells, which, varied)
        said.append(f"{verdict} in {which.sum() or 'none'}" + f" of {n} {of}" * (not said) + where)
    same = n - len(cells)
    nothing = f"; not asked in {same}, where both are given the same rows" * bool(same)
    return "; ".join(said) + f"{nothing} (median half-width {half:.1f} points)"


def region(cells: pd.DataFrame, which: pd.Series, varied: Sequence[str]) -> str:
    """", where ..." of the smallest box of varied values that holds those cells, and how many of its cells they are; ""
    where there are none, or the box is the whole map."""
    inside, bounds = np.ones(len(cells), bool), []
    for name in varied if which.any() else ():
        values, (least, most) = cells[name], cells.loc[which, name].agg(["min", "max"])
        inside &= values.between(least, most).to_numpy()
        low, high = (f"{value:,.10g}" for value in (least, most))
        if least > values.min() or most < values.max():
            bounds.append(WORDS[name].format(low if least == most else f"at least {low}" if most == values.max() else
                                             f"at most {high}" if least == values.min() else f"{low} to {high}"))
    share = f" ({which.sum()} of the {inside.sum()} there)" if inside.sum() > which.sum() else ""
    return f", where {' and '.join(bounds)}{share}" if bounds else ""


def guessed(world: str, n: int) -> str:
    """What a student solves of the hard test problems that guesses the operation at each fork and makes no other
    mistake, in words; "" in worlds without forks."""
    if world != "registers":
        return ""
    from heal_lib.worlds import get, programs

    hard = [programs.parse(problem.question).values() for problem in get(world).problems("test", n, 0, "hard")]
    forks = [sum(move in programs.GLYPHS for register in of for move, _ in register.moves) for of in hard]
    return f"; guessing at each fork gives {100 * np.mean(len(programs.OPERATIONS) ** -np.array(forks, float)):.1f} %"


def first_page(*folders: Path) -> list[str]:
    """Paragraphs for README on sweeps: their maps, and what they say; none of one that is not there."""
    said = []
    for folder in folders:
        if not (record := provenance.record(folder)):
            continue
        table, where = pd.read_csv(folder / "tables" / "when_sweep.csv"), f"results/{folder.name}"
        pooled = folder / "tables" / "when_together.csv"
        lines = [f"- {line}" for line in sentences(table, pd.read_csv(pooled) if pooled.exists() else None)]
        strict = folder / "tables" / "when_derived.csv"
        counted = overall(pd.read_csv(strict)) if strict.exists() else {}
        world = record["config"]["worlds"][0]
        none = "" if world == "registers" else "; guess-and-check, which `sft-rs` learns, is no derivation"
        if counted:
            lines.append("- Of answers that are right *and* derived, by the oracle (asked after accuracies had been "
                         f"seen{none}):")
            lines += [f"  - **{question}** {words.removesuffix(BY_CELL)}." for question, words in counted.items()]
        sizes = f"{table['n_problems'].max()} problems, {table['n_seeds'].max()} seeds"
        shares = table.groupby(table["student"] == SHIPPED)[["teacher", "sft-rs", "heal"]].agg(["min", "max"]) * 100
        solved = {shipped: [f"{part[of, 'min']:.1f} to {part[of, 'max']:.1f} %" for of in ("teacher", "sft-rs", "heal")]
                  for shipped, part in shares.iterrows()}
        floor = (f", those of the other sizes, whose bases have read this world alone, {solved[False][-1]}: a floor, "
                 "where sizes say nothing" if False in solved else "")
        said += [f"**When does HEAL help?** Other teachers{' and sizes of students' * bool(floor)}, in "
                 f"`{world}` ({sizes}, {record['config']['train_tokens']:,} training tokens "
                 "each; HEAL minus the method in brackets):\n\n" + "\n".join(lines)
                 + "\n\nOf the hard problems teachers solve {}, `sft-rs`'s students, which cost fewer teacher tokens, "
                   "{}, HEAL's {}".format(*solved[True]) + f"{floor}{guessed(world, table['n_problems'].max())}."
                 + " Over all teachers was asked after their cells had been seen." * (folder.name == "sweep"),
                 f"![HEAL and its parts by what the teacher is like]({where}/figures/when_map.png)",
                 report.origin(folder, where, "09_when"), *report.took(folder, where)]
    return said

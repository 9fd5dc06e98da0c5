"""What is claimed, each sentence beside the number that decides it, for README (`abstract` has the paper's order).

`folders`: a results folder, or several: of what more than one has compared the first speaks, and what is no comparison
of students is that of the last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from heal_lib import baselines, claims, given, premises, provenance
from heal_lib.report import interval

MADE_BY = {"main_pairs": "05", "ablations": "06", "main_parts": "05"}  # notebooks of tables of `tables.differences`
INSTEAD = {"ablations": "main_parts"}  # what stands in for a table that a folder has not
READ_AGAINST = ["heal", "sft-rs-matched", "star", "star-pure", claims.ONE_STAGE]  # another reading of PACE
BEST_OTHER = "the best other method"
CLAIM = ["claim", "minus", "points [95 %]", "p (Holm)", "verdict", "table", "command", "folder"]


def claims_table(folders: Path | Sequence[Path]) -> pd.DataFrame:
    """One row per claim and per best other method: what HEAL is set against, the difference in points with its
    interval, the corrected p-value, the verdict, and the table, command and folder that show it. What no folder has is
    "not measured"."""
    tables, rows = {name: compared(folders, name) for name in {claim.table for claim in claims.CLAIMS}}, []
    last = _listed(folders)[-1]
    for claim in claims.CLAIMS:
        found = claims.strongest(claim, tables[claim.table])
        where = "" if claim.benchmark == claims.POOLED else f" ({claim.benchmark})"
        rows += [_said(claim.text + where, row) for row in found.itertuples()] or [
            [claim.text + where, ", ".join(claim.against), "", "", claims.UNMEASURED, claim.table, last]]
    for row in _best_others(folders).itertuples():
        rows.append(_said(f"HEAL beats {BEST_OTHER} on {row.benchmark}", row))
    return pd.DataFrame([[*row, table, premises.command(folder, MADE_BY[table]), folder.name]
                         for *row, table, folder in rows], columns=CLAIM)


def _listed(folders):
    return [Path(folders)] if isinstance(folders, str | Path) else [*map(Path, folders)]


def compared(folders: Path | Sequence[Path], name: str) -> pd.DataFrame:
    """A table of `tables.differences`, p-values corrected as `claims` has it, with the `folder` and the `table` of each
    row: of every pair and benchmark that of the first folder that has it, of one alone there is no "together", and what
    is together without `claims.JUDGE` is called so. Empty if it is missing."""
    pair, found, several = ["method", "against", "benchmark"], [], len(_listed(folders)) > 1
    for folder in _listed(folders):
        file = first(folder, name) or first(folder, INSTEAD.get(name, name))
        if file is None:
            continue
        table = pd.read_csv(file)
        table = table.assign(p_holm=claims.corrected(table), folder=folder, table=file.stem)
        hard = [of for of in table["benchmark"].unique() if of.endswith("-hard")]
        if several and len(hard) == 1:
            table = table[table["benchmark"] != claims.POOLED]
        elif several and claims.JUDGE not in hard:
            table = table.replace({"benchmark": {claims.POOLED: claims.ELSEWHERE}})
        found.append(table)
    if not found:
        return pd.DataFrame(columns=[*pair, "p", "p_holm", "folder", "table"])
    return pd.concat(found, ignore_index=True).drop_duplicates(pair, ignore_index=True)


def _best_others(folders):
    results, pairs = first(folders, "main_results"), compared(folders, "main_pairs")
    return claims.best_others(pairs, pd.read_csv(results)) if len(pairs) and results else pairs


def first(folders: Path | Sequence[Path], table: str) -> Path | None:
    """The file of a table in the first folder that has it."""
    files = [folder / "tables" / f"{table}.csv" for folder in _listed(folders)]
    return next((file for file in files if file.is_file()), None)


def _said(claim, row):
    p = f"{row.p_holm:.3f}" if row.p_holm >= 0.001 else "<0.001"
    return [claim, row.against, interval(row.difference, row.ci_low, row.ci_high, "+"), p,
            claims.strength(row.ci_low, row.ci_high, row.p_holm), row.table, row.folder]


def parts(folders: Path | Sequence[Path]) -> str:
    """A list: what the runs say of GEAR, PURE and PACE, and of HEAL against the best other method."""
    table, folder = compared(folders, "ablations"), _listed(folders)[-1]
    found, floor = claims.verdicts(table), claims.floor_sentence(compared(folders, "main_pairs"))
    said = {part: [*claims.part_sentences(part, found, _studies(table, part)), power(table, part)]
            for part in claims.PARTS}
    moved = given.sentence(folder)
    said["PURE"] += [moved + one_draw(folder) * bool(moved)]
    said["PACE"] += [exposure(folder), equal_exposure(folders)]
    heal = [whole(folders), mixed(folders), reading(folders), corners(folders), derived(folders), greedy(folders)]
    items = heal, [floor], *said.values()
    return "\n".join(f"- {head}" + "".join(f"\n  - {line}" for line in more if line) for head, *more in items if head)


def _studies(table, part):
    """benchmark -> the folders whose students say what the part is worth; nothing of one folder alone."""
    rows = table[(table["method"] == "heal") & table["against"].isin([name for name, _ in claims.PARTS[part]])]
    several = table["folder"].astype(str).nunique() > 1
    return {benchmark: "`, `".join(dict.fromkeys(folder.name for folder in of["folder"]))
            for benchmark, of in rows.groupby("benchmark", sort=False)} if several else {}


def one_draw(folder: Path) -> str:
    """Of which draw of the teacher's texts a number is that is no accuracy, where there are several; else ""."""
    draws = provenance.record(folder).get("config", {}).get("teacher_draws", 1)
    return f" Counted in the first of the teacher's {draws} draws." * (draws > 1)


def whole(folders: Path | Sequence[Path]) -> str:
    """What HEAL as a whole is worth: minus the best rejection sampling and STaR on the hard benchmarks together, and
    minus the best other method on each benchmark."""
    said = [_judged(row) for row in _strongest(compared(folders, "main_pairs"))]
    lines = [f"on the hard benchmarks together {', '.join(said)}"] * bool(said)
    best = [claims.strength(row.ci_low, row.ci_high, row.p_holm) for row in _best_others(folders).itertuples()]
    if best:
        n = {how: best.count(how) for how in claims.WORDS}
        lines.append(f"against {BEST_OTHER} of each benchmark it is better on {n[claims.SHOWN]} of {len(best)}, worse "
                     f"on {n[claims.CONTRADICTED]} (after correction, though not for picking the best), perhaps better "
                     f"on {n[claims.SUGGESTED]} and perhaps worse on {n[claims.BEFORE]} (before correction alone)")
    return f"**HEAL**: {'; '.join(lines)}." if lines else ""


def _strongest(pairs, benchmark=claims.POOLED):
    """HEAL minus the best rejection sampling and minus STaR, on the hard benchmarks together or another."""
    return [row for claim in claims.CLAIMS if claim.against in (claims.SAMPLING, ("star",))
            and claim.benchmark == claims.POOLED
            for row in claims.strongest(claim._replace(benchmark=benchmark), pairs).itertuples()]


def _minus(row):
    return f"minus `{row.against}` {interval(row.difference, row.ci_low, row.ci_high, '+')} points"


def _judged(row):
    return f"{_minus(row)} ({claims.strength(row.ci_low, row.ci_high, row.p_holm)})"


def mixed(folders: Path | Sequence[Path]) -> str:
    """What HEAL's rows are worth without its stages; "" where it was not asked."""
    file = _beside(folders, "main_mixed")
    rows = compared([file.parent.parent] if file else [], "main_mixed")
    rows = rows[(rows["benchmark"] == claims.POOLED) & rows["against"].isin(READ_AGAINST)]
    said = ", ".join(map(_judged, rows.itertuples()))
    return (f"Its rows in **one mixed stage**, without PACE: {said} (asked after HEAL minus each had been seen; no "
            "claim rests on it)." if said else "")


def corners(folders: Path | Sequence[Path]) -> str:
    """What HEAL adds on the hard problems that its teacher never solves; "" where it was not measured."""
    file = _beside(folders, premises.CORNERS.table)
    strict = premises.CORNERS._replace(table=f"{premises.CORNERS.table}_derived")
    rows, counted = (premises.table(file.parent.parent, (each,)).to_numpy() if file else []
                     for each in (premises.CORNERS, strict))
    also = "".join(f"; right *and* derived, {shown.partition(', ')[2]}: {said}"
                   for _, shown, said, verdict, *_ in counted if verdict != claims.UNMEASURED)
    return "".join(f"{text}: *{verdict}* ({shown}: {said}; one of several classes, not corrected for that{also})."
                   for text, shown, said, verdict, *_ in rows if verdict != claims.UNMEASURED)


def _beside(folders, name):
    """The file of a table of the students that the first page's main claims are of."""
    main = first(folders, "main_pairs")
    return first([main.parent.parent] if main else folders, name)


def greedy(folders: Path | Sequence[Path]) -> str:
    """HEAL minus the best rejection sampling and minus STaR on the hard benchmarks together, where students write the
    likeliest token each time; "" where none did."""
    file = _beside(folders, "main_greedy")
    said = [_minus(row) for row in _strongest(pd.read_csv(file))] if file else []
    return f"Greedy, rather than at temperature 1: {', '.join(said)} (no claim, not corrected)." if said else ""


def derived(folders: Path | Sequence[Path]) -> str:
    """The same where a right answer counts only if the oracle finds it derived; "" where it was not asked."""
    file, said = _beside(folders, "main_derived"), []
    for benchmark, where in ((claims.POOLED, ""), (claims.JUDGE, f"on {claims.JUDGE} ")):
        rows = _strongest(pd.read_csv(file), benchmark) if file else []
        said += [where + ", ".join(map(_minus, rows))] * bool(rows)
    return (f"Of answers that are right *and* derived, by the oracle: {'; '.join(said)} (no claim, not corrected; in "
            "equations and paths guess-and-check is right and no derivation)." if said else "")


def reading(folders: Path | Sequence[Path]) -> str:
    """HEAL under another reading of PACE, minus HEAL as it stands: where that was found, and elsewhere; "" where it has
    no students."""
    rows = _other(folders).query("against == 'heal'").set_index("benchmark")
    said = ["{} points ({}) on {}".format(*_told(rows.loc[name]), where) for name, where in (
        (claims.ELSEWHERE, f"the hard benchmarks but {claims.JUDGE} together"),
        (claims.JUDGE, f"{claims.JUDGE}, where this was found")) if name in rows.index]
    return ("PACE may also be read as **one learning-rate schedule for all stages**. HEAL so trained, minus HEAL as it "
            f"stands: {', '.join(said)}; no claim rests on it." if said else "")


def readings(folders: Path | Sequence[Path]) -> pd.DataFrame:
    """HEAL minus other methods under both readings of PACE, and in one mixed stage, by students of one study: one row
    per method and benchmark compared in both."""
    file = first(folders, "main_one_schedule")
    own = [file.parent.parent] if file else []
    one_stage = compared(own, "main_mixed").set_index(["against", "benchmark"])
    usual = pd.concat([compared(own, name).query("method == 'heal'") for name in ("main_pairs", "ablations")])
    usual = usual.drop_duplicates(["against", "benchmark"]).set_index(["against", "benchmark"])
    other = _other(folders).set_index(["against", "benchmark"])
    asked = [(method, name) for method in READ_AGAINST[1:] for name in (claims.POOLED, claims.ELSEWHERE, claims.JUDGE)]
    rows = [[*key, *(cell for of in (usual, other, one_stage) for cell in (
        _told(of.loc[key]) if key in of.index else ("", "")))] for key in asked
        if key in usual.index and key in other.index]
    return pd.DataFrame(rows, columns=["HEAL minus", "benchmark", "a schedule for each stage", "verdict",
                                       "one schedule", "its verdict", "one mixed stage", "and its"])


def _other(folders):
    """The rows of HEAL's other reading, drawn at the run's temperature; none if it has no students."""
    file = first(folders, "main_one_schedule")
    rows = pd.read_csv(file) if file else pd.DataFrame(columns=["against", "benchmark", "decoding"])
    return rows[rows["decoding"] == "sampled"]


_POINTS = ["difference", "ci_low", "ci_high"]


def _told(row):
    return interval(*row[_POINTS], "+"), claims.strength(row["ci_low"], row["ci_high"], row["p_holm"])


def power(ablations: pd.DataFrame, part: str) -> str:
    """Which difference from HEAL without the part would have been found on `claims.JUDGE`, where none was; else ""."""
    (without, name), *_ = claims.PARTS[part]
    for row in ablations.itertuples():
        asked = (row.method, row.against, row.benchmark) == ("heal", without, claims.JUDGE)
        if asked and row.ci_low <= 0 <= row.ci_high and pd.notna(getattr(row, "detectable", None)):
            return (f"On {claims.JUDGE} a difference from {name} below {100 * row.detectable:.0f} points would often "
                    "have been missed (80 % power, before correction).")
    return ""


def exposure(folder: Path) -> str:
    """How much more often one mixed stage shows repairs than PACE does, so that order alone is not compared; "" where
    it was not measured."""
    file, said = folder / "tables" / "pace_exposure.csv", []
    seen = pd.read_csv(file) if file.is_file() else pd.DataFrame()
    if not {"family", "repair"} <= set(seen):
        return ""
    for family, part in seen.groupby("family", sort=False):
        repair = 100 * part.set_index("method")["repair"]
        if {"heal", "heal-no-pace"} <= set(repair.index):
            said.append(f"{repair['heal']:.1f} % in stages and {repair['heal-no-pace']:.1f} % mixed ({family})")
    return (f"Of the training tokens repairs get {'; '.join(said)}: order is not all that differs (`04_pace`)." if said
            else "")


def equal_exposure(folders: Path | Sequence[Path]) -> str:
    """Comparisons of orders that see every row as often, on `claims.JUDGE`, and of runs without it on their hard
    benchmarks together; "" where there are none. The other reading of PACE is left to `reading`, where that has it."""
    said, told = [], [claims.OTHER_READING] * bool(len(_other(folders)))
    for folder in _listed(folders):
        file = folder / "tables" / "pace_equal.csv"
        table = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["benchmark", "against"])
        judged = claims.JUDGE in set(table["benchmark"])
        asked = table["benchmark"] == (claims.JUDGE if judged else claims.POOLED)
        rows = table[asked & ~table["against"].isin(told)]
        where = claims.JUDGE if judged else ", ".join(provenance.record(folder).get("config", {}).get("worlds", ()))
        found = [f"*{_order(row.method)}* minus *{_order(row.against)}* "
                 f"{interval(row.difference, row.ci_low, row.ci_high, '+')} points" for row in rows.itertuples()]
        where += f"{'' if judged else ', hard ones together'} (`{folder.name}`)"
        said += [f"on {where}: {'; '.join(found)}"] * bool(found)
    return f"With each row seen as often, {'. And '.join(said)}." if said else ""


def _order(method):
    return baselines.get(method).label.removeprefix("PACE: ")


CORRECTED = (
    "A claim is *shown* if its paired interval lies above zero, and still does after Holm's correction (5 %), "
    "*suggested* if it does only before; *not shown* if the interval includes zero; *contradicted* if it lies below, "
    "*before correction* if only then. Corrected together are the comparisons that answer one question: HEAL against "
    "rejection sampling (of every kind), the teacher, other rivals; GEAR, PURE and PACE, each against the controls "
    "that decide its claim (its other variants apart), within each study; this apart for the hard benchmarks "
    "together, for registers-hard, which was made to judge GEAR, for the hard ones without that together, and for "
    "all others. The three first overlap, and are not corrected for one another; the last of them was added when "
    "results of the others had been seen. Claims that name no benchmark are on the hard ones of the study together. "
    "The best of several others is picked on the same problems, which favours it.")

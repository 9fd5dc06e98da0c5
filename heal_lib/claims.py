"""What is claimed, and which comparisons are corrected together: the one place that decides both.

A *family* is one question: HEAL against some other methods. Its p-values are corrected by Holm's method four times,
apart: over its pairs on the hard benchmarks together, on `JUDGE`, on the hard ones without that together (the primary
tests, which overlap and are not corrected for one another), and on all other single benchmarks. A table holds what its
study has of a family, so all tables of one study that have the same of it show one p-value. A pair of no family is a
family by itself.

A part's own family holds the controls that decide what it may claim. Whatever else is varied of it explores, and is a
second family: its size takes nothing from the first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from heal_lib import stats
from heal_lib.baselines import CUTS, FILTERS, ORDERS, POSITIONS, SAMPLING

LEVEL = 0.05
POOLED = "hard, pooled"
# Another reading of PACE, found the better one in `registers` (04): there it proves nothing. Elsewhere it was a test
# when it was first run (FINDINGS.md, Orders); students trained anew are tested on the same problems.
OTHER_READING, ONE_STAGE, ELSEWHERE = "heal-one-schedule", "heal-no-pace", "hard, but registers"
JUDGE = "registers-hard"  # the benchmark made to judge GEAR (`embedded.gates`), named before its first student

# question: what HEAL is compared with. Every table that shows a pair is made from samples of its whole family, as far
# as the run has them.
FAMILIES = {
    "rejection sampling": SAMPLING,
    "the student before": ("student",),
    "the teacher": ("teacher",),
    "other rivals": ("star", "star-pure", "limo", "paced", "answers", "logits"),
    "GEAR": ("heal-no-gear", *POSITIONS, "heal-start-cut"),
    "PURE": ("heal-no-pure", "heal-nll", "heal-oracle", "heal-oracle-share"),
    "PACE": ("heal-no-pace",),
}
FAMILIES |= {f"variants of {part}": tuple(name for name in members if name not in ("heal", *FAMILIES[part]))
             for part, members in (("GEAR", CUTS), ("PURE", FILTERS), ("PACE", ORDERS))}


def family(method: str, against: str) -> tuple[tuple[str, str], ...]:
    """All pairs that are corrected together with this one."""
    ours = method in ("heal", OTHER_READING, ONE_STAGE)
    found = next((others for others in FAMILIES.values() if ours and against in others), (against,))
    return tuple((method, other) for other in found if other != method)


def corrected(table: pd.DataFrame) -> np.ndarray:
    """[n] p-values after Holm's correction within families; `table` has method, against, benchmark and p."""
    primary = {name: name for name in (POOLED, JUDGE, ELSEWHERE)}
    keys = [(family(row.method, row.against), primary.get(row.benchmark)) for row in table.itertuples()]
    out = np.full(len(table), np.nan)
    for key in set(keys):
        mine = np.array([other == key for other in keys])
        out[mine] = stats.holm(table["p"].to_numpy(float)[mine])
    return out


class Claim(NamedTuple):
    """Something a reader may want to quote, whichever way it falls: `method` minus `against` is above zero; of several,
    the strongest that the run compares."""

    text: str
    table: str
    against: tuple[str, ...]
    benchmark: str = POOLED
    method: str = "heal"


CLAIMS = (
    Claim("HEAL beats rejection sampling, the best of its kinds", "main_pairs", SAMPLING),
    Claim("... also at equal teacher tokens", "main_pairs", ("sft-rs-matched",)),
    Claim("HEAL's student passes its teacher", "main_pairs", ("teacher",)),
    Claim("... and so does rejection sampling's", "main_pairs", ("teacher",), method="sft-rs"),
    Claim("HEAL beats STaR", "main_pairs", ("star",)),
    Claim("HEAL beats STaR filtered by PURE", "main_pairs", ("star-pure",)),
    Claim("HEAL beats rejection sampling, the best of its kinds", "main_pairs", SAMPLING, JUDGE),
    Claim("HEAL's student passes its teacher", "main_pairs", ("teacher",), JUDGE),
    Claim("... and so does rejection sampling's", "main_pairs", ("teacher",), JUDGE, "sft-rs"),
    Claim("HEAL beats STaR", "main_pairs", ("star",), JUDGE),
    Claim("HEAL beats rejection sampling where skill was expected to be search luck", "main_pairs", SAMPLING,
          "countdown-hard"),
    Claim("GEAR: repairs add to hints", "ablations", ("heal-no-gear",), JUDGE),
    Claim("GEAR: repairs add to hints", "ablations", ("heal-no-gear",)),
    Claim("GEAR: repairs add to hints", "ablations", ("heal-no-gear",), ELSEWHERE),
    Claim("GEAR: the entropy cut beats cuts that read no entropy", "ablations", POSITIONS, JUDGE),
    Claim("GEAR: the entropy cut beats a hint at the start", "ablations", ("heal-start-cut",), JUDGE),
    Claim("PURE: the filter beats none", "ablations", ("heal-no-pure",), JUDGE),
    Claim("PURE: the filter beats none", "ablations", ("heal-no-pure",)),
    Claim("PURE: the filter beats none", "ablations", ("heal-no-pure",), ELSEWHERE),
    Claim("PURE: the ratio beats mean NLL", "ablations", ("heal-nll",), JUDGE),
    Claim("PURE, which drops a fixed share, beats dropping all that the oracle calls spurious", "ablations",
          ("heal-oracle",), JUDGE),
    Claim("... and beats an oracle that drops as many", "ablations", ("heal-oracle-share",), JUDGE),
    Claim("PACE: stages beat one mixed stage", "ablations", ("heal-no-pace",), JUDGE),
    Claim("PACE: stages beat one mixed stage", "ablations", ("heal-no-pace",)),
    Claim("PACE: stages beat one mixed stage", "ablations", ("heal-no-pace",), ELSEWHERE),
)


def strongest(claim: Claim, table: pd.DataFrame) -> pd.DataFrame:
    """The row that a claim rests on: the least difference, that is the best other method on the same problems, which
    favours that one. No row where none of them was compared."""
    found = table[(table["method"] == claim.method) & table["against"].isin(claim.against)
                  & (table["benchmark"] == claim.benchmark)]
    return found.sort_values("difference", kind="stable").head(1) if len(found) else found


SHOWN, SUGGESTED, NOT, CONTRADICTED, UNMEASURED = "shown", "suggested", "not shown", "contradicted", "not measured"
BEFORE = f"{CONTRADICTED}, before correction"


def strength(low: float, high: float, p_holm: float) -> str:
    """How well a claimed gain is shown: where its 95 % interval lies, and whether it survives Holm's correction."""
    if low <= 0 <= high:
        return NOT
    if low > 0:
        return SHOWN if p_holm < LEVEL else SUGGESTED
    return CONTRADICTED if p_holm < LEVEL else BEFORE


def best_others(pairs: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The rows of `main_pairs` that set HEAL against the best other method of the run, one per single benchmark.

    `results`: main_results. Best by the mean on the same test problems, which favours the other method."""
    accuracy = results[results["metric"].str.startswith("avg@")].set_index(["benchmark", "method"])["mean"]
    rows = pairs[(pairs["method"] == "heal") & ~pairs["benchmark"].isin([POOLED, ELSEWHERE])]
    other = [accuracy.get((row.benchmark, row.against), -np.inf) for row in rows.itertuples()]
    best = rows.assign(other=other).groupby("benchmark", sort=False)["other"].idxmax()
    return rows.loc[best]


# --- what the first page says of each part: every control that allows the sentence has to be beaten
PARTS = {
    "GEAR": (("heal-no-gear", "hints without repairs"), ("heal-random-cut", "a random cut"),
             ("heal-fixed-cut", "a cut at a fixed step"), ("heal-permuted-cut", "another trajectory's cut"),
             ("heal-start-cut", "a hint at the start")),
    "PURE": (("heal-no-pure", "no filter"), ("heal-nll", "a filter by mean NLL")),
    "PACE": (("heal-no-pace", "one mixed stage"),),
}


WORDS = {SHOWN: "better than {}", SUGGESTED: "perhaps better than {} (not after Holm's correction)",
         NOT: "not told apart from {}", CONTRADICTED: "worse than {}",
         BEFORE: "perhaps worse than {} (not after Holm's correction)",
         UNMEASURED: "not compared with {} there"}


def verdicts(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(against, benchmark) -> `strength`, of the rows of `tables.differences` in which HEAL is compared."""
    return {(row.against, row.benchmark): strength(row.ci_low, row.ci_high, row.p_holm)
            for row in table[table["method"] == "heal"].itertuples()}


def floor_sentence(pairs: pd.DataFrame) -> str:
    """Where HEAL's student is not shown to be above the untrained one on `JUDGE`: what that takes away; else ""."""
    asked = ("heal", "student", JUDGE)
    row = next((r for r in pairs.itertuples() if (r.method, r.against, r.benchmark) == asked), None)
    if row is None or strength(row.ci_low, row.ci_high, row.p_holm) == SHOWN:
        return ""
    points = f"{100 * row.difference:+.1f} [{100 * row.ci_low:+.1f}, {100 * row.ci_high:+.1f}] points"
    return (f"**On {JUDGE} training did not help**: HEAL's student minus the untrained one is {points} at this budget. "
            "So students say nothing there, for or against a part; what the teacher writes does (`02_gear`, "
            "`03_pure`).")


def part_sentences(part: str, found: dict[tuple[str, str], str], studies: dict[str, str] | None = None) -> list[str]:
    """What is said of GEAR, PURE or PACE by `verdicts`: on the benchmark that can judge, where the run has it, and on
    the hard ones together. GEAR is judged where positions matter alone, if that was measured. Then where else HEAL was
    told apart from HEAL without the part. `studies`: benchmark -> whose students these are."""
    (without, name), *_ = PARTS[part]
    judged = any(benchmark == JUDGE for _, benchmark in found)
    asked = [JUDGE] * judged + [POOLED] * (part != "GEAR" or not judged) + [ELSEWHERE] * ((without, ELSEWHERE) in found)
    told = [part_sentence(part, found, benchmark, (studies or {}).get(benchmark, "")) for benchmark in asked]
    where: dict[str, list[str]] = {}
    for (against, benchmark), how in found.items():
        if against == without and benchmark not in (POOLED, JUDGE, ELSEWHERE) and how not in (NOT, UNMEASURED):
            where.setdefault(how, []).append(benchmark)
    words = [WORDS[how].format(f"{name} on {listed(where[how], 'and')}") for how in WORDS if how in where]
    return [*told, *[f"On single other benchmarks: {'; '.join(words)}."] * bool(words)]


def part_sentence(part: str, found: dict[tuple[str, str], str], benchmark: str = POOLED, study: str = "") -> str:
    """One sentence on GEAR, PURE or PACE from `verdicts`: a part may claim only what all its controls allow."""
    said: dict[str, list[str]] = {}
    here = {POOLED: "on the hard benchmarks together",
            ELSEWHERE: "on the hard benchmarks but registers-hard together"}.get(benchmark, f"on {benchmark}")
    here += f" (`{study}`)" * bool(study)
    for against, name in PARTS[part]:
        said.setdefault(found.get((against, benchmark), UNMEASURED), []).append(name)
    if set(said) == {SHOWN}:
        return f"**{part}** helps {here}: better than {listed(said[SHOWN])}."
    parts = [text.format(listed(said[key])) for key, text in WORDS.items() if key in said]
    measured = set(said) - {UNMEASURED}
    head = "was not measured" if not measured else "is not shown to help"
    if CONTRADICTED in measured:
        head = "falls behind"
    if measured == {SHOWN}:
        head = "helps against what was compared"
    return f"**{part}** {head} {here}: {'; '.join(parts)}."


def listed(words: list[str], last: str = "or") -> str:
    """"a", "a or b", "a, b or c"."""
    return f" {last} ".join([", ".join(words[:-1])] * bool(words[1:]) + words[-1:])

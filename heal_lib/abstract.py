"""The paper's abstract, phrase by phrase, each with the claims and premises that speak of it: how notebook 99 opens."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from heal_lib import claims, evidence, premises

# The abstract in short [P]: each phrase with what speaks of it, tables of premises and methods that claims set HEAL
# against. Of what nothing speaks, nothing is measured.
PHRASES: dict[str, tuple[str, ...]] = {
    "large models' reasoning is distilled into small ones, without reinforcement learning": (),
    "rejection sampling sets students their teacher's ceiling": ("teacher_ceiling", *claims.FAMILIES["the teacher"]),
    "for it discards corner cases, which the teacher fails": ("learned_corners",),
    "GEAR detects critical breakpoints by the dynamics of entropy": (
        "gear_breakpoints", "gear_cut_rules", *claims.POSITIONS, "heal-start-cut"),
    "and repairs broken trajectories by hints in hindsight": ("gear_hints", "heal-no-gear"),
    "PURE tells genuine breakthroughs from spurious shortcuts": ("pure_auroc", *claims.FAMILIES["PURE"]),
    "PACE distils in three stages, from foundations to the frontier": claims.FAMILIES["PACE"],
    "HEAL significantly outperforms traditional SFT distillation": claims.SAMPLING,
    "and other baselines": claims.FAMILIES["other rivals"],
    "on multiple benchmarks": (evidence.BEST_OTHER,),
}
OPENING = ["claim", "verdict", "measured", "number [95 %]", "table", "command"]


def opening(folder: Path) -> pd.DataFrame:
    """The abstract, phrase by phrase: one row per premise and claim that speaks of it, each with its verdict, number,
    interval, table (linked as from a notebook of the folder) and command. A phrase stands in its first row only."""
    asked, claimed = premises.table(folder), evidence.claims_table(folder)
    alone = premises.table(folder, (premises.CORNERS,))  # of students: corrected apart from what the teacher writes
    rows = [[row[4], row[0], row[3], row[1], row[2], *row[4:]] for row in [*asked.to_numpy(), *alone.to_numpy()]]
    about = [claim.against[0] for claim in claims.CLAIMS]
    about += [evidence.BEST_OTHER] * (len(claimed) - len(about))
    for name, (text, minus, points, _, verdict, *shown, _) in zip(about, claimed.to_numpy(), strict=True):
        rows.append([name, text, verdict, f"points, minus {minus}", points, *shown])
    out = []
    for phrase, speak in PHRASES.items():
        found = [row[1:] for row in rows if row[0] in speak] or [["", claims.UNMEASURED, "", "", "", ""]]
        out += [[phrase if i == 0 else "", *row] for i, row in enumerate(found)]
    table = pd.DataFrame(out, columns=["the abstract, in short", *OPENING])
    table["table"] = [f"[{name}](../tables/{name}.csv)" if (Path(folder) / "tables" / f"{name}.csv").is_file() else name
                      for name in table["table"]]
    return table

"""Which part of HEAL helps where: README's first picture, and the table that it draws.

    panels  all hard benchmarks together, and each
    lines   HEAL minus its rivals, and minus each control that a part has to beat (`claims.PARTS`)
    each    from the first study that has compared it; what none has stays blank"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from heal_lib import claims, evidence
from heal_lib.files import atomic, write_table

SAID = """![HEAL minus rivals and minus its parts' controls on the hard benchmarks](results/where.png)

*HEAL minus each control that a part has to beat, on the hard benchmarks; a blank was not trained. Intervals are not
corrected for the number of comparisons; verdicts, which are, and whose students each line is of:
[where.csv](results/where.csv).*"""
LINES = {"HEAL": (("sft-rs-matched", "rejection sampling"), ("star", "STaR")), **claims.PARTS}
COLUMNS = ["part", "minus", "method", "benchmark", "difference", "ci_low", "ci_high", "p_holm", "verdict",
           "n_problems", "n_seeds", "study"]


def table(folders: Path | Sequence[Path]) -> pd.DataFrame:
    """One row per line and hard benchmark that some study has compared: HEAL minus a `method` (a share) with its 95 %
    interval, p after Holm's correction, the verdict, and the study, a results folder's name."""
    pairs = pd.concat([evidence.compared(folders, name) for name in ("main_pairs", "ablations")], ignore_index=True)
    pairs = pairs[pairs["method"] == "heal"].drop_duplicates(["against", "benchmark"])
    hard = pairs[pairs["benchmark"].str.endswith("-hard") | (pairs["benchmark"] == claims.POOLED)]
    hard = hard.assign(study=[folder.name for folder in hard["folder"]], verdict=[
        claims.strength(row.ci_low, row.ci_high, row.p_holm) for row in hard.itertuples()])
    rows = [hard[hard["against"] == method].assign(part=part, minus=words, method=method)
            for part, lines in LINES.items() for method, words in lines]
    return pd.concat(rows, ignore_index=True).reindex(columns=COLUMNS)


def draw(folders: Path | Sequence[Path], folder: Path) -> None:
    """Writes folder/where.csv, and where.png, which draws it."""
    from heal_lib import plots
    from heal_lib.plots import results as figures

    shown = table(folders)
    panels = sorted(shown["benchmark"].unique(), key=lambda name: name != claims.POOLED)
    groups = {part: lines["minus"].unique() for part, lines in shown.groupby("part", sort=False)}
    plots.style()
    figure = figures.forest(shown, [], panels, line="minus", groups=groups.items(),
                            xlabel="HEAL minus ..., in percentage points, with paired 95 % intervals")
    write_table(shown, folder / "where.csv")
    with atomic(folder / "where.png") as path:
        figure.savefig(path, format="png", metadata={"Software": None})


def is_current(folders: Path | Sequence[Path], folder: Path) -> bool:
    """Whether folder/where.csv, and so the picture that was drawn with it, is what the studies say."""
    said = table(folders).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    there = all((folder / f"where.{kind}").is_file() for kind in ("csv", "png"))
    return there and (folder / "where.csv").read_text() == said

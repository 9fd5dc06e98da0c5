"""Which part of HEAL helps where: README's first picture, and the table that it draws.

    panels  all hard benchmarks together, all but the one made to judge parts, and each
    lines   HEAL minus its rivals, and minus what a part has to beat (`claims.PARTS`)
    each    from the first study that has compared it; what none has stays blank"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from heal_lib import claims, evidence
from heal_lib.files import atomic, write_table

LINES = {"HEAL": (("sft-rs-matched", "rejection sampling"), ("star", "STaR")), **claims.PARTS}
TOGETHER = (claims.POOLED, claims.ELSEWHERE)
COLUMNS = ["part", "minus", "method", "benchmark", "difference", "ci_low", "ci_high", "p_holm", "verdict",
           "n_problems", "n_seeds", "study"]


def table(folders: Path | Sequence[Path]) -> pd.DataFrame:
    """One row per line and hard benchmark that some study has compared: HEAL minus a `method` (a share) with its 95 %
    interval, p after Holm's correction, the verdict, and the study, a results folder's name. All benchmarks together
    are those of the first study of rivals: of smaller ones they would be others."""
    pairs = pd.concat([evidence.compared(folders, name) for name in ("main_pairs", "ablations")], ignore_index=True)
    pairs = pairs[pairs["method"] == "heal"].drop_duplicates(["against", "benchmark"])
    hard = pairs[pairs["benchmark"].str.endswith("-hard") | pairs["benchmark"].isin(TOGETHER)]
    hard = hard[(hard["benchmark"] != claims.POOLED) | hard["folder"].isin(hard["folder"].head(1))]
    hard = hard.assign(study=[folder.name for folder in hard["folder"]], verdict=[
        claims.strength(row.ci_low, row.ci_high, row.p_holm) for row in hard.itertuples()])
    rows = [hard[hard["against"] == method].assign(part=part, minus=words, method=method)
            for part, lines in LINES.items() for method, words in lines]
    return pd.concat(rows, ignore_index=True).reindex(columns=COLUMNS)


def sentences(shown: pd.DataFrame, missed: Mapping[str, str] | None = None) -> str:
    """Where HEAL, and each part, is told apart after correction, as a list; "" without comparisons. `missed`: of a
    part, what would not have been found."""
    said = []
    for part, lines in shown.groupby("part", sort=False):
        told = []
        for verdict, words in ((claims.SHOWN, "better than"), (claims.CONTRADICTED, "worse than")):
            told += [f"{words} {minus} on {claims.listed([_NAMES.get(name, name) for name in of['benchmark']], 'and')}"
                     for minus, of in lines[lines["verdict"] == verdict].groupby("minus", sort=False)]
        who = f"- **{part}**" + ": HEAL" * (part != "HEAL")
        against = "its rivals" if part == "HEAL" else f"HEAL and any of what {part} has to beat"
        nothing = f"- **{part}**: no difference is found between {against}. {(missed or {}).get(str(part), '')}"
        said.append(f"{who} is {'; '.join(told)}." if told else nothing.strip())
    return "\n".join(said)


_NAMES = {claims.POOLED: "all hard benchmarks together", claims.ELSEWHERE: "all hard ones but registers-hard together"}


def first_page(folders: Path | Sequence[Path]) -> list[str]:
    """What the picture says, for README, where it stands above; nothing without comparisons."""
    if not len(shown := table(folders)):
        return []
    ablations = evidence.compared(folders, "ablations")
    missed = {part: evidence.power(ablations, part) for part in claims.PARTS}
    return ["Each point is the student's accuracy by HEAL minus that by the method at its left, in points. *Rejection "
            "sampling* trains on the teacher's right samples, of as many teacher tokens as HEAL spends. *STaR* adds "
            "texts that were written with the answer given before the first word, and repairs none. The other rows are "
            "HEAL with a part left out or replaced. `registers` was made so that these can be told apart. No point: "
            "not compared, or not within one study. [where.csv](results/where.csv) says whose students each point is "
            "of, and of how many seeds and problems. After correction for the number of comparisons:\n\n"
            f"{sentences(shown, missed)}"]


def draw(folders: Path | Sequence[Path], folder: Path) -> None:
    """Writes folder/where.csv, and where.png, which draws it; nothing without comparisons."""
    from heal_lib import plots
    from heal_lib.plots import results as figures

    shown = table(folders)
    if not len(shown):
        return
    there = [*TOGETHER, *shown["benchmark"].unique()]
    panels = [name for name in dict.fromkeys(there) if name in set(shown["benchmark"])]
    titles = {"HEAL": "rivals", **{part: f"for {part}" for part in claims.PARTS}}
    groups = {titles[str(part)]: lines["minus"].unique() for part, lines in shown.groupby("part", sort=False)}
    plots.style()
    sure = shown["verdict"].isin([claims.SHOWN, claims.CONTRADICTED])
    figure = figures.forest(shown.assign(sure=sure), [], panels, line="minus", groups=groups.items(),
                            xlabel="HEAL minus ..., in points, paired 95 % intervals; right of zero HEAL is better")
    write_table(shown, folder / "where.csv")
    with atomic(folder / "where.png") as path:
        figure.savefig(path, format="png", metadata={"Software": None})


def is_current(folders: Path | Sequence[Path], folder: Path) -> bool:
    """Whether folder/where.csv, and so the picture that was drawn with it, is what the studies say."""
    if not len(shown := table(folders)):
        return True
    if not all((folder / f"where.{kind}").is_file() for kind in ("csv", "png")):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        write_table(shown, now := Path(scratch) / "where.csv")
        return now.read_bytes() == (folder / "where.csv").read_bytes()

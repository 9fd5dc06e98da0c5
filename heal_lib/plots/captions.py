"""What stands beside a figure: what it shows, the notebook, table and commit behind it, and how much was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from heal_lib import provenance, report

COUNTED = {"n_problems": "Problems", "n_trajectories": "Trajectories", "n_samples": "Samples per problem",
           "n_seeds": "Seeds"}  # columns of tables, and what they count


def counts(table: pd.DataFrame) -> dict[str, str]:
    """{what: how many, "1170" or "100 to 117"} of a table's columns that count something."""
    found = {words: table[name].dropna() for name, words in COUNTED.items() if name in table}
    return {words: f"{n.min():g}" + (f" to {n.max():g}" if n.max() > n.min() else "")
            for words, n in found.items() if len(n)}


def text(results_dir: Path, name: str, caption: str, data: str | Sequence[str] = "",
         seeds: Sequence[int] = ()) -> str:
    """A caption file: the sentences, then one line each for notebook, scale, data, commit and what was counted.

    `data` names a table of the results folder, or several, which must be there; FileNotFoundError if one is not.
    `seeds`, where given, are counted rather than the tables' column."""
    folder = Path(results_dir)
    place = "tables/" if (folder / "tables").is_dir() else ""  # the benchmarks' tables lie beside their figures
    files = [f"{place}{each}.csv" for each in ([data] if isinstance(data, str) else data) if each]
    facts = {"Notebook": report.maker(name) or "none", "Results": folder.name,
             "Data": ", ".join(files) or "the run itself; no table holds it"}
    if (made := provenance.git_state())["commit"]:
        facts["Commit"] = made["commit"] + (", changed since" if made["dirty"] else "")
    facts |= counts(pd.concat([pd.read_csv(folder / file) for file in files])) if files else {}
    facts |= {"Seeds": f"{len(seeds)}"} if len(seeds) else {}
    return "\n".join([caption, "", *(f"{what}: {value}" for what, value in facts.items())]) + "\n"


def sentences(path: str | Path) -> str:
    """The sentences of a caption file, without the facts."""
    return Path(path).read_text(encoding="utf-8").partition("\n\n")[0]

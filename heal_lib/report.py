"""Words and numbers for readers: what notebooks say they found, and where that comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from heal_lib import baselines, provenance, scales
from heal_lib.files import ROOT
from heal_lib.progress import clock

MOST = 15  # rows of a table in a notebook


# --- words
def interval(mean: float, low: float, high: float, sign: str = "") -> str:
    """A share with its interval in per cent, "41.7 [35.2, 48.0]"; "n/a" where it is missing."""
    if pd.isna(mean):
        return "n/a"
    points = (round(100 * float(v), 1) + 0.0 for v in (mean, low, high))  # a float of numpy rounds otherwise
    return "{:{s}.1f} [{:{s}.1f}, {:{s}.1f}]".format(*points, s=sign)


def number(value: float) -> str:
    """A number with one decimal, or "n/a" where it is missing."""
    return "n/a" if pd.isna(value) else f"{round(value, 1) + 0.0:.1f}"


def sentences(table: pd.DataFrame) -> str:
    """One list item per row of `tables.differences`: the difference, its interval, and where that lies."""
    lines = []
    for row in table.itertuples():
        points = interval(row.difference, row.ci_low, row.ci_high, "+")
        lies = row.interval if row.interval == "includes zero" else f"lies {row.interval}"
        lines.append(f"- **{row.benchmark}**: {row.method} minus {row.against} is {points} points; the interval {lies}")
    return "\n".join(lines)


def summary(table: pd.DataFrame) -> str:
    """Which intervals of `tables.differences` lie above zero and below it, by name, and how many include it."""
    parts = [f"- {where}: {pairs(table[table['interval'] == where])}" for where in ("above zero", "below zero")]
    return "\n".join([*parts, f"- includes zero: {(table['interval'] == 'includes zero').sum()} of {len(table)}"])


def pairs(table: pd.DataFrame) -> str:
    """The rows of `tables.differences`, each as "against (benchmark)"; "none" if there is none."""
    return ", ".join(f"{row.against} ({row.benchmark})" for row in table.itertuples()) or "none"


def brief(frame: pd.DataFrame, name: str = "", digits: int = 3, most: int = MOST) -> pd.DataFrame:
    """A table as a notebook shows it: rounded, no "-0.0", at most `most` rows; a line says where the others are.

    `name`: the file in the run's tables/ that holds all of it."""
    from IPython.display import Markdown, display

    shown = frame.head(most).copy()
    floats = shown.select_dtypes("float").columns
    shown[floats] = shown[floats].round(digits) + 0.0
    if len(frame) > most:
        rest = f" are in [{name}.csv](../tables/{name}.csv)" if name else " are left out"
        display(Markdown(f"The first {most} rows; {len(frame) - most} more{rest}."))
    return shown


def markdown(frame: pd.DataFrame) -> str:
    """A DataFrame as a Markdown table, values as they stand."""
    def line(values):
        return "| " + " | ".join(str(v).replace("|", "\\|") for v in values) + " |"

    return "\n".join([line(frame.columns), line(["---"] * frame.shape[1]), *map(line, frame.itertuples(index=False))])


def accuracy_table(results: pd.DataFrame, methods: Sequence[str] = baselines.HEADLINE) -> pd.DataFrame:
    """One row per benchmark, one column per method, and HEAL's paired difference to rejection sampling.

    `results`: the table of `evaluation.results_table`; only its avg@k rows are shown. A missing cell is "n/a"."""
    rows = results[results["metric"].str.startswith("avg@")]
    out = []
    for benchmark, part in rows.groupby("benchmark", sort=False):
        of = {row.method: row for row in part.itertuples()}
        cells = {m: interval(of[m].mean, of[m].ci_low, of[m].ci_high) if m in of else "n/a" for m in methods}
        heal = of.get("heal")
        gap = "n/a" if heal is None else interval(heal.diff_vs_sft_rs, heal.diff_low, heal.diff_high, "+")
        out.append({"benchmark": benchmark, **cells, "heal − sft-rs": gap})
    return pd.DataFrame(out)


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """`tables.tuning` as a notebook shows it: accuracy in per cent, and the chosen rate as it was given."""
    shown = table.set_index("method")
    chosen = shown.pop("chosen").map("{:g}".format)
    return (100 * shown).round(1).assign(chosen=chosen)


def origin(folder: Path, where: str, notebook: str) -> str:
    """Which executed notebook drew a figure, and at which commit, in one line."""
    facts = provenance.record(folder).get("notebooks", {}).get(notebook, {})
    made = f" at commit `{facts['commit'][:7]}`" if facts.get("commit") else ""
    return f"*Drawn by [{notebook}]({where}/notebooks/{notebook}.ipynb){made}.*"


def beside(text: str, folder: Path) -> str:
    """README's block as a page of the results folder shows it: links as seen from there."""
    return text.replace(f"](results/{Path(folder).name}/", "](../").replace("](results/", "](../../")


def took(folder: Path, where: str) -> list[str]:
    """On what the results were made and in what time, and a table of the executed notebooks; nothing without run.json.
    Notebook 99 writes README before its own time is known, so it is listed without one."""
    if not (record := provenance.record(folder)):
        return []
    made = {name: facts for name, facts in record["notebooks"].items() if not name.startswith("99_")}
    elsewhere = ", some on another machine" * any("elsewhere" in facts for facts in made.values())
    spent, found = clock(sum(facts["seconds"] for facts in made.values())) + elsewhere, provenance.work_found(made)
    spent += f", besides {clock(found)} of work, summed over workers, found in the cache" if found else ""
    if found and (whole := record.get("from_nothing")):
        spent += f" (from nothing in {clock(whole['seconds'])}, at commit {str(whole['commit'])[:7]})"
    n = provenance.kept(made)
    spent += f", and {n} evaluations kept from earlier sittings, on this machine or others" * bool(n)
    machine = record["environment"]
    commits = sorted({facts["commit"][:7] for facts in made.values() if facts.get("commit")})
    times = {name: clock(facts["seconds"]) for name, facts in made.items()}
    times |= {} if folder.name in scales.STUDIES else {"99_report": ""}
    rows = [[f"[{name}]({where}/notebooks/{name}.ipynb)", f"[page]({where}/html/{name}.html)", title(name), time]
            for name, time in times.items()]
    hardware = f"{machine['cores']} cores ({machine['cpu']}, {machine['memory_gib']:.0f} GiB)"
    return [f"Scale `{folder.name}` was made on {hardware}"
            f"{' at commit ' + ', '.join(commits) if commits else ''} in {spent}:",
            markdown(pd.DataFrame(rows, columns=["executed notebook", "as HTML", "shows", "time"]))]


def title(name: str, notebooks: Path = ROOT / "notebooks") -> str:
    """A notebook's title without its number, from its first line."""
    first = "".join(json.loads((Path(notebooks) / f"{name}.ipynb").read_text())["cells"][0]["source"]).splitlines()[0]
    return re.sub(r"^# \d\d( ·)? ", "", first)


def setting(results: pd.DataFrame, folder: Path) -> str:
    """How accuracy was measured, in one sentence."""
    row, file = results[results["metric"].str.startswith("avg@")].iloc[0], folder / "tables" / "ablations.csv"
    fewer = f", for HEAL's variants {pd.read_csv(file)['n_seeds'].min()} of them" if file.is_file() else ""
    draws = provenance.record(folder).get("config", {}).get("teacher_draws", 0)
    drawn = "; all learn from one draw of the teacher's texts" if draws == 1 else (
        f"; seeds learn from {draws} draws of the teacher's texts in turn" if draws else "")
    return (f"Accuracy in per cent ({row['metric']}, temperature {row['temperature']:g}), mean and 95 % interval over "
            f"{row['n_problems']} test problems per benchmark and {row['n_seeds']} training seeds{fewer}{drawn}.")


# --- notebook 99
BEST = {"00_tour": "tour_tokens", "01_teacher_ceiling": "teacher_ceiling", "02_gear": "gear_cut_rules",
        "03_pure": "pure_auroc", "04_pace": "pace_orders", "05_main_results": "main_results",
        "06_ablations": "ablations", "07_cost": "accuracy_per_token", "09_when": "when_knobs"}  # the one figure to see


def gallery(made: pd.DataFrame) -> Iterator[tuple[str, Path | None]]:
    """Notebooks in order, each as (words, its best figure or None); the words are a heading that links it, and the
    names of its other figures. `made`: `made_by`."""
    for notebook, drawn in made[made["kind"] == "figure"].groupby("notebook"):
        best = drawn[drawn["name"] == BEST.get(str(notebook))]
        rest = ", ".join(f"`{name}`" for name in drawn["name"].drop(best.index))
        words = f"### [{notebook}](../notebooks/{notebook}.ipynb)" + f"\n\nThere, too: {rest}." * bool(rest)
        yield words, next(iter(best["file"]), None)


def maker(name: str, notebooks: Path = ROOT / "notebooks") -> str:
    """The notebook whose text names a table or figure, or ""."""
    named = re.compile(rf"""["']{re.escape(name)}(\.csv)?["']""")
    return next((path.stem for path in sorted(Path(notebooks).glob("[0-9]*.ipynb")) if named.search(
        "".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]))), "")


def made_by(folder: Path, notebooks: Path = ROOT / "notebooks") -> pd.DataFrame:
    """One row per table and figure: kind, name, file, and the notebook that wrote it by run.json, else names it."""
    ran = provenance.record(Path(folder)).get("notebooks", {})
    wrote = {output: name for name, facts in ran.items() for output in facts.get("outputs", ())}
    rows = [[wrote.get(f"{kind}s/{file.name}") or maker(file.stem, notebooks), kind, file.stem, file]
            for kind, end in (("figure", "png"), ("table", "csv")) for file in Path(folder).glob(f"{kind}s/*.{end}")]
    return pd.DataFrame(rows, columns=["notebook", "kind", "name", "file"]).sort_values(["notebook", "kind", "name"])

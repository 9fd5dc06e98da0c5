"""Words and numbers for readers: what notebooks say they found, and README's block of results.

No number is typed by hand: the block comes from the tables of `results/demo`, and CI fails where the two differ.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from heal_lib import baselines, scales
from heal_lib.errors import HealError
from heal_lib.files import ROOT, atomic
from heal_lib.tables import verdict

README = ROOT / "README.md"
COMMITTED = ROOT / "results" / "demo"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
EMPTY = "No results are committed yet: `make reproduce` makes them and fills this block."


# --- words
def interval(mean, low, high, sign=""):
    """A share with its interval in per cent, "41.7 [35.2, 48.0]"; "n/a" where it is missing."""
    if pd.isna(mean):
        return "n/a"
    return "{:{s}.1f} [{:{s}.1f}, {:{s}.1f}]".format(*(round(100 * v, 1) + 0.0 for v in (mean, low, high)), s=sign)


def sentences(table: pd.DataFrame) -> str:
    """One list item per row of `tables.differences`: the difference, its interval, and where that lies."""
    lines = []
    for row in table.itertuples():
        points = interval(row.difference, row.ci_low, row.ci_high, "+")
        lies = row.interval if row.interval == "includes zero" else f"lies {row.interval}"
        lines.append(f"- **{row.benchmark}**: {row.method} minus {row.against} is {points} points; the interval {lies}")
    return "\n".join(lines)


def summary(table: pd.DataFrame) -> str:
    """How many intervals of `tables.differences` lie above zero, below it, or include it, by name."""
    parts = []
    for where in ("above zero", "below zero", "includes zero"):
        parts.append(f"- {where}: {pairs(table[table['interval'] == where])}")
    return "\n".join(parts)


def pairs(table):
    """The rows of `tables.differences`, each as "against (benchmark)"; "none" if there is none."""
    return ", ".join(f"{row.against} ({row.benchmark})" for row in table.itertuples()) or "none"


def markdown(frame: pd.DataFrame) -> str:
    """A DataFrame as a Markdown table, values as they stand."""
    def line(values):
        return "| " + " | ".join(str(v).replace("|", "\\|") for v in values) + " |"

    return "\n".join([line(frame.columns), line(["---"] * frame.shape[1]), *map(line, frame.itertuples(index=False))])


def accuracy_table(results, methods=baselines.HEADLINE):
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


# --- claims
# What a reader may want to quote, whichever way it falls: (claim, table, method, against, benchmark).
_HARD = "hard, pooled"
CLAIMS = (
    ("HEAL beats rejection sampling on hard problems", "main_pairs", "heal", "sft-rs", _HARD),
    ("... also at equal teacher tokens", "main_pairs", "heal", "sft-rs-matched", _HARD),
    ("the student passes its teacher", "main_pairs", "heal", "teacher", _HARD),
    ("HEAL beats STaR", "main_pairs", "heal", "star", _HARD),
    ("HEAL helps where the missing skill is search luck", "main_pairs", "heal", "sft-rs", "countdown-hard"),
    ("HEAL helps on longer equations than trained on", "main_pairs", "heal", "sft-rs", "equations-long"),
    ("HEAL helps on longer paths than trained on", "main_pairs", "heal", "sft-rs", "paths-long"),
    ("GEAR: repairs add to hints", "ablations", "heal", "heal-no-gear", _HARD),
    ("GEAR: an entropy cut beats a random one", "ablations", "heal", "heal-random-cut", _HARD),
    ("GEAR: an entropy cut beats hinting from the start", "ablations", "heal", "heal-start-cut", _HARD),
    ("PURE: the filter helps the student", "ablations", "heal", "heal-no-pure", _HARD),
    ("PACE: stages beat one mixed stage", "ablations", "heal", "heal-no-pace", _HARD),
)


def strength(low, high, p_holm):
    """How well a claimed gain is shown: its interval, and whether it survives Holm's correction at 5 %."""
    if low > 0:
        return "shown" if p_holm < 0.05 else "suggested"
    return "contradicted" if high < 0 else "not shown"


def claims(folder):
    """One row per claim: its evidence (difference in points with its interval), the table it is in, and its strength.
    A claim whose table or row is missing is "not measured"."""
    rows = []
    for claim, name, method, against, benchmark in CLAIMS:
        file = Path(folder) / "tables" / f"{name}.csv"
        table = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["method", "against", "benchmark"])
        found = table[(table["method"] == method) & (table["against"] == against) & (table["benchmark"] == benchmark)]
        for row in found.itertuples():
            points = interval(row.difference, row.ci_low, row.ci_high, "+")
            rows.append([claim, f"{method} − {against}, {benchmark}: {points}", name,
                         strength(row.ci_low, row.ci_high, row.p_holm)])
        if found.empty:
            rows.append([claim, "", name, "not measured"])
    return pd.DataFrame(rows, columns=["claim", "evidence (points, 95 %)", "table", "strength"])


# --- README
def block(folder: Path = COMMITTED) -> str:
    """README's generated text for a results folder; says so if there is nothing yet."""
    folder = Path(folder)
    files = {name: folder / "tables" / f"{name}.csv" for name in ("main_results", "heal_vs_teacher")}
    if not all(file.is_file() for file in files.values()):
        return EMPTY
    results, teacher = (pd.read_csv(file) for file in files.values())
    where = f"results/{folder.name}"
    caption = "Accuracy on every benchmark and its difference to rejection sampling, with 95 % intervals"
    return "\n\n".join([
        f"![{caption}]({where}/figures/main_results.png)", setting(results), markdown(accuracy_table(results)),
        found(results, teacher), _CLAIMED, markdown(_linked(claims(folder), where)),
        f"All tables, figures and executed notebooks are in [`{where}`]({where})."])


_CLAIMED = ("The claims one might quote, and how well each is shown here: *shown* (the interval excludes zero, after "
            "Holm's correction too), *suggested* (without it only), *not shown*, *contradicted*.")


def _linked(table, where):
    return table.assign(table=[f"[`{name}`]({where}/tables/{name}.csv)" for name in table["table"]])


def setting(results):
    """How accuracy was measured, in one sentence."""
    row = results[results["metric"].str.startswith("avg@")].iloc[0]
    return (f"Accuracy in per cent ({row['metric']}, temperature {row['temperature']:g}), mean and 95 % interval over "
            f"{row['n_problems']} test problems per benchmark and {row['n_seeds']} training seeds.")


def found(results, teacher):
    """Where HEAL lies above, below, or within the noise of rejection sampling and of its teacher."""
    heal = results[results["metric"].str.startswith("avg@") & (results["method"] == "heal")]
    gain = heal[["benchmark", "diff_vs_sft_rs", "diff_low", "diff_high"]]
    lines = ["By the paired 95 % intervals (in points, not corrected for the number of benchmarks), HEAL is"]
    for name, table in (("rejection sampling", gain), ("its teacher, unhinted", teacher[_DIFFERENCE])):
        rows = [(verdict(*row[2:]), f"{row[0]} ({interval(*row[1:], '+')})") for row in table.itertuples(index=False)]
        for where, words in _WORDS.items():
            found = ", ".join(text for lies, text in rows if lies == where)
            lines.append(f"- {words} {name} on: {found or 'none'}")
    return "\n".join([lines[0], "", *lines[1:]])


_DIFFERENCE = ["benchmark", "difference", "ci_low", "ci_high"]
_WORDS = {"above zero": "above", "below zero": "below", "includes zero": "not told apart from"}


def _parts(text):
    """README's text before, in, and after the block."""
    before, begin, rest = text.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not begin or not end:
        raise HealError(f"README.md: the lines {BEGIN} and {END} are missing; put them where the results should stand")
    return before, inside, after


def readme_is_current(readme: Path = README, folder: Path = COMMITTED) -> bool:
    """Whether README's block is what `folder` gives."""
    return _parts(Path(readme).read_text())[1].strip() == block(folder)


def write_readme(readme=README, folder=COMMITTED):
    """Puts the block of `folder` into README, atomically, and leaves the rest alone."""
    before, _, after = _parts(Path(readme).read_text())
    with atomic(readme) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{block(folder)}\n{END}{after}")


def fills_readme(cfg):
    """Whether a run may write README: scale demo, no switch changed, results where they are committed."""
    return cfg == scales.get("demo") and Path(cfg.results_dir).resolve() == COMMITTED.resolve()


# --- notebook 99
def maker(name, notebooks=ROOT / "notebooks"):
    """The notebook whose text names a table or figure, or ""."""
    named = re.compile(rf"""["']{re.escape(name)}(\.csv)?["']""")
    found = (path.stem for path in sorted(Path(notebooks).glob("[0-9]*.ipynb"))
             if named.search("".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])))
    return next(found, "")


def made_by(folder, notebooks=ROOT / "notebooks"):
    """One row per table and figure of a results folder: kind, name, file, and the notebook whose text names it."""
    files = [(kind, file) for kind, pattern in (("figure", "figures/*.png"), ("table", "tables/*.csv"))
             for file in sorted(Path(folder).glob(pattern))]
    rows = [[maker(file.stem, notebooks), kind, file.stem, file] for kind, file in files]
    return pd.DataFrame(rows, columns=["notebook", "kind", "name", "file"]).sort_values(["notebook", "kind", "name"])

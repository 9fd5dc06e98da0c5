"""`make paper SCALE=demo`: the tables of results/<scale> as LaTeX, its figures as PDF, and a two-page summary of them.

All of it goes to results/<scale>/paper; paper.tex is compiled where LaTeX is installed. Every number comes from the
tables, and what a table lacks stays missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from heal_lib import baselines, claims, console, provenance, report
from heal_lib.errors import HealError
from heal_lib.files import ROOT, atomic
from heal_lib.plots.captions import sentences
from heal_lib.tables import POOLED, verdict

MISSING = "n/a"
SHOWN = ("main_results", "ablations")  # the figures of the summary; the others lie beside it
COMPILERS = {"latexmk": ["-pdf"], "pdflatex": [], "tectonic": []}
QUIET = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
INSTALL = "install latexmk or pdflatex (on Debian: apt-get install texlive-latex-recommended) or tectonic"


# --- tables: a frame of a csv file in, one of words out
def _share(row, mean="mean", low="ci_low", high="ci_high"):
    values = [row[name] for name in (mean, low, high)]
    return MISSING if pd.isna(values[0]) else "{:.2f} [{:.2f}, {:.2f}]".format(*values)


def _label(method):
    return baselines.METHODS[method].label if method in baselines.METHODS else method


def _points(table):
    """Rows of `tables.differences`: each difference in points, with its interval, in words."""
    return [report.interval(*row, "+") for row in table[["difference", "ci_low", "ci_high"]].to_numpy()]


def _told(table):
    """The rows on the hard benchmarks together and on the one made to judge, where variants are; all, if neither is."""
    told = table[table["benchmark"].isin([POOLED, claims.JUDGE])]
    return told if len(told) else table


def _ablations(table):
    table = _told(table).sort_values("benchmark", key=lambda of: of != POOLED, kind="stable")
    return pd.DataFrame({"on": table["benchmark"], "HEAL minus": table["against"].map(_label), "points": _points(table),
                         "p (Holm)": [MISSING if pd.isna(p) else f"{p:.3f}" for p in table["p_holm"]]})


def _orders(table):
    told = _told(table)
    return _spread(told.assign(words=_points(told), **{"HEAL minus": told["against"].map(_label)}), "HEAL minus",
                   "benchmark")


def _spread(table, index, columns):
    wide = table.pivot_table("words", index, columns, aggfunc="first", sort=False)
    return wide.rename_axis(columns=None).reset_index()


def _wide(table, index, columns, **names):
    return _spread(table.assign(words=[_share(row, **names) for _, row in table.iterrows()]), index, columns)


def _main(table):
    methods = [m for m in baselines.HEADLINE if m in set(table["method"])]
    return report.accuracy_table(table, methods).rename(columns=lambda name: name.replace("−", "minus"))


def _breakpoints(table):
    def gain(row, control):
        return _share(row, **{part: f"gain{end}_{control}" for part, end in (
            ("mean", ""), ("low", "_low"), ("high", "_high"))})

    return pd.DataFrame([{"world": row["world"], "hit": "within one step" if row["slack"] else "the very step",
                          "share": _share(row), "minus another text's": gain(row, "permuted"),
                          "minus a fixed step": gain(row, "fixed")} for _, row in table.iterrows()])


def _cost(table):
    counted = {"teacher tokens": "teacher_tokens", "rows": "rows", "tokens trained on": "trained_tokens"}
    whole = {name: [MISSING if pd.isna(n) else f"{n:,.0f}" for n in table[column]] for name, column in counted.items()}
    return pd.DataFrame({"method": table["method"], **whole,
                         "relative": table["relative"].map(lambda x: MISSING if pd.isna(x) else f"{x:.2f}")})


TABLES: dict[str, tuple[str, Callable[..., pd.DataFrame], str]] = {  # name: (the table it is made of, how, caption)
    "main": ("main_results", _main, "Accuracy in per cent with 95 % intervals, and HEAL's paired difference to "
             "rejection sampling in points."),
    "ablations": ("ablations", _ablations, "HEAL minus HEAL with one part removed or swapped, on the hard benchmarks "
                  "together (whole parts only) and on the one made to judge them: paired differences, 95 % intervals."),
    "gear": ("gear_breakpoints", _breakpoints, "GEAR: share of failed trajectories whose breakpoint is the first wrong "
             "or fruitless step, by the oracle, and its gain over another text's breakpoint and over their median."),
    "gear_cuts": ("gear_cut_rules", lambda t: _wide(t[t["metric"] == "genuine_rate"], "cut", "world"), "GEAR: share "
                  "of candidates that are accepted and genuine, by the rule for the cut."),
    "pace": ("pace_orders", _orders, "PACE: HEAL staged minus HEAL in other orders, in points, paired."),
    "pure": ("pure_auroc", lambda t: _wide(t, "reading", "world", mean="auroc"), "PURE: area under the ROC curve of "
             "each reading for spurious against genuine trajectories."),
    "cost": ("cost", _cost, "Tokens drawn from the teacher (relative: to rejection sampling) and trained on."),
}
WIDE = "main"  # the others go in pairs


def escape(text: str) -> str:
    """Plain text as LaTeX; a minus before a number is a real one."""
    text = re.sub(r"[&%$#_{}]", r"\\\g<0>", str(text).replace("\\", "/").replace("~", " ").replace("^", ""))
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text.replace("−", "-"))


def latex(frame: pd.DataFrame) -> str:
    """A frame of words as a booktabs tabular, everything escaped; a missing value is "n/a"."""
    words = frame.astype(object).where(frame.notna(), MISSING).map(escape)
    style = words.rename(columns=escape).style.hide(axis="index")
    return style.to_latex(hrules=True, column_format="l" * frame.shape[1])


def write_tables(folder: Path, out: Path) -> list[str]:
    """Writes out/tables/<name>.tex of each table of `TABLES` that `folder` has the data of; returns their names."""
    made = []
    for name, (source, words, _) in TABLES.items():
        file = folder / "tables" / f"{source}.csv"
        if file.is_file() and len(table := pd.read_csv(file)):
            _write(out / "tables" / f"{name}.tex", latex(words(table)))
            made.append(name)
    return made


def _write(path, text):
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# --- the summary
HEAD = r"""\documentclass{article}
\usepackage[a4paper, margin=18mm]{geometry}
\usepackage{booktabs, graphicx}
\setlength{\parindent}{0pt} \setlength{\tabcolsep}{2.5pt} \setlength{\abovecaptionskip}{3pt}
\setlength{\textfloatsep}{8pt plus 2pt} \setlength{\floatsep}{8pt plus 2pt}
\renewcommand{\topfraction}{0.95} \renewcommand{\textfraction}{0.05} \renewcommand{\floatpagefraction}{0.9}
\begin{document}
"""
ABOUT = ("HEAL (arXiv 2603.10359) distils a teacher's reasoning into a small student: GEAR repairs failed trajectories "
         "from the step where entropy surges, PURE drops those whose answer is asserted rather than derived, PACE "
         "trains in stages. This is a reconstruction in synthetic worlds with exact verifiers and tiny models; every "
         "number below comes from the tables of one run.")


def _items(markdown):
    """A Markdown paragraph with a list as LaTeX."""
    lead, *lines = [line for line in markdown.splitlines() if line]
    items = "\n".join(rf"\item {escape(line.removeprefix('- '))}" for line in lines)
    return f"{escape(lead)}\n\\begin{{itemize}}\\setlength{{\\itemsep}}{{0pt}}\n{items}\n\\end{{itemize}}"


def _float(kind, inside):
    return f"\\begin{{{kind}}}[!htbp]\\centering\\scriptsize\n{inside}\n\\end{{{kind}}}"


def _table(name):
    fit = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"  # only what is too wide shrinks
    return f"{fit}{{\\input{{tables/{name}.tex}}\\unskip}}\n\\caption{{{escape(TABLES[name][2])}}}"


def _figure(folder, name):
    said = sentences(folder / "figures" / f"{name}.txt")
    return f"\\includegraphics[width=\\textwidth]{{figures/{name}.pdf}}\n\\caption{{{escape(said)}}}"


_DIFFERENCE = ["benchmark", "difference", "ci_low", "ci_high"]
_WORDS = {"above zero": "above", "below zero": "below", "includes zero": "not told apart from"}


def _lies(results, teacher):
    """Where HEAL lies above, below, or within the noise of rejection sampling and of its teacher."""
    heal = results[results["metric"].str.startswith("avg@") & (results["method"] == "heal")]
    gain = heal[["benchmark", "diff_vs_sft_rs", "diff_low", "diff_high"]]
    lines = ["By the paired 95 % intervals (in points, not corrected for the number of benchmarks), HEAL is"]
    for name, table in (("rejection sampling", gain), ("its teacher, unhinted", teacher[_DIFFERENCE])):
        rows = [(verdict(low, high), f"{of} ({report.interval(mean, low, high, '+')})")
                for of, mean, low, high in table.itertuples(index=False)]
        for where, words in _WORDS.items():
            found = ", ".join(text for lies, text in rows if lies == where)
            lines.append(f"- {words} {name} on: {found or 'none'}")
    return "\n".join([lines[0], "", *lines[1:]])


def _found(folder):
    """What the run found, as LaTeX; nothing where a table is missing."""
    files = [folder / "tables" / f"{name}.csv" for name in ("main_results", "heal_vs_teacher")]
    if not all(file.is_file() for file in files):
        return []
    results, teacher = map(pd.read_csv, files)
    return [escape(report.setting(results, folder)), _items(_lies(results, teacher))]


def summary(folder: Path, made: list[str], drawn: list[str]) -> str:
    """paper.tex for the tables `made` and the figures `drawn`, which must lie in folder/paper."""
    title = f"{{\\centering\\large HEAL, reconstructed: results of {escape(folder.name)}\\par}}\\medskip"
    parts = [HEAD + title, escape(ABOUT), *_found(folder)]
    parts += [_float("table", _table(name)) for name in made if name == WIDE]
    parts += [_float("figure", _figure(folder, name)) for name in drawn]
    small = [f"\\begin{{minipage}}[t]{{0.49\\textwidth}}\\vspace{{0pt}}\\centering\n{_table(name)}\n\\end{{minipage}}"
             for name in made if name != WIDE]
    parts += [_float("table", "\\hfill\n".join(small[i : i + 2])) for i in range(0, len(small), 2)]
    return "\n\n".join([*parts, r"\end{document}"]) + "\n"


def collect(folder: Path) -> Path:
    """Writes folder/paper anew: tables/*.tex, figures/*.pdf and paper.tex; returns it. HealError if the folder mixes
    runs or holds no table."""
    provenance.check(folder, besides=("99_report",))
    out = folder / "paper"
    shutil.rmtree(out, ignore_errors=True)
    made = write_tables(folder, out)
    if not made:
        raise HealError(f"results/{folder.name}: no tables for a paper; {console.again(folder.name)}")
    for path in sorted((folder / "figures").glob("*.pdf")):
        (out / "figures").mkdir(exist_ok=True)
        shutil.copy(path, out / "figures")
    drawn = [name for name in SHOWN if (out / "figures" / f"{name}.pdf").is_file()]
    _write(out / "paper.tex", summary(folder, made, drawn))
    return out


def compiled(out: Path) -> Path | None:
    """Compiles out/paper.tex; returns the PDF, or None where there is no LaTeX. HealError names LaTeX's complaint."""
    found = next((name for name in COMPILERS if shutil.which(name)), None)
    if found is None:
        return None
    command = [found, *COMPILERS[found], *(QUIET if found != "tectonic" else []), "paper.tex"]
    for _ in range(2 if found == "pdflatex" else 1):  # the second pass knows the numbers of the first
        done = subprocess.run(command, cwd=out, capture_output=True, text=True, errors="replace")
        if done.returncode:
            said = next((line for line in done.stdout.splitlines() if line.startswith("!")), "see paper.log")
            raise HealError(f"{out.name}/paper.tex: {found} failed ({said}); mend it there and compile it again")
    return out / "paper.pdf"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    it = console.Parser("paper", __doc__.splitlines()[0])
    it.add_argument("scale", nargs="?", default="demo")

    def command(args):
        out = collect(console.results(args.scale))
        if not (out / "figures").is_dir():
            print(console.here(f"no figures: results/{args.scale} has none as PDF; {console.again(args.scale)}"))
        pdf = compiled(out)
        print((pdf or out / "paper.tex").relative_to(ROOT))
        if pdf is None:
            print(f"not compiled, for LaTeX is missing: {INSTALL}")
        return {"tex": out / "paper.tex", "pdf": pdf}, 0

    return console.run(it, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Figures and tables fit for a paper: sizes, fonts, captions, LaTeX; LaTeX itself is not needed."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from heal_lib import paper, plots, provenance
from heal_lib.errors import HealError
from heal_lib.files import ROOT, write_table
from heal_lib.notebooks import FOLDER
from heal_lib.plots import captions
from heal_lib.plots import results as figures

NONE = float("nan")


@pytest.fixture(autouse=True)
def styled():
    with matplotlib.rc_context():
        plots.style()
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A results folder with two tables and two figures; `star` was not evaluated on b-hard."""
    there = tmp_path_factory.mktemp("results") / "demo"
    size = {"n_problems": 60, "n_seeds": 3, "n_samples": 4, "temperature": 1.0}
    rows = [("heal", "a_1-hard", 0.417, 0.35, 0.48), ("star", "a_1-hard", 0.3, 0.25, 0.35), ("heal", "b-hard", 0, 0, 0)]
    main = pd.DataFrame([{"method": m, "benchmark": b, "metric": "avg@4", "mean": mean, "ci_low": low, "ci_high": high,
                          "diff_vs_sft_rs": -0.1, "diff_low": -0.2, "diff_high": 0.1, **size}
                         for m, b, mean, low, high in rows])
    pooled = pd.DataFrame([["heal-no-pure", "hard, pooled", 0.1, 0.05, 0.15, NONE, 10]],
                          columns=["against", "benchmark", "difference", "ci_low", "ci_high", "p_holm", "n_seeds"])
    for name, table in (("main_results", main), ("ablations", pooled)):
        write_table(table, there / "tables" / f"{name}.csv")
    plots.style()
    figure = figures.main_results(main, ["star", "heal"])
    plots.save(figure, there, "main_results", "Accuracy & 95 % intervals.", data="main_results")
    figure = figures.forest(pooled, ["heal-no-pure"], ["hard, pooled"])
    plots.save(figure, there, "ablations", "Ablations.", data="ablations", width=plots.SINGLE)
    return there


@pytest.fixture
def folder(drawn, tmp_path, monkeypatch):
    """A copy of `drawn`, in which runs are not checked to be one."""
    shutil.copytree(drawn, tmp_path / "demo")
    monkeypatch.setattr(provenance, "check", lambda folder, besides=(): None)
    return tmp_path / "demo"


# --- figures
def test_a_pdf_has_the_paper_s_width_and_truetype_fonts(folder):
    for name, width in (("main_results", plots.DOUBLE), ("ablations", plots.SINGLE)):
        pdf = (folder / "figures" / f"{name}.pdf").read_bytes()
        assert float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", pdf)[1]) == pytest.approx(72 * width, abs=0.1)
        assert b"/Subtype /Type0" in pdf or b"/Subtype /TrueType" in pdf
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf and b"CreationDate" not in pdf


DRAW = """
import pathlib, matplotlib; matplotlib.use("agg")
import matplotlib.pyplot as plt; from heal_lib import plots
plots.style(); figure, ax = plt.subplots(); ax.plot([1, 3], "o--", label="a"); ax.bar(0, 1, hatch="//"); ax.legend()
plots.save(figure, pathlib.Path(out), "x", "X.")
"""


def test_the_same_figure_gives_the_same_bytes_in_another_process(tmp_path):
    exec(compile(DRAW, "here", "exec"), {"out": tmp_path / "1"})  # noqa: S102
    subprocess.run([sys.executable, "-c", f"out = {str(tmp_path / '2')!r}{DRAW}"], cwd=ROOT, check=True,
                   env={**os.environ, "PYTHONHASHSEED": "7"})
    for kind in ("pdf", "png", "svg", "txt"):
        one, other = ((tmp_path / seed / "figures" / f"x.{kind}").read_bytes() for seed in "12")
        assert one.replace(b"Results: 1", b"Results: 2") == other


def test_text_is_seven_to_nine_points_and_within_the_page(folder):
    table = pd.read_csv(folder / "tables" / "main_results.csv")
    both = pd.read_csv(folder / "tables" / "ablations.csv")
    cells = pd.DataFrame([[a, b, 0.1, 0.0, 0.2] for a in (0.1, 0.5) for b in (0.2, 0.8)],
                         columns=["x", "derive_hinted", "difference", "ci_low", "ci_high"])
    cost = pd.DataFrame([{"method": m, "pool": 1, "matched": 0, "hinted": 2, "repairs": 1, "teacher_tokens": n}
                         for n, m in enumerate(["sft-rs-matched", "heal"])])
    made = [figures.main_results(table, ["star", "heal"]), figures.token_bars(cost),
            figures.forest(both, ["heal-no-pure"], ["hard, pooled"], groups=(("PURE", ["heal-no-pure"]),)),
            figures.gain_against(cells.assign(name="paths"), "x", "share"),
            figures.stage_accuracy(table.assign(stage=0), ["untrained"])]
    for figure in made:
        assert figure.get_figwidth() in (plots.SINGLE, plots.DOUBLE)
        figure.canvas.draw()
        for text in figure.findobj(matplotlib.text.Text):
            if text.get_visible() and text.get_text().strip():
                assert 7 <= text.get_fontsize() <= 9, text.get_text()
        tight = figure.get_tightbbox()
        assert tight.x0 >= -0.01 and tight.x1 <= figure.get_figwidth() + 0.01


# --- captions
def test_a_caption_names_notebook_data_commit_and_seeds(folder, monkeypatch):
    text = (folder / "figures" / "main_results.txt").read_text().splitlines()
    assert [line for line in text if not line.startswith("Commit: ")] == [
        "Accuracy & 95 % intervals.", "", "Notebook: 05_main_results", "Results: demo", "Data: tables/main_results.csv",
        "Problems: 60", "Samples per problem: 4", "Seeds: 3"]
    for state, said in (({"commit": "abc", "dirty": False}, "Commit: abc\n"), ({"commit": None, "dirty": None}, ""),
                        ({"commit": "abc", "dirty": True}, "Commit: abc, changed since\n")):
        monkeypatch.setattr(captions.provenance, "git_state", lambda state=state: state)
        assert captions.text(folder, "tour_surge", "Surge.", seeds=[0]).endswith(
            f"Notebook: 00_tour\nResults: demo\nData: the run itself; no table holds it\n{said}Seeds: 1\n")
    assert captions.sentences(folder / "figures" / "main_results.txt") == "Accuracy & 95 % intervals."
    with pytest.raises(FileNotFoundError):
        captions.text(folder, "main_results", "Accuracy.", "no_such_table")


def test_a_caption_names_all_the_tables_that_are_drawn_and_counts_over_them(tmp_path):
    for n, name in enumerate(("when_a", "when_b")):
        write_table(pd.DataFrame({"n_problems": [40 + n, 50]}), tmp_path / "tables" / f"{name}.csv")
    text = captions.text(tmp_path, "map", "A map.", ["when_a", "when_b"])
    assert "Data: tables/when_a.csv, tables/when_b.csv\n" in text and "Problems: 40 to 50\n" in text


def test_what_is_counted_may_differ_between_rows():
    assert captions.counts(pd.DataFrame({"n_problems": [50, 117], "n_seeds": [NONE, NONE], "other": [1, 2]})) == {
        "Problems": "50 to 117"}


def saves(path):
    """(cell, call) of every `plots.save` in a notebook."""
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            yield from ((source, node) for node in ast.walk(ast.parse(source))
                        if isinstance(node, ast.Call) and ast.unparse(node.func) == "plots.save")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_figure_of_a_notebook_has_a_caption_and_says_where_it_is_from(path):
    for source, call in saves(path):
        assert len(call.args) == 4, f"{path.stem}: {ast.unparse(call)} has no caption"
        name, caption, given = call.args[2].value, call.args[3], {word.arg: word.value for word in call.keywords}
        typed = caption.value if isinstance(caption, ast.Constant) else "".join(
            part.value for part in caption.values if isinstance(part, ast.Constant))
        assert len(typed) > 40 and typed.rstrip().endswith(".") and caption.lineno
        assert not re.search(r"\d", re.sub(r"95 %|0\.5 is chance|step 0", "", typed)), f"{name}: a number typed by hand"
        assert {"data", "seeds"} & set(given), f"{name} names neither its table nor its seeds"
        if "data" in given:
            data = getattr(given["data"], "body", given["data"])  # of a choice, all that may be drawn
            data = getattr(data, "elt", data)  # several tables are named by one expression, or listed
            for one in getattr(data, "elts", [data]):
                told = one.value if isinstance(one, ast.Constant) else ast.unparse(one)[2:-1]
                assert f"{told}.csv" in path.read_text(), f"{name}: {path.stem} writes no such table"
        assert captions.report.maker(name) == path.stem
        assert "x-small" not in source and "figsize=(1" not in source


# --- tables and the summary
def test_latex_escapes_shows_intervals_and_leaves_missing_cells_missing(folder):
    assert paper.write_tables(folder, folder / "paper") == ["main", "ablations"]
    text = (folder / "paper" / "tables" / "main.tex").read_text()
    assert r"a\_1-hard" in text and "a_1" not in text and r"\toprule" in text and r"\bottomrule" in text
    assert "41.7 [35.0, 48.0]" in text and "$-$10.0 [$-$20.0, +10.0]" in text
    assert re.search(r"b-hard & n/a & 0\.0 \[0\.0, 0\.0\]", text)  # missing is not zero
    text = (folder / "paper" / "tables" / "ablations.tex").read_text()
    assert "without PURE & +10.0 [+5.0, +15.0] & n/a" in text and "p (Holm)" in text
    assert paper.latex(pd.DataFrame({"a&b": ["50 %", None, NONE]})).count("n/a") == 2
    assert paper.escape(r"\input{x}$-3 sft-rs") == r"/input\{x\}\$$-$3 sft-rs"


def test_variants_are_in_the_tables_where_they_were_compared_and_orders_have_a_row_each(tmp_path):
    rows = [[name, place, 0.1, 0.0, 0.2, 0.5] for name, places in (
        ("heal-no-pace", ("a-hard", "registers-hard", "hard, pooled")), ("heal-reversed", ("registers-hard",)))
        for place in places]
    table = pd.DataFrame(rows, columns=["against", "benchmark", "difference", "ci_low", "ci_high", "p_holm"])
    for name in ("ablations", "pace_orders"):
        write_table(table, tmp_path / "tables" / f"{name}.csv")
    assert paper.write_tables(tmp_path, tmp_path) == ["ablations", "pace"]
    lines = (tmp_path / "tables" / "ablations.tex").read_text().splitlines()[4:-2]
    assert [line.split(" & ")[:2] for line in lines] == [
        ["hard, pooled", "without PACE (one mixed stage)"], ["registers-hard", "without PACE (one mixed stage)"],
        ["registers-hard", "PACE: reversed stages"]]
    text = (tmp_path / "tables" / "pace.tex").read_text()
    assert r"HEAL minus & registers-hard & hard, pooled \\" in text and "a-hard &" not in text
    assert r"PACE: reversed stages & +10.0 [+0.0, +20.0] & n/a \\" in text
    write_table(table[:1], tmp_path / "tables" / "pace_orders.csv")  # worlds without the one made to judge
    paper.write_tables(tmp_path, tmp_path)
    assert "HEAL minus & a-hard" in (tmp_path / "tables" / "pace.tex").read_text()


def test_the_summary_refers_only_to_what_is_there(folder):
    (folder / "figures" / "ablations.pdf").unlink()
    out = paper.collect(folder)
    text = (out / "paper.tex").read_text()
    named = re.findall(r"\\(?:input|includegraphics\[[^]]*\])\{([^}]+)\}", text)
    assert sorted(named) == ["figures/main_results.pdf", "tables/ablations.tex", "tables/main.tex"]
    assert all((out / name).is_file() for name in named)
    assert r"Accuracy \& 95 \% intervals." in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2 and text.count("{") == text.count("}")
    write_table(pd.DataFrame([["b-hard", -0.1, -0.2, -0.05]], columns=["benchmark", "difference", "ci_low", "ci_high"]),
                folder / "tables" / "heal_vs_teacher.csv")
    text = (paper.collect(folder) / "paper.tex").read_text()
    assert "60 test problems" in text and r"\item below its teacher, unhinted on: b-hard ($-$10.0" in text


def test_without_latex_the_command_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setattr(paper, "ROOT", folder.parent.parent)
    monkeypatch.setattr(paper.console, "results", lambda scale: folder.parent.parent / "results" / scale)
    (folder.parent.parent / "results").symlink_to(folder.parent)
    monkeypatch.setattr(paper.shutil, "which", lambda name: None)
    assert paper.main(["demo"]) == 0
    assert "results/demo/paper/paper.tex" in (said := capsys.readouterr().out) and "apt-get install texlive" in said
    shutil.rmtree(folder / "figures")
    folder.rename(folder.with_name("demo+window=0.5"))
    assert paper.main(["demo+window=0.5"]) == 0
    assert "has none as PDF; run make reproduce with its settings\n" in capsys.readouterr().out


def test_a_folder_without_tables_or_of_two_runs_is_refused(tmp_path, folder, monkeypatch, capsys):
    with pytest.raises(HealError, match="no tables for a paper"):
        paper.collect(tmp_path / "empty")
    monkeypatch.undo()
    assert paper.main(["no_such_scale"]) == 2 and "give another; there are demo" in capsys.readouterr().err


def test_what_latex_complains_of_is_named(folder, monkeypatch):
    out = paper.collect(folder)
    found = subprocess.CompletedProcess([], 1, stdout="x\n! Undefined control sequence.\n", stderr="")
    monkeypatch.setattr(paper.shutil, "which", lambda name: name)
    monkeypatch.setattr(paper.subprocess, "run", lambda *_, **__: found)
    with pytest.raises(HealError, match="Undefined control sequence"):
        paper.compiled(out)

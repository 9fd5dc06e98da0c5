"""The words of the notebooks, and the notebooks that use them."""

import pandas as pd
import pytest

from heal_lib import report, tables
from heal_lib.files import ROOT, write_json, write_table
from heal_lib.notebooks import FOLDER


@pytest.fixture
def results(tmp_path):
    for name in ("main_results", "heal_vs_teacher"):
        write_table(pd.DataFrame({"x": [1]}), tmp_path / "tables" / f"{name}.csv")
    return tmp_path


def test_sentences_say_where_the_interval_lies():
    rows = [["heal", "star", "a-hard", 0.1, 0.02, 0.18], ["heal", "star", "b-hard", -0.01, -0.05, 0.03]]
    table = pd.DataFrame(rows, columns=["method", "against", "benchmark", "difference", "ci_low", "ci_high"])
    table["interval"] = [tables.verdict(row.ci_low, row.ci_high) for row in table.itertuples()]
    first, second = report.sentences(table).splitlines()
    assert first == "- **a-hard**: heal minus star is +10.0 [+2.0, +18.0] points; the interval lies above zero"
    assert second.endswith("-1.0 [-5.0, +3.0] points; the interval includes zero")
    assert report.summary(table).splitlines() == [
        "- above zero: star (a-hard)", "- below zero: none", "- includes zero: 1 of 2"]


def test_numbers_are_per_cent_and_zero_has_no_minus():
    assert report.interval(-0.0, -0.0001, 0.5) == "0.0 [0.0, 50.0]"
    assert report.interval(*[float("nan")] * 3) == "n/a"
    assert report.markdown(pd.DataFrame({"a|b": ["x|y"]})).splitlines()[2] == "| x\\|y |"


def test_a_brief_table_is_rounded_has_no_minus_zero_and_says_where_the_rest_is(capsys):
    table = pd.DataFrame({"x": [-0.00001] * 20, "n": range(20), "name": "a"})
    shown = report.brief(table, "all_of_it")
    assert len(shown) == report.MOST and shown["n"].tolist() == list(range(report.MOST))
    assert "-0" not in shown.to_string() and len(table) == 20 and table["x"].iloc[0] < 0
    assert report.brief(table.head(2), "all_of_it").shape == (2, 3)
    assert report.number(float("nan")) == "n/a" and report.number(-0.04) == "0.0"


def test_a_chosen_learning_rate_is_shown_as_it_stands_in_the_grid():
    shown = report.rates(pd.DataFrame([["heal", 0.12345, 0.1, 0.0025]], columns=["method", "0.0025", "0.01", "chosen"]))
    assert report.brief(shown, digits=1).loc["heal"].tolist() == [12.3, 10.0, "0.0025"]


def test_tables_and_figures_know_their_notebook(results):
    made = report.made_by(results).set_index("name")
    assert made.loc["main_results", "notebook"] == "05_main_results"
    assert made.loc["heal_vs_teacher", "kind"] == "table"


def test_a_file_whose_name_no_notebook_spells_out_is_of_the_one_that_wrote_it(results):
    write_table(pd.DataFrame({"x": [1]}), results / "tables" / "when_a_b.csv")
    wrote = {"09_when": {"outputs": {"tables/when_a_b.csv": "0"}}, "99_report": {}}
    write_json({"notebooks": wrote}, results / "run.json")
    made = report.made_by(results).set_index("name")["notebook"]
    assert made["when_a_b"] == "09_when" and made["main_results"] == "05_main_results"
    assert report.made_by(ROOT / "results" / "demo")["notebook"].all()


def test_a_notebook_is_seen_by_its_best_figure_and_names_the_others(tmp_path):
    made = pd.DataFrame([["02_gear", "figure", "gear_cut_rules", tmp_path / "a.png"], ["02_gear", "table", "x", None],
                         ["02_gear", "figure", "gear_hints", tmp_path / "b.png"],
                         ["09_when", "figure", "when_break", tmp_path / "c.png"]],
                        columns=["notebook", "kind", "name", "file"])
    link = "### [{0}](../notebooks/{0}.ipynb)\n\nThere, too: `{1}`."
    assert [*report.gallery(made)] == [(link.format("02_gear", "gear_hints"), tmp_path / "a.png"),
                                       (link.format("09_when", "when_break"), None)]


def test_every_notebook_of_a_run_has_a_best_figure_which_it_draws():
    assert {*report.BEST} == {path.stem for path in FOLDER.glob("0*.ipynb") if not path.name.startswith("08_")}
    assert {figure: report.maker(figure) for figure in report.BEST.values()} == {
        figure: notebook for notebook, figure in report.BEST.items()}

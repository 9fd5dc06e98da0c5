"""README's block of results, the words of the notebooks, and the notebooks that use them."""

import shutil

import pandas as pd
import pytest

from heal_lib import claims, evidence, report, scales, tables
from heal_lib.errors import HealError
from heal_lib.files import write_json, write_table
from heal_lib.notebooks import FOLDER

COLUMNS = ["method", "benchmark", "metric", "mean", "ci_low", "ci_high", "diff_vs_sft_rs", "diff_low", "diff_high",
           "n_problems", "n_seeds", "n_samples", "temperature"]
NONE = float("nan")


@pytest.fixture
def results(tmp_path):
    """A results folder with two benchmarks; `star` was not evaluated on one of them."""
    folder = tmp_path / "demo"
    size = [60, 3, 4, 1.0]
    rows = [["heal", "a-hard", "avg@4", 0.417, 0.35, 0.48, 0.1, 0.02, 0.18, *size],
            ["heal", "a-hard", "pass@2", 0.9, 0.8, 1.0, 0.1, 0.02, 0.18, *size],
            ["star", "a-hard", "avg@4", 0.3, 0.25, 0.35, NONE, NONE, NONE, *size],
            ["heal", "b-hard", "avg@4", 0.05, 0.0, 0.1, -0.001, -0.05, 0.05, *size]]
    write_table(pd.DataFrame(rows, columns=COLUMNS), folder / "tables" / "main_results.csv")
    teacher = pd.DataFrame([["a-hard", 0.3, 0.2, 0.4], ["b-hard", -0.1, -0.2, -0.05]],
                           columns=["benchmark", "difference", "ci_low", "ci_high"])
    write_table(teacher, folder / "tables" / "heal_vs_teacher.csv")
    return folder


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{report.BEGIN}\nstale\n{report.END}\n\nafter\n")
    return path


def test_the_block_holds_the_tables_numbers(results):
    block = report.block(results)
    assert "41.7 [35.0, 48.0]" in block and "+10.0 [+2.0, +18.0]" in block and "90.0" not in block
    assert "60 test problems per benchmark and 3 training seeds" in block
    assert "results/demo/figures/main_results.png" in block
    for draws in (1, 5):
        write_json({"notebooks": {}, "config": {"teacher_draws": draws}}, results / "run.json")
        said = report.setting(pd.read_csv(results / "tables" / "main_results.csv"), results)
        assert ("training seeds; all learn from one draw of the teacher's texts." in said) == (draws == 1)
    assert "| b-hard | n/a | n/a | n/a | n/a | n/a | n/a | 5.0 [0.0, 10.0] |" in block  # missing, not zero


def test_the_block_opens_with_what_was_found_and_says_what_names_mean(results):
    pairs(results, "main_pairs", [["sft-rs-matched", claims.POOLED, -0.01, -0.05, 0.03, 0.5],
                                  ["star", claims.POOLED, -0.1, -0.2, -0.05, 0.001]])
    write_table(pd.DataFrame({"family": "paths", "method": ["heal", "heal-no-pace"], "repair": [0.1, 0.25]}),
                results / "tables" / "pace_exposure.csv")
    block = report.block(results)
    assert block.startswith("In short:\n\n- **HEAL**: on the hard benchmarks together minus `sft-rs-matched` -1.0 "
                            "[-5.0, +3.0] points (not shown), minus `star` -10.0 [-20.0, -5.0] points (contradicted)")
    assert "repairs get 10.0 % in stages and 25.0 % mixed (paths)" in block
    assert "`sft-rs-matched`: rejection sampling, as many teacher tokens as HEAL;" in block
    assert report.named(["sft-rs", "none such", "sft-rs"]) == "`sft-rs`: rejection sampling."


def test_a_scale_s_time_from_nothing_stands_in_the_table(results, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", results.parent)
    assert not report.sizes("demo")["for"].str.contains("from nothing").any()
    write_json({"notebooks": {}, "from_nothing": {"seconds": 3661.0}}, results / "run.json")
    found = report.sizes("demo").set_index("scale")["for"].str.contains("from nothing in 1:01:01 here")
    assert found[found].index.tolist() == ["`demo`"]


def test_the_figure_says_who_drew_it_at_which_commit(results):
    drawn = "*Drawn by [05_main_results](results/demo/notebooks/05_main_results.ipynb)"
    assert f"{drawn}.*" in report.block(results)
    assert report.origin(results, "results/demo", "05_main_results") == f"{drawn}.*"
    write_json({"notebooks": {"05_main_results": {"commit": "0123456789"}}}, results / "run.json")
    assert report.origin(results, "results/demo", "05_main_results") == f"{drawn} at commit `0123456`.*"


def pairs(folder, name, rows):
    """Writes a table of `tables.differences` with rows (against, benchmark, difference, low, high, p)."""
    table = pd.DataFrame(rows, columns=["against", "benchmark", "difference", "ci_low", "ci_high", "p"])
    write_table(table.assign(method="heal", p_holm=1.0, n_seeds=3), folder / "tables" / f"{name}.csv")


def test_claims_say_how_well_they_are_shown_or_that_nothing_was_measured(results):
    pooled = claims.POOLED
    pairs(results, "main_pairs", [
        ["sft-rs", pooled, 0.2, 0.1, 0.3, 0.01], ["sft-rs-matched", pooled, 0.2, 0.1, 0.3, 0.03],
        ["teacher", pooled, 0.2, 0.1, 0.3, 0.06], ["star", pooled, 0.0, -0.1, 0.1, 1.0],
        ["sft-rs", "countdown-hard", -0.2, -0.3, -0.1, 0.01]])
    found = evidence.claims_table(results).set_index("claim")
    assert found["minus"].iloc[0] == "sft-rs"  # of equal ones the first
    assert found["verdict"].to_dict() == dict.fromkeys(found.index, "not measured") | {
        "HEAL beats rejection sampling, the best of its kinds": "shown", "... also at equal teacher tokens": "shown",
        "HEAL's student passes its teacher": "suggested", "HEAL beats STaR": "not shown",
        "HEAL beats rejection sampling where skill was expected to be search luck (countdown-hard)": "contradicted",
        "HEAL beats the best other method on countdown-hard": "contradicted"}
    assert found.iloc[0]["points [95 %]"] == "+20.0 [+10.0, +30.0]"
    assert found["p (Holm)"].tolist()[:4] == ["0.020", "0.030", "0.060", ""]  # corrected within families, from p
    block = report.block(results)
    row = '| contradicted | [main_pairs](results/demo/tables/main_pairs.csv) | `make reproduce ARGS="--only 05"` |'
    assert row in block


def test_a_claim_against_several_names_the_strongest_of_them(results):
    """A student that is above a random cut and below a fixed one was not helped by entropy."""
    pairs(results, "ablations", [["heal-random-cut", claims.JUDGE, 0.2, 0.1, 0.3, 0.001],
                                 ["heal-permuted-cut", claims.JUDGE, -0.1, -0.2, -0.05, 0.001],
                                 ["heal-fixed-cut", claims.JUDGE, 0.1, 0.05, 0.2, 0.001]])
    pairs(results, "main_pairs", [["sft-rs", claims.POOLED, 0.2, 0.1, 0.3, 0.01],
                                  ["sft-rs-passes", claims.POOLED, 0.0, -0.1, 0.1, 1.0]])
    found = evidence.claims_table(results).set_index("claim")[["minus", "verdict"]]
    assert tuple(found.loc["GEAR: the entropy cut beats cuts that read no entropy (registers-hard)"]) == (
        "heal-permuted-cut", "contradicted")
    assert tuple(found.loc["HEAL beats rejection sampling, the best of its kinds"]) == ("sft-rs-passes", "not shown")
    assert "worse than another trajectory's cut" in evidence.parts(results)


@pytest.mark.parametrize(("low", "says"), [(-0.1, True), (0.05, False)])
def test_where_nothing_was_found_a_part_s_sentence_says_what_could_have_been(results, low, says):
    pairs(results, "ablations", [["heal-no-pure", claims.JUDGE, 0.1, low, 0.3, 0.1]])
    table = pd.read_csv(results / "tables" / "ablations.csv").assign(detectable=0.274)
    assert "would have been found" not in evidence.parts(results)  # an older table lacks the column
    write_table(table, results / "tables" / "ablations.csv")
    said = "On registers-hard a difference from no filter below 27 points would often have been missed (80 % power"
    assert (said in evidence.parts(results)) == says


def test_the_best_other_method_is_that_of_the_benchmark(results):
    others = [["star", "a-hard", 0.1, 0.05, 0.2, 0.001], ["teacher", "a-hard", 0.3, 0.2, 0.4, 0.001]]
    pairs(results, "main_pairs", others)
    row = evidence.claims_table(results).iloc[-1]
    assert row["claim"].endswith("on a-hard") and row["minus"] == "star"  # main_results does not know the teacher


@pytest.mark.parametrize(("low", "high", "says"), [(-0.1, 0.2, True), (-0.2, -0.1, True), (0.1, 0.2, False)])
def test_where_training_does_not_help_the_first_page_says_that_students_tell_nothing(results, low, high, says):
    assert "training did not help" not in evidence.parts(results)
    pairs(results, "main_pairs", [["student", claims.JUDGE, (low + high) / 2, low, high, 0.001]])
    assert ("On registers-hard training did not help" in evidence.parts(results)) == says


def test_times_come_from_the_record_and_leave_out_the_notebook_that_writes_them(results):
    stages = {"pool": {"made": 1, "seconds_to_make": 5.0}, "hinted": {"made": 0, "seconds_to_make": 60.0}}
    facts = {"seconds": 100.0, "stages": stages, "commit": "0123456789"}
    record = {"environment": {"cores": 2, "cpu": "CPU", "memory_gib": 8.0},
              "notebooks": {"00_tour": facts, "05_main_results": {**facts, "stages": {}}, "99_report": facts}}
    write_json(record, results / "run.json")
    block = report.block(results)
    found = "of work, summed over workers, found in the cache"
    assert f"on 2 cores (CPU, 8 GiB) at commit 0123456 in 3:20, besides 1:00 {found}" in block
    record["from_nothing"] = {"seconds": 7200.0, "commit": "9876543210"}
    write_json(record, results / "run.json")
    assert f"{found} (from nothing in 2:00:00, at commit 9876543):" in report.block(results)
    stages["hinted"]["made"] = 1  # all was made in these notebooks: their own time says it
    write_json(record, results / "run.json")
    assert "at commit 0123456 in 3:20:" in report.block(results)
    assert "[00_tour](results/demo/notebooks/00_tour.ipynb) | [page](results/demo/html/00_tour.html) | Tour: " in block
    assert "| Report |  |" in block  # its own time is not known when it writes the block


def test_without_results_the_block_says_so(tmp_path, readme):
    assert report.block(tmp_path / "nothing") == report.EMPTY
    report.write_readme(readme, tmp_path / "nothing")
    assert report.readme_is_current(readme, tmp_path / "nothing")


def test_writing_changes_the_block_alone_and_makes_it_current(results, readme):
    assert not report.readme_is_current(readme, results)
    report.write_readme(readme, results)
    text = readme.read_text()
    assert report.readme_is_current(readme, results) and "stale" not in text
    assert text.startswith(f"# Title\n\n{report.BEGIN}\n") and text.endswith(f"\n{report.END}\n\nafter\n")
    report.write_readme(readme, results)
    assert readme.read_text() == text
    readme.write_text(text.replace("41.7", "51.7"))
    assert not report.readme_is_current(readme, results)


def test_a_readme_without_markers_is_named(results, tmp_path):
    (tmp_path / "README.md").write_text("no block")
    with pytest.raises(HealError, match="results:begin"):
        report.write_readme(tmp_path / "README.md", results)


def test_only_an_unchanged_demo_in_its_own_folder_fills_the_readme(monkeypatch, tmp_path):
    monkeypatch.delenv("HEAL_RESULTS", raising=False)
    assert report.fills_readme(scales.get("demo")) and not report.fills_readme(scales.get("smoke"))
    assert not report.fills_readme(scales.get("demo", window=0.5))
    monkeypatch.setenv("HEAL_RESULTS", str(tmp_path))
    assert not report.fills_readme(scales.get("demo"))


def test_the_first_page_shows_what_the_larger_studies_compare_and_else_demo(monkeypatch, results, readme):
    """Of every comparison the first of full, parts and demo speaks, with its own table and command."""
    folder = results.parent
    monkeypatch.setattr(report, "RESULTS", folder)
    pairs(results, "main_pairs", [["star", claims.POOLED, -0.1, -0.2, -0.05, 0.001]])
    pairs(results, "ablations", [["heal-no-pure", of, 0.0, -0.1, 0.1, 1.0]
                                 for of in (claims.JUDGE, claims.POOLED, "b-hard")])
    before = report.block()
    assert before.endswith(f"\n\n{report.block(results)}") and "(not run yet; hours)" in before
    shutil.copytree(results, folder / "full")  # stopped before it had a record
    assert report.block() == before
    pairs(folder / "full", "main_pairs", [["star", where, 0.1, 0.05, 0.2, 0.001]
                                          for where in (claims.POOLED, claims.JUDGE, "equations-hard")])
    (folder / "full" / "tables" / "ablations.csv").unlink()
    pairs(folder / "parts", "ablations", [["heal-no-pure", claims.JUDGE, 0.2, 0.1, 0.3, 0.001],
                                          ["heal-no-pure", claims.POOLED, 0.2, 0.1, 0.3, 0.001]])  # one world alone
    for name in ("full", "parts"):
        write_json({"notebooks": {}, "environment": {"cores": 2, "cpu": "CPU", "memory_gib": 8}},
                   folder / name / "run.json")
    report.write_readme(readme)
    block = readme.read_text()
    assert report.readme_is_current(readme) and "results/full/figures/main_results.png" in block
    link = "[main_pairs](results/full/tables/main_pairs.csv)"
    assert f'| shown | {link} | `make reproduce SCALE=full ARGS="--only 05"`' in block
    found = evidence.claims_table(report.shown()).set_index("claim")[["verdict", "folder"]]
    assert found.loc["PURE: the filter beats none (registers-hard)"].tolist() == ["shown", "parts"]
    assert found.loc["PURE: the filter beats none"].tolist() == ["not shown", "demo"]
    assert "**PURE** helps against what was compared on registers-hard (`parts`): better than no filter; not" in block
    uses = report.sizes("demo").set_index("scale")["for"]
    assert "(`results/full`)" in uses["`full`"] and uses["`demo`"].startswith("the results above, but for")


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
    assert report.interval(NONE, NONE, NONE) == "n/a"
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


def test_links_are_those_of_a_page_of_the_results_folder(results):
    assert "](../figures/main_results.png)" in report.beside(report.block(results), results)
    assert "](results/" not in report.beside(report.block(results), results)


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
    assert report.made_by(report.RESULTS / "demo")["notebook"].all()


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

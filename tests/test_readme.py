"""README's block of results, README as it is committed, and the parameters of the notebooks that it tells of."""

import dataclasses
import re
import shutil

import pandas as pd
import pytest

from heal_lib import claims, evidence, readme, report, scales, tables
from heal_lib.errors import HealError
from heal_lib.files import write_json, write_table
from heal_lib.notebooks import FOLDER, declared, parse_value

COLUMNS = ["method", "benchmark", "metric", "mean", "ci_low", "ci_high", "diff_vs_sft_rs", "diff_low", "diff_high",
           "n_problems", "n_seeds", "n_samples", "temperature"]
NONE = float("nan")
MARKS = [tuple(mark.format(name) for mark in readme.MARKS) for name in ("where", "results")]


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
def page(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# Title\n\n" + "".join(f"{begin}\nstale\n{end}\n\n" for begin, end in MARKS) + "after\n")
    return path


def test_the_block_holds_the_tables_numbers(results):
    block = readme.block(results)
    assert "41.7 [35.0, 48.0]" in block and "+10.0 [+2.0, +18.0]" in block and "90.0" not in block
    assert "60 test problems per benchmark and 3 training seeds" in block
    assert "results/demo/figures/main_results.png" in block
    for draws in (1, 5):
        write_json({"notebooks": {}, "config": {"teacher_draws": draws}}, results / "run.json")
        said = report.setting(pd.read_csv(results / "tables" / "main_results.csv"), results)
        assert ("training seeds; all learn from one draw of the teacher's texts." in said) == (draws == 1)
    assert "| b-hard | n/a | n/a | n/a | n/a | n/a | n/a | 5.0 [0.0, 10.0] |" in block  # missing, not zero


def test_names_and_verdicts_are_explained_before_what_was_found_is_said(results):
    pairs(results, "main_pairs", [["sft-rs-matched", claims.POOLED, -0.01, -0.05, 0.03, 0.5],
                                  ["star", claims.POOLED, -0.1, -0.2, -0.05, 0.001]])
    write_table(pd.DataFrame({"family": "paths", "method": ["heal", "heal-no-pace"], "repair": [0.1, 0.25]}),
                results / "tables" / "pace_exposure.csv")
    block = readme.block(results)
    assert ("Part by part:\n\n- **HEAL**: on the hard benchmarks together minus `sft-rs-matched` -1.0 [-5.0, +3.0] "
            "points (not shown), minus `star` -10.0 [-20.0, -5.0] points (contradicted)") in block
    words = ("`sft-rs-matched`: rejection", "A claim is *shown* if", "Part by part:", "| claim |")
    assert sorted(words, key=block.index) == [*words]
    assert "repairs get 10.0 % in stages and 25.0 % mixed (paths)" in block
    assert "`sft-rs-matched`: rejection sampling, as many teacher tokens as HEAL;" in block
    assert readme.named(["sft-rs", "none such", "sft-rs"]) == "`sft-rs`: rejection sampling."


def test_a_scale_s_time_from_nothing_stands_in_the_table(results, monkeypatch):
    monkeypatch.setattr(readme, "RESULTS", results.parent)
    assert not readme.sizes("demo")["for"].str.contains("from nothing").any()
    write_json({"notebooks": {}, "from_nothing": {"seconds": 3661.0}}, results / "run.json")
    found = readme.sizes("demo").set_index("scale")["for"].str.contains("from nothing in 1:01:01 here")
    assert found[found].index.tolist() == ["`demo`"]


def test_the_figure_says_who_drew_it_at_which_commit(results):
    drawn = "*Drawn by [05_main_results](results/demo/notebooks/05_main_results.ipynb)"
    assert f"{drawn}.*" in readme.block(results)
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
    block = readme.block(results)
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
    block = readme.block(results)
    found = "of work, summed over workers, found in the cache"
    assert f"on 2 cores (CPU, 8 GiB) at commit 0123456 in 3:20, besides 1:00 {found}" in block
    record["from_nothing"] = {"seconds": 7200.0, "commit": "9876543210"}
    write_json(record, results / "run.json")
    assert f"{found} (from nothing in 2:00:00, at commit 9876543):" in readme.block(results)
    stages["hinted"]["made"] = 1  # all was made in these notebooks: their own time says it
    write_json(record, results / "run.json")
    assert "at commit 0123456 in 3:20:" in readme.block(results)
    assert "[00_tour](results/demo/notebooks/00_tour.ipynb) | [page](results/demo/html/00_tour.html) | Tour: " in block
    assert "| Report |  |" in block  # its own time is not known when it writes the block


def test_without_results_the_block_says_so(tmp_path, page):
    assert readme.block(tmp_path / "nothing") == readme.EMPTY
    readme.write(page, tmp_path / "nothing")
    assert readme.is_current(page, tmp_path / "nothing")


def test_writing_changes_the_block_alone_and_makes_it_current(results, page):
    assert not readme.is_current(page, results)
    readme.write(page, results)
    text, (_, (begin, end)) = page.read_text(), MARKS
    assert readme.is_current(page, results) and text.count("stale") == 1  # a folder alone has no picture
    assert f"\n\n{begin}\n{readme.block(results)}\n{end}\n\nafter\n" in text and text.startswith("# Title\n\n")
    readme.write(page, results)
    assert page.read_text() == text
    page.write_text(text.replace("41.7", "51.7"))
    assert not readme.is_current(page, results)


def test_a_readme_without_markers_is_named(results, tmp_path):
    (tmp_path / "README.md").write_text("no block")
    with pytest.raises(HealError, match="results:begin"):
        readme.write(tmp_path / "README.md", results)


def test_only_an_unchanged_demo_in_its_own_folder_fills_the_readme(monkeypatch, tmp_path):
    monkeypatch.delenv("HEAL_RESULTS", raising=False)
    assert readme.fills(scales.get("demo")) and not readme.fills(scales.get("smoke"))
    assert not readme.fills(scales.get("demo", window=0.5))
    monkeypatch.setenv("HEAL_RESULTS", str(tmp_path))
    assert not readme.fills(scales.get("demo"))


def test_the_first_page_shows_what_the_larger_studies_compare_and_else_demo(monkeypatch, results, page):
    """Of every comparison the first of full, parts and demo speaks, with its own table and command."""
    folder = results.parent
    monkeypatch.setattr(readme, "RESULTS", folder)
    pairs(results, "main_pairs", [["star", claims.POOLED, -0.1, -0.2, -0.05, 0.001]])
    pairs(results, "ablations", [["heal-no-pure", of, 0.0, -0.1, 0.1, 1.0]
                                 for of in (claims.JUDGE, claims.POOLED, "b-hard")])
    before = readme.block()
    assert before.endswith(readme.block(results)) and "(not run yet; hours)" in before
    shutil.copytree(results, folder / "full")  # stopped before it had a record
    assert readme.block() == before
    pairs(folder / "full", "main_pairs", [["star", where, 0.1, 0.05, 0.2, 0.001]
                                          for where in (claims.POOLED, claims.JUDGE, "equations-hard")])
    (folder / "full" / "tables" / "ablations.csv").unlink()
    pairs(folder / "parts", "ablations", [["heal-no-pure", claims.JUDGE, 0.2, 0.1, 0.3, 0.001],
                                          ["heal-no-pure", claims.POOLED, 0.2, 0.1, 0.3, 0.001]])  # one world alone
    for name in ("full", "parts"):
        write_json({"notebooks": {}, "environment": {"cores": 2, "cpu": "CPU", "memory_gib": 8}},
                   folder / name / "run.json")
    readme.write(page)
    block = page.read_text()
    assert readme.is_current(page) and "results/full/figures/main_results.png" in block and "stale" not in block
    under = block.partition(MARKS[0][0])[2].partition(MARKS[0][1])[0]
    assert "**HEAL** is better than STaR on" in under  # what the picture shows stands under it
    page.write_text(block.replace(under, under.replace("better", "worse")))
    assert not readme.is_current(page)
    link = "[main_pairs](results/full/tables/main_pairs.csv)"
    assert f'| shown | {link} | `make reproduce SCALE=full ARGS="--only 05"`' in block
    found = evidence.claims_table(readme.shown()).set_index("claim")[["verdict", "folder"]]
    assert found.loc["PURE: the filter beats none (registers-hard)"].tolist() == ["shown", "parts"]
    assert found.loc["PURE: the filter beats none"].tolist() == ["not shown", "demo"]
    assert "**PURE** helps against what was compared on registers-hard (`parts`): better than no filter; not" in block
    uses = readme.sizes("demo").set_index("scale")["for"]
    assert "(`results/full`)" in uses["`full`"] and uses["`demo`"].startswith("the results above, but for")


def test_links_are_those_of_a_page_of_the_results_folder(results):
    assert "](../figures/main_results.png)" in report.beside(readme.block(results), results)
    assert "](results/" not in report.beside(readme.block(results), results)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("0[0-8]_*.ipynb")), ids=lambda path: path.stem)
def test_parameters_are_fields_of_the_scale_and_stand_at_their_defaults(path):
    fields = {field.name: field.default for field in dataclasses.fields(scales.Scale)}
    for name, default in declared(path).items():
        if name.startswith("price_"):  # what a token costs is no setting of a run
            continue
        assert name in {*fields, *scales.SERVER, "scale"}, f"{name} is no field of Scale"
        if name in fields and (value := parse_value(default.replace(" / ", "/"))) is not None:
            assert value == fields[name], f"{name}: the notebook says {value!r}, the scale {fields[name]!r}"


def test_every_switch_can_be_set_in_the_ablations_notebook():
    assert set(tables.SWITCHES) <= set(declared(FOLDER / "06_ablations.ipynb"))


def test_readme_links_every_notebook_and_findings():
    text = readme.README.read_text()
    for path in FOLDER.glob("*.ipynb"):
        assert f"/notebooks/{path.name}" in text or path.name.startswith("08_"), f"README does not link {path.name}"
    assert "](FINDINGS.md)" in text


@pytest.mark.parametrize("name", ["smoke", "demo", "full", "parts", "orders", "sweep", "sweep-registers"])
def test_readme_has_the_seeds_of_each_scale(name):
    seeds = rf"{len(scales.get(name).seeds)}( \(\d for parts\))?"
    assert re.search(rf"\| `{name}` .*\| {seeds} \|", readme.README.read_text())


def test_a_committed_study_has_the_sizes_that_it_was_run_with(results, monkeypatch):
    monkeypatch.setattr(readme, "RESULTS", results.parent)
    write_json({"config": {"n_test": 77, "seeds": [0, 1]}, "notebooks": {}}, results.parent / "parts" / "run.json")
    table = readme.sizes("demo").set_index("scale")
    assert table.loc["`parts`", ["student seeds", "test problems"]].tolist() == ["2", 77]
    assert table.loc["`demo`", "student seeds"] == "5 (3 for parts)" and table.loc["`orders`", "test problems"] == 200


def test_readme_is_current():
    assert readme.is_current(), "README.md does not show what is committed: run heal reproduce --write-readme"

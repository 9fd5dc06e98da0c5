"""What HEAL presupposes of the teacher, judged by the tables of a run and by the strongest control."""

import pandas as pd
import pytest

from heal_lib import detection, premises
from heal_lib.files import write_json, write_table
from heal_lib.places import ROOT


def write(folder, name, columns, *rows):
    write_table(pd.DataFrame(rows, columns=columns), folder / "tables" / f"{name}.csv")


def test_a_premise_rests_on_its_strongest_control_in_the_world_that_judges(tmp_path):
    columns = ["world", "cut", "metric", "entropy_minus_this", "diff_low", "diff_high"]
    write(tmp_path, "gear_cut_rules", columns,
          ["registers", "random", "genuine_rate", -0.04, -0.06, -0.02],
          ["registers", "fixed", "genuine_rate", 0.06, 0.01, 0.1],
          ["registers", "permuted", "repair_rate", -0.9, -0.9, -0.9],
          ["paths", "fixed", "genuine_rate", -0.5, -0.6, -0.4],
          ["registers", "start", "genuine_rate", 0.01, -0.1, 0.1],
          ["registers", "start", "tokens_per_genuine", None, None, None])
    write(tmp_path, "pure_auroc", ["world", "reading", "auroc", "ci_low", "ci_high"],
          ["registers", "ratio mean, U before", 0.8, 0.7, 0.9], ["registers", "pure+", 0.4, 0.3, 0.5])
    found = premises.table(tmp_path).set_index("table")
    assert list(found["verdict"]) == [*["not measured"] * 3, "contradicted", "not shown", "not measured",
                                      "shown", "not measured"]
    cuts = found.loc["gear_cut_rules"].query("verdict != 'not measured'")
    assert list(cuts["measured"]) == ["genuine repairs, minus cut random", "genuine repairs, minus cut start"]
    assert list(cuts["value [95 %]"]) == ["-0.04 [-0.06, -0.02]", "0.01 [-0.10, 0.10]"]


def test_beside_each_premise_stand_the_other_worlds_with_their_strongest_control(tmp_path):
    columns = ["world", "hint", "metric", "first_minus_this", "diff_low", "diff_high"]
    write(tmp_path, "gear_hints", columns, *([world, hint, "genuine_rate", value, value - 0.1, value + 0.1] for
          world, none, wrong in (("registers", 0.5, 0.6), ("paths", 0.7, 0.0), ("equations", 0.3, 0.4))
          for hint, value in (("none", none), ("wrong", wrong))))
    write_json({"config": {"worlds": ["equations", "paths", "registers"]}}, tmp_path / "run.json")
    (row,) = premises.measured(tmp_path).to_dict("records")
    assert row["value [95 %]"] == "0.50 [0.40, 0.60]"
    assert row["in other worlds"] == (
        "equations 0.30 [0.20, 0.40]; paths 0.00 [-0.10, 0.10] (genuine repairs, minus hint wrong)")


def test_what_was_picked_of_several_is_corrected_for_that(tmp_path):
    """An interval that ends just below zero: alone it counts, as the worst of three it does not."""
    columns = ["world", "cut", "metric", "entropy_minus_this", "diff_low", "diff_high"]
    cuts = [["registers", name, "genuine_rate", value, value - 0.04, value + 0.04]
            for name, value in (("random", -0.045), ("fixed", 0.2), ("permuted", 0.2))]
    for rows, verdict in ((cuts[:1], "contradicted"), (cuts, "contradicted, before correction")):
        write(tmp_path, "gear_cut_rules", columns, *rows)
        assert premises.table(tmp_path).set_index("table").loc["gear_cut_rules", "verdict"].iloc[0] == verdict


def test_of_controls_beside_each_other_the_strongest_counts_too(tmp_path):
    ends = [f"gain{end}_{control}" for control in ("permuted", "fixed") for end in ("", "_low", "_high")]
    write(tmp_path, "gear_breakpoints", ["world", "slack", *ends], ["registers", 0, 0.3, 0.2, 0.4, 0.1, -0.1, 0.3])
    found = premises.table(tmp_path).set_index("table").loc["gear_breakpoints"]
    assert found["measured"] == "hits, minus a fixed step" and found["verdict"] == "not shown"
    assert found["value [95 %]"] == "0.10 [-0.10, 0.30]"


def test_tokens_per_repair_are_held_against_one_and_other_cuts_stand_beside(tmp_path):
    columns = ["world", "cut", "metric", "entropy_over_this", "over_low", "over_high"]
    for ratio, verdict in (((0.9, 0.85, 0.95), "contradicted"), ((1.2, 1.1, 1.3), "shown")):
        write(tmp_path, "gear_cut_rules", ["entropy_minus_this", "diff_low", "diff_high", *columns],
              *([None] * 3 + ["registers", cut, "tokens_per_genuine", *ends]
                for cut, ends in (("start", ratio), ("fixed", (1, 0.9, 1.1)), ("random", (2, 1, 3)))))
        (row,) = premises.table(tmp_path).query("verdict != 'not measured'").to_dict("records")
        assert row["verdict"] == verdict
        said = "{:.2f} [{:.2f}, {:.2f}]".format(*ratio)
        assert row["value [95 %]"] == f"{said}; fixed 1.00 [0.90, 1.10]"


def test_an_auroc_is_held_against_chance_and_not_against_zero(tmp_path):
    write(tmp_path, "pure_auroc", ["world", "reading", "auroc", "ci_low", "ci_high"],
          ["registers", "ratio mean, U before", 0.55, 0.45, 0.65])
    assert verdicts(tmp_path) == ["not shown", "not measured"]


def verdicts(folder):
    """Of PURE against chance, and against mean NLL."""
    return list(premises.table(folder).set_index("table").loc["pure_auroc", "verdict"])


@pytest.mark.parametrize(("minus", "verdict", "said"), [
    ((-0.16, -0.18, -0.14), "contradicted", "-0.16 [-0.18, -0.14]"), ((0.1, 0.05, 0.15), "shown", "0.10 [0.05, 0.15]"),
    ((0.1, -0.05, 0.25), "not shown", "0.10 [-0.05, 0.25]"), ((0.0, 0.0, 0.0), "not shown", "0.00 [0.00, 0.00]"),
    ((None,) * 3, "not measured", "")])
def test_perplexity_against_uncertainty_is_held_against_mean_nll_as_well(tmp_path, minus, verdict, said):
    """By the paired difference, in the world that judges, of the reading in use."""
    ends = ["minus_nll", "minus_nll_low", "minus_nll_high"]
    write(tmp_path, "pure_auroc", ["world", "reading", "auroc", "ci_low", "ci_high", *ends],
          ["registers", "ratio mean, U before", 0.8, 0.7, 0.9, *minus], ["registers", "mean NLL", 0.9, 0.8, 1, 0, 0, 0],
          ["registers", "pure+", 0.8, 0.7, 0.9, 0.5, 0.4, 0.6], ["paths", "ratio mean, U before", 1, 1, 1, 0.5, 0.4, 1])
    assert verdicts(tmp_path) == ["shown", verdict]
    row = premises.table(tmp_path).iloc[-1]
    assert (row["measured"], row["value [95 %]"]) == ("AUROC minus that of mean NLL", said)


def test_the_reading_of_pure_is_the_one_that_the_run_used(tmp_path):
    write(tmp_path, "pure_auroc", ["world", "reading", "auroc", "ci_low", "ci_high"],
          ["registers", "ratio mean, U before", 0.3, 0.2, 0.4], ["registers", "ratio max, U after", 0.8, 0.7, 0.9])
    for config, verdict in (({}, "contradicted"), ({"pure_aggregate": "max", "pure_uncertainty": "after"}, "shown")):
        write_json({"notebooks": {}, "config": config}, tmp_path / "run.json")
        assert verdicts(tmp_path) == [verdict, "not measured"]


def test_the_premises_ask_for_columns_that_the_notebooks_write():
    assert not (premises.table(ROOT / "results" / "demo")["verdict"] == "not measured").any()
    asked = [set(premise.columns) for premise in premises.PREMISES if premise.table == "pure_auroc"]
    assert all(columns <= set(detection.DETECTION) for columns in asked) and len(asked) == 2


def test_what_was_not_measured_is_left_out(tmp_path):
    assert premises.measured(tmp_path).empty
    write(tmp_path, "pure_auroc", ["world", "reading", "auroc", "ci_low", "ci_high"],
          ["registers", "ratio mean, U before", 0.8, 0.7, 0.9], ["registers", "mean NLL", 0.95, 0.9, 1.0])
    (row,) = premises.measured(tmp_path).to_numpy().tolist()
    assert row[:4] == ["perplexity against uncertainty tells derivations from shortcuts better than chance", "shown",
                       "AUROC, chance .5", "0.80 [0.70, 0.90]; mean NLL 0.95 [0.90, 1.00]"]


@pytest.mark.parametrize(("folder", "option"), [("demo", ""), ("demo+window=0.5", ""), ("full", "SCALE=full ")])
def test_commands_name_the_scale_unless_it_is_the_default(folder, option):
    assert premises.command(ROOT / "results" / folder, "05") == f'`make reproduce {option}ARGS="--only 05"`'
    assert set(premises.table(ROOT / folder)["command"]) == {
        f'`make reproduce {option}ARGS="--only {number}"`' for number in ("01", "02", "03")}

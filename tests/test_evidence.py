"""The abstract beside what was measured: every phrase, every premise and every claim, once."""

import pandas as pd
import pytest

from heal_lib import abstract, claims, evidence, premises
from heal_lib.files import write_table


def test_each_phrase_stands_once_in_its_order_and_no_premise_or_claim_is_left_out(tmp_path):
    found = abstract.opening(tmp_path)
    assert [text for text in found.iloc[:, 0] if text] == [*abstract.PHRASES]
    assert set(found["verdict"]) == {claims.UNMEASURED} and not any("](" in name for name in found["table"])
    said = [premise.text for premise in (*premises.PREMISES, premises.CORNERS)]
    said += list(evidence.claims_table(tmp_path)["claim"])
    bare = sum(text == "" for text in found["claim"])  # phrases that nothing speaks of, or that no table is there for
    assert sorted(filter(None, found["claim"])) == sorted(said) and bare == 2
    spoken = [name for speak in abstract.PHRASES.values() for name in speak]
    assert len(spoken) == len(set(spoken))


def test_a_row_goes_from_claim_to_verdict_number_table_and_command(tmp_path):
    folder = tmp_path / "full"
    pairs = pd.DataFrame([["heal", "sft-rs", claims.POOLED, 0.2, 0.1, 0.3, 0.01]], columns=[
        "method", "against", "benchmark", "difference", "ci_low", "ci_high", "p"])
    write_table(pairs, folder / "tables" / "main_pairs.csv")
    found = abstract.opening(folder).set_index("claim").loc["HEAL beats rejection sampling, the best of its kinds"]
    assert found.tolist() == [
        "HEAL significantly outperforms traditional SFT distillation", "shown", "points, minus sft-rs",
        "+20.0 [+10.0, +30.0]", "[main_pairs](../tables/main_pairs.csv)",
        '`make reproduce SCALE=full ARGS="--only 05"`']


def test_of_a_pair_and_benchmark_the_first_study_that_has_it_speaks_and_full_s_parts_stand_in(tmp_path):
    def study(name, table, *rows):
        frame = pd.DataFrame(rows, columns=["against", "benchmark", "difference"])
        write_table(frame.assign(method="heal", ci_low=frame["difference"] - 0.01, ci_high=frame["difference"] + 0.01,
                                 p=0.01), tmp_path / name / "tables" / f"{table}.csv")
        return tmp_path / name

    parts = study("parts", "ablations", ("heal-no-pace", claims.JUDGE, 0.1), ("heal-no-pace", claims.POOLED, 0.1))
    full = study("full", "main_parts", ("heal-no-pace", claims.POOLED, -0.3), ("heal-no-pace", "a-hard", -0.3),
                 ("heal-no-pace", "b-hard", -0.3))
    demo = study("demo", "ablations", ("heal-no-pace", claims.POOLED, 0.2), ("heal-no-pure", claims.POOLED, 0.2),
                 ("heal-no-pure", "a-hard", 0.2), ("heal-no-pure", claims.JUDGE, 0.2))
    found = evidence.claims_table([parts, full, demo]).set_index("claim")
    pace, judged, whole = (found.loc[f"PACE: stages beat one mixed stage{where}"]
                           for where in (f" ({claims.ELSEWHERE})", f" ({claims.JUDGE})", ""))
    assert (whole["points [95 %]"], whole["folder"]) == ("+20.0 [+19.0, +21.0]", "demo")
    assert (pace["points [95 %]"], pace["folder"], pace["table"], pace["command"]) == (
        "-30.0 [-31.0, -29.0]", "full", "main_parts", '`make reproduce SCALE=full ARGS="--only 05"`')
    assert (judged["folder"], judged["table"]) == ("parts", "ablations")
    assert found.loc["PURE: the filter beats none"]["folder"] == "demo"


@pytest.mark.parametrize("classes", [["0", "2-5"], ["0", "1"]])  # which pandas reads as texts, and as numbers
def test_corner_cases_are_not_measured_until_a_table_has_their_gain(tmp_path, classes):
    rows = [[method, claims.POOLED, solved, value, value - 0.05, value + 0.05]
            for solved, value in zip(classes, (0.06, 0.2), strict=True) for method in ("sft-rs", "heal")]
    table = pd.DataFrame(rows, columns=["method", "benchmark", "solved", "gain", "gain_low", "gain_high"])
    table.loc[table["method"] == "heal", "gain"] = float("nan")  # it is on the rows of what heal is compared with
    for has, said in ((False, ("not measured", "")), (True, ("shown", "0.06 [0.01, 0.11]"))):
        columns = ["method", "benchmark", "solved"] + ["gain", "gain_low", "gain_high"] * has
        write_table(table[columns], tmp_path / "tables" / "learned_corners.csv")
        row = abstract.opening(tmp_path).set_index("claim").loc[premises.CORNERS.text]
        assert (row["verdict"], row["number [95 %]"]) == said
    assert premises.CORNERS.text not in premises.measured(tmp_path).to_numpy()


def test_corner_cases_are_held_against_the_best_kind_of_rejection_sampling_and_others_stand_beside(tmp_path):
    rows = [[method, claims.POOLED, "0", value, value - 0.05, value + 0.05]
            for method, value in (("sft-rs", 0.06), ("sft-rs-matched", 0.03), ("star", -0.01))]
    write_table(pd.DataFrame(rows, columns=["method", "benchmark", "solved", "gain", "gain_low", "gain_high"]),
                tmp_path / "tables" / "learned_corners.csv")
    row = abstract.opening(tmp_path).set_index("claim").loc[premises.CORNERS.text]
    assert row["verdict"] == "not shown" and row["measured"].endswith("heal minus sft-rs-matched")
    assert row["number [95 %]"] == "0.03 [-0.02, 0.08]; sft-rs 0.06 [0.01, 0.11]; star -0.01 [-0.06, 0.04]"


@pytest.mark.parametrize(("p", "verdict"), [(0.001, "shown"), (0.03, "suggested")])  # twice .03, of two kinds
def test_corner_cases_are_judged_by_the_p_value_of_their_seeds(tmp_path, p, verdict):
    rows = [[method, claims.POOLED, "0", 0.06, 0.01, 0.11, p] for method in ("sft-rs", "sft-rs-matched")]
    columns = ["method", "benchmark", "solved", "gain", "gain_low", "gain_high", "gain_p"]
    write_table(pd.DataFrame(rows, columns=columns), tmp_path / "tables" / "learned_corners.csv")
    assert abstract.opening(tmp_path).set_index("claim").loc[premises.CORNERS.text]["verdict"] == verdict


def test_exposure_is_said_for_each_family_of_worlds(tmp_path):
    assert evidence.exposure(tmp_path) == ""
    rows = [["a+b", "heal", 0.1], ["a+b", "heal-no-pace", 0.2], ["c", "heal", 0.3], ["c", "heal-no-pace", 0.4],
            ["c", "heal-separate", 0.4], ["d", "heal", 0.1]]
    table = pd.DataFrame(rows, columns=["family", "method", "repair"])
    write_table(table, tmp_path / "tables" / "pace_exposure.csv")
    assert evidence.exposure(tmp_path).startswith("Of the training tokens repairs get 10.0 % in stages and 20.0 % "
                                                  "mixed (a+b); 30.0 % in stages and 40.0 % mixed (c): order is not")
    write_table(table[["family", "method"]], tmp_path / "tables" / "pace_exposure.csv")
    assert evidence.exposure(tmp_path) == ""  # no repairs at all


def test_orders_of_equal_exposure_are_said_for_the_benchmark_that_judges(tmp_path):
    assert evidence.equal_exposure([tmp_path]) == ""
    row = {"method": "heal", "against": "heal-one-schedule", "difference": -0.1, "ci_low": -0.2, "ci_high": 0.05}
    table = pd.DataFrame([{**row, "benchmark": name} for name in ("a-easy", claims.JUDGE)])
    write_table(table, tmp_path / "tables" / "pace_equal.csv")
    assert evidence.equal_exposure([tmp_path / "none", tmp_path]) == (
        f"With each row seen as often, on {claims.JUDGE} (`{tmp_path.name}`): *HEAL* minus *one learning-rate "
        "schedule* -10.0 [-20.0, +5.0] points.")
    other = tmp_path / "other"
    write_table(pd.DataFrame([{**row, "benchmark": name} for name in ("a-hard", claims.POOLED)]),
                other / "tables" / "pace_equal.csv")
    (other / "run.json").write_text('{"config": {"worlds": ["a", "b"]}}')
    assert evidence.equal_exposure([tmp_path, other]).endswith(
        "points. And on a, b, hard ones together (`other`): *HEAL* minus *one learning-rate schedule* -10.0 "
        "[-20.0, +5.0] points.")
    reading = pd.DataFrame([["heal", claims.JUDGE, "sampled"]], columns=["against", "benchmark", "decoding"])
    write_table(reading, other / "tables" / "main_one_schedule.csv")
    assert evidence.equal_exposure([tmp_path, other]) == ""  # `reading` says it


def test_corner_cases_and_greedy_answers_stand_under_what_is_said_of_heal(tmp_path):
    assert evidence.corners([tmp_path]) == evidence.greedy([tmp_path]) == ""
    rows = [["sft-rs", claims.POOLED, "0", 0.06, 0.01, 0.11], ["star", claims.POOLED, "0", -0.04, -0.09, 0.01]]
    for name in ("learned_corners", "learned_corners_derived"):
        write_table(pd.DataFrame(rows, columns=["method", "benchmark", "solved", "gain", "gain_low", "gain_high"]),
                    tmp_path / "tables" / f"{name}.csv")
    assert evidence.corners([tmp_path / "none", tmp_path]) == (
        f"{premises.CORNERS.text}: *shown* (share right, heal minus sft-rs: 0.06 [0.01, 0.11]; "
        "star -0.04 [-0.09, 0.01]; one of several classes, not corrected for that; right *and* derived, heal minus "
        "sft-rs: 0.06 [0.01, 0.11]; star -0.04 [-0.09, 0.01]).")
    rows = [["heal", against, where, 0.1, -0.2, 0.4] for where in (claims.POOLED, claims.JUDGE)
            for against in ("sft-rs", "star", "teacher")]
    write_table(pd.DataFrame(rows, columns=["method", "against", "benchmark", "difference", "ci_low", "ci_high"]),
                tmp_path / "tables" / "main_greedy.csv")
    assert evidence.derived([tmp_path]) == ""
    (tmp_path / "tables" / "main_derived.csv").write_bytes((tmp_path / "tables" / "main_greedy.csv").read_bytes())
    assert evidence.derived([tmp_path]) == (
        "Of answers that are right *and* derived, by the oracle: minus `sft-rs` +10.0 [-20.0, +40.0] points, minus "
        "`star` +10.0 [-20.0, +40.0] points; on registers-hard minus `sft-rs` +10.0 [-20.0, +40.0] points, minus "
        "`star` +10.0 [-20.0, +40.0] points (no claim, not corrected; in equations and paths guess-and-check is right "
        "and no derivation).")
    assert evidence.greedy([tmp_path]) == (
        "Greedy, rather than at temperature 1: minus `sft-rs` +10.0 [-20.0, +40.0] points, minus `star` +10.0 [-20.0, "
        "+40.0] points (no claim, not corrected).")


def test_another_reading_of_pace_stands_beside_heal_as_it_is(tmp_path):
    columns = ["method", "against", "benchmark", "difference", "ci_low", "ci_high", "p", "p_holm"]
    assert evidence.reading([tmp_path]) == "" and not len(evidence.readings([tmp_path]))
    rows = [[claims.OTHER_READING, against, where, 0.1, 0.05, 0.15, 0.01, 0.01, how] for how in ("sampled", "greedy")
            for where in (claims.ELSEWHERE, claims.JUDGE, "a-easy") for against in ("heal", "limo", "star")]
    write_table(pd.DataFrame(rows, columns=[*columns, "decoding"]), tmp_path / "tables" / "main_one_schedule.csv")
    assert evidence.reading([tmp_path]).endswith(
        "HEAL so trained, minus HEAL as it stands: +10.0 [+5.0, +15.0] points (shown) on the hard benchmarks but "
        "registers-hard together, +10.0 [+5.0, +15.0] points (shown) on registers-hard, where this was found; no claim "
        "rests on it.")
    rows = [["heal", "star", where, 0.1, -0.05, 0.25, 0.2, 0.2] for where in (claims.JUDGE, claims.POOLED, "a-easy")]
    write_table(pd.DataFrame(rows, columns=columns), tmp_path / "tables" / "main_pairs.csv")
    assert evidence.readings([tmp_path]).to_numpy().tolist() == [
        ["star", claims.JUDGE, "+10.0 [-5.0, +25.0]", "not shown", "+10.0 [+5.0, +15.0]", "shown", "", ""]]
    assert evidence.mixed([tmp_path]) == ""
    rows = [[claims.ONE_STAGE, against, where, 0.1, 0.05, 0.15, 0.01, 0.01] for where in (claims.JUDGE, claims.POOLED)
            for against in ("star", "limo")]
    write_table(pd.DataFrame(rows, columns=columns), tmp_path / "tables" / "main_mixed.csv")
    assert [*evidence.readings([tmp_path]).iloc[0, -2:]] == ["+10.0 [+5.0, +15.0]", "shown"]
    assert evidence.mixed([tmp_path]).startswith("Its rows in **one mixed stage**, without PACE: minus `star` +10.0 "
                                                 "[+5.0, +15.0] points (shown) (asked after")
    write_table(pd.DataFrame([["heal", "star", claims.JUDGE, *[0.5] * 5]], columns=columns),
                tmp_path / "other" / "tables" / "main_pairs.csv")
    assert evidence.readings([tmp_path / "other", tmp_path]).equals(evidence.readings([tmp_path]))  # of one study

"""What the filter changes in the rows that students are given, by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from heal_lib import given, pure, scales
from heal_lib.files import write_table
from heal_lib.plots import trajectories as figures


def _rows(genuine, problem="p", first=0, world="paths"):
    return [{"world": world, "difficulty": "hard", "problem_id": problem, "text": f"{first + i}", "genuine": one}
            for i, one in enumerate(genuine)]


@pytest.mark.parametrize("lam", [0.1, 0.2, 0.25, 0.3, 1 / 3, 0.5])
@pytest.mark.parametrize("cap", [1, 2, 4, 9])
def test_what_is_said_of_filter_and_cap_is_so(lam, cap):
    said = given.rule(scales.get("smoke", pure_lambda=lam, per_problem_cap=cap))
    left = {n: int(pure.keep(np.zeros(n), lam).sum()) for n in range(1, 60)}
    first = min(n for n in left if left[n] < n)
    fewer = any(min(cap, left[n]) < min(cap, n) for n in left)
    assert ("never lowers" in said) is not fewer
    assert (f"{first} texts or more" if fewer else f"a problem has {first - 1} texts or fewer") in said


def test_no_filter_and_a_threshold_are_said_as_they_are():
    assert "never" not in given.rule(scales.get("smoke", pure_lambda=0))
    assert "above 3;" in given.rule(scales.get("smoke", pure_lambda=3, pure_rule="threshold"))


def test_rows_that_stand_in_for_others_are_counted_and_their_genuine_share_compared():
    ours = {"base": _rows([0]), "hint": [*_rows([1, 1, 1, 0]), *_rows([1], "q")], "repair": _rows([0], first=9)}
    theirs = {"base": [], "hint": [*_rows([1, 0], first=1), *_rows([0, 0], first=8), *_rows([1], "q")],
              "repair": _rows([0], first=9)}
    table = given.compared(ours, theirs, n_boot=200).set_index("source")
    hint = table.loc["hint"]
    assert list(table.index) == ["hint", "repair", "both"] and set(table["benchmark"]) == {"paths-hard"}
    assert hint[["problems", "rows", "rows_without"]].tolist() == [2, 5, 5]
    assert hint["other_rows"] == pytest.approx(2 / 5)  # texts 0 and 3; 1 and 2 are in both
    assert hint[["genuine", "genuine_without"]].tolist() == pytest.approx([4 / 5, 2 / 5])
    assert hint["difference"] == pytest.approx(2 / 5) and 0 <= hint["diff_low"] <= 2 / 5 <= hint["diff_high"]
    repair = table.loc["repair"]  # the same row: no draw differs, so the interval is the exact one
    assert repair["other_rows"] == repair["difference"] == 0 and repair["diff_low"] < 0 < repair["diff_high"]
    assert table.loc["both", "other_rows"] == pytest.approx(2 / 6)


def test_without_rows_or_an_oracle_nothing_is_divided():
    assert given.compared({"base": []}, {"base": []}).empty
    table = given.compared({"hint": _rows([-1, -1])}, {"hint": []})
    assert table[["genuine", "genuine_without", "difference", "diff_low"]].isna().all(axis=None)
    assert table["other_rows"].tolist() == [1, 1]


def test_the_first_page_says_where_rows_are_changed(tmp_path):
    assert given.sentence(tmp_path) == ""
    rows = [["a-hard", "both", 0.05, 0.02, 0.01, 0.03], ["b-hard", "both", 0.34, 0.077, 0.053, 0.099],
            ["c", "both", 0.0, 0.0, -0.1, 0.1], ["b-hard", "hint", 0.9, 0.9, 0.9, 0.9]]
    table = pd.DataFrame(rows, columns=["benchmark", "source", "other_rows", "difference", "diff_low", "diff_high"])
    write_table(table, tmp_path / "tables" / "pure_given.csv")
    assert given.sentence(tmp_path) == (
        "Of the hinted and repaired rows that a student is given it changes 34% on b-hard (genuine share +7.7 "
        "points [+5.3, +9.9]), 5% on a-hard (genuine share +2.0 points [+1.0, +3.0]), none elsewhere (`03_pure`).")


def test_of_many_steps_the_outliers_are_drawn_and_the_limits_are_those_of_what_is_drawn():
    upper, lower = plt.subplots(2)[1]
    u, ppl = np.ones(4000), np.full(4000, 2.0)
    ppl[[1234, 2345, 3210]] = 50.0, 60.0, 70.0
    u[1000:1100], u[1234] = 0.03, 0.01
    u[[0, 3210]] = 900.0, 300.0  # so the largest perplexity is of no large ratio
    u[2223], ppl[2223] = 1e6, 1.0  # which nobody draws
    figures.ppl_against_u((upper, lower), u, ppl, np.arange(4000) < 5, 0.01, "paths")
    drawn = upper.lines[0].get_ydata()
    assert {50.0, 60.0, 70.0} <= set(drawn) and figures.POINTS <= len(drawn) <= figures.POINTS + 2 * figures.LARGEST
    titles = upper.get_title(), lower.get_title()
    assert titles == (f"paths\ngenuine:\n{len(drawn)} of 3,995 steps", "spurious:\n5 steps")
    assert upper.get_xlim() == lower.get_xlim() == pytest.approx((0.7 * 0.02, 1.4 * 900.01))
    assert upper.get_ylim() == lower.get_ylim() == pytest.approx((0.8 * 2, 1.25 * 70)) and not upper.texts
    plt.close("all")

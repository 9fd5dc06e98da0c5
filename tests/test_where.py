"""README's first picture: what of HEAL was compared where, and the first study that did."""

import pandas as pd
import pytest

from heal_lib import claims, where
from heal_lib.files import write_table


def study(folder, table, rows):
    frame = pd.DataFrame(rows, columns=["against", "benchmark", "difference", "ci_low", "ci_high", "p"])
    write_table(frame.assign(method="heal", n_problems=4, n_seeds=2), folder / "tables" / f"{table}.csv")
    return folder


@pytest.fixture
def studies(tmp_path):
    full = study(tmp_path / "full", "main_pairs", [["star", "a-hard", -0.2, -0.3, -0.1, 0.001],
                                                   ["star", claims.JUDGE, 0.0, -0.1, 0.1, 0.9],
                                                   ["star", "a-easy", 0.2, 0.1, 0.3, 0.001]])
    demo = study(tmp_path / "demo", "main_pairs", [["star", of, 0.5, 0.4, 0.6, 0.001]
                                                   for of in ("a-hard", claims.JUDGE, claims.POOLED)])
    return [full, study(demo, "ablations", [["heal-no-pure", claims.JUDGE, 0.1, 0.01, 0.2, 0.04],
                                            ["heal-nll", claims.JUDGE, 0.1, 0.01, 0.2, 0.2]])]


def test_each_line_is_of_the_first_study_that_compared_it_on_a_hard_benchmark(studies):
    shown = where.table(studies)[["part", "minus", "benchmark", "difference", "verdict", "study"]]
    assert shown.to_numpy().tolist() == [
        ["HEAL", "STaR", "a-hard", -0.2, "contradicted", "full"],
        ["HEAL", "STaR", claims.JUDGE, 0.0, "not shown", "full"],
        ["PURE", "no filter", claims.JUDGE, 0.1, "suggested", "demo"],  # corrected for the other control
        ["PURE", "a filter by mean NLL", claims.JUDGE, 0.1, "suggested", "demo"]]


def test_all_together_are_those_of_the_study_of_rivals_and_what_was_found_is_said(studies):
    """Parts of a smaller study would stand beside rivals on other problems."""
    study(studies[0], "main_pairs", [["star", of, -0.2, -0.3, -0.1, 0.001] for of in (claims.JUDGE, "a-hard",
                                                                                     claims.POOLED)])
    study(studies[1], "ablations", [["heal-no-pure", of, 0.1, 0.01, 0.2, 0.5] for of in (claims.JUDGE, "a-hard",
                                                                                        claims.POOLED)])
    shown = where.table(studies)
    assert shown.loc[shown["benchmark"] == claims.POOLED, "minus"].tolist() == ["STaR"]
    assert where.sentences(shown).splitlines() == [
        f"- **HEAL** is worse than STaR on {claims.JUDGE}, a-hard and all hard benchmarks together.",
        "- **PURE**: no difference is found between HEAL and any of what PURE has to beat."]
    assert where.sentences(shown, {"PURE": "Perhaps missed.", "HEAL": "x"}).endswith("has to beat. Perhaps missed.")


def test_nothing_is_drawn_or_said_where_nothing_was_compared(tmp_path):
    where.draw([tmp_path], tmp_path)
    assert where.is_current([tmp_path], tmp_path) and not [*tmp_path.iterdir()] and where.first_page([tmp_path]) == []


def test_a_picture_is_of_its_table_and_is_stale_when_a_study_says_otherwise(studies, tmp_path):
    assert not where.is_current(studies, tmp_path)
    where.draw(studies, tmp_path)
    first = (tmp_path / "where.png").read_bytes()
    where.draw(studies, tmp_path)
    assert where.is_current(studies, tmp_path) and (tmp_path / "where.png").read_bytes() == first
    study(studies[0], "main_pairs", [["star", "a-hard", -0.1, -0.3, -0.1, 0.001]])
    assert not where.is_current(studies, tmp_path)

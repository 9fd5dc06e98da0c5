"""Hand-computed cases for intervals over problems and for breakpoints."""

import numpy as np
import pytest

from heal_lib import analysis, stats
from heal_lib.errors import HealError
from heal_lib.scales import get


def test_bootstrap_ratio_is_a_ratio_of_sums_with_an_interval_around_it():
    ratio, low, high = analysis.bootstrap_ratio([1, 0, 3], [2, 2, 4], n_boot=500)
    assert ratio == 0.5 and 0 <= low <= 0.5 <= high <= 0.75
    assert isinstance(low, float)  # a 0-d array would make a table's column one of objects


def test_bootstrap_ratio_agrees_with_the_bootstrap_of_the_mean():
    x = np.random.default_rng(1).random(80)
    ours, theirs = analysis.bootstrap_ratio(x, np.ones(80), n_boot=4000), stats.bootstrap_mean(x, n_boot=4000)
    assert np.allclose(ours, theirs, atol=0.01)


def test_bootstrap_ratio_without_a_denominator_is_nan_and_says_nothing_else():
    assert np.isnan(analysis.bootstrap_ratio([0, 0], [0, 0])).all()
    ratio, low, high = analysis.bootstrap_ratio([[1, 0], [1, 0]], [[1, 0], [1, 0]])
    assert ratio[0] == high[0] == 1 and np.isnan([ratio[1], low[1], high[1]]).all()


def test_bootstrap_ratio_leaves_out_resamples_without_a_denominator():
    _, low, high = analysis.bootstrap_ratio([2, 1, 0], [4, 2, 0], n_boot=200)
    assert low == high == 0.5


def test_a_share_of_none_or_all_has_an_exact_interval():
    """0 of 150 unsolved problems does not show that there are none."""
    none, low, high = analysis.mean_curve(np.zeros((150, 1)))
    assert (none[0], low[0], high[0]) == pytest.approx((0, 0, 1 - 0.025 ** (1 / 150)))
    assert analysis.bootstrap_ratio([3, 2, 0], [3, 2, 0]) == pytest.approx((1, 0.025 ** (1 / 2), 1))


@pytest.mark.parametrize("bad", [([], []), ([1], [1, 2]), ([np.nan], [1])])
def test_bootstrap_ratio_refuses_bad_tables(bad):
    with pytest.raises(HealError):
        analysis.bootstrap_ratio(*bad)


def test_mean_curve_skips_missing_cells():
    mean, low, high = analysis.mean_curve([[1, np.nan], [3, 5]], n_boot=100)
    assert mean.tolist() == [2, 5] and low[1] == high[1] == 5


def test_aligned_puts_the_breakpoint_in_one_column():
    table = analysis.aligned([[1, 2, 3, 4], [5, 6]], [2, 0], before=1, after=2)
    assert np.array_equal(table, [[2, 3, 4, np.nan], [np.nan, 5, 6, np.nan]], equal_nan=True)
    assert analysis.aligned([], [], 1, 1).shape == (0, 3)


@pytest.mark.parametrize("target, start, stop, slack, chance", [
    (2, 1, 5, 1, 0.75),  # 1, 2, 3 of 1..4
    (2, 1, 5, 0, 0.25),
    (0, 1, 3, 1, 0.5),  # only 1
    (9, 1, 3, 1, 0.0),
    (1, 1, 2, 1, 1.0),  # no choice
])
def test_hit_chance_counts_the_steps_that_would_hit(target, start, stop, slack, chance):
    assert analysis.hit_chance(target, start, stop, slack) == chance


def test_hit_chance_of_no_step_is_refused():
    with pytest.raises(HealError):
        analysis.hit_chance(0, 1, 1)


def test_hits_by_hand():
    found = [{"breakpoint": 2, "first_break": 3, "stop": 4, "n_steps": 9},
             {"breakpoint": 1, "first_break": 6, "stop": 4, "n_steps": 9}]
    assert np.allclose(analysis.hits(found, 1), [[1, 2 / 3, 3 / 8], [0, 0, 3 / 8]])
    assert analysis.hits([], 1).shape == (0, 3)


class Letters:
    """An engine whose tokens are characters."""

    def pieces(self, ids):
        return [chr(i) for i in ids]


def _row(text, entropy, **more):
    return {"problem_id": "p", "world": "equations", "difficulty": "hard", "question": "equation x+2=9", "answer": "7",
            "token_ids": [ord(c) for c in text], "text": text, "entropy": entropy, "n_kept": 0, **more}


def test_breakpoints_find_the_surge_and_the_oracles_first_fruitless_step():
    text = "x+2=9\n\ntry 5\n\n5+2=7\n\n7<9\n\ngive up\n\n\\boxed{5}"
    spans = [0] * 7 + [3] * 7 + [1] * (len(text) - 14)
    (found,) = analysis.breakpoints(Letters(), [_row(text, spans)], get("smoke", window=0.5))
    assert (found["breakpoint"], found["first_break"], found["n_steps"], found["stop"]) == (1, 1, 6, 3)
    assert analysis.breakpoints(Letters(), [_row("x+2=9", [0] * 5)], get("smoke")) == []


def test_step_entropy_takes_the_kept_tokens_from_the_parent():
    parent = _row("ab\n\nzz", [1, 1, 1, 1, 9, 9])
    repaired = _row("ab\n\ncd", [2, 4], n_kept=4)
    assert analysis.step_entropy(Letters(), repaired, parent).tolist() == [1, 3]


def test_a_row_in_words():
    row = {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    assert analysis.said(row) == "0.50 [0.40, 0.60]"
    assert [analysis.told({"diff_low": a, "diff_high": b}).split()[0] for a, b in ((1, 2), (-2, -1), (-1, 1), (0, 0))] \
        == ["better", "worse", "no", "no"]


def test_rows_of_each_world_are_read_by_its_own_engine():
    rows = [{"world": "paths", "i": 0}, {"world": "equations", "i": 1}, {"world": "paths", "i": 2}]

    def read(engine, mine, cfg):
        return [(engine, cfg, row["i"]) for row in mine]

    found = analysis.by_world(read, {"paths": "A", "equations": "B", "countdown": "C"}, iter(rows), "cfg")
    assert found == [("A", "cfg", 0), ("A", "cfg", 2), ("B", "cfg", 1)]

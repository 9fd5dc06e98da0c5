"""P-values, Holm's correction, what could have been found, and measures across benchmarks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from test_stats import table

from heal_lib import stats
from heal_lib.errors import HealError
from heal_lib.stats import bootstrap_mean, holm, minimum_detectable_effect


def test_minimum_detectable_effect():
    diffs, t = np.array([-1.0, 1.0] * 50), scipy_stats.t.ppf([0.975, 0.8], [[99], [1]]).sum(1)
    assert minimum_detectable_effect(diffs) == pytest.approx(t[0] * diffs.std(ddof=1) / 10)
    assert math.isnan(minimum_detectable_effect(np.zeros((5, 3))))  # no spread was seen: nothing says how small it is
    seeds = np.repeat([[-0.1, 0.1]], 10, axis=0)  # problems agree, seeds do not
    assert minimum_detectable_effect(seeds) == pytest.approx(t[1] * 0.1)  # with one degree of freedom: 1.4
    assert math.isnan(minimum_detectable_effect([1.0]))  # a run of one problem still has its tables


def test_the_effect_is_detected_as_often_as_promised():
    rng = np.random.default_rng(0)
    effect = minimum_detectable_effect(rng.normal(0, 1, 200_000)) * math.sqrt(200_000 / 100)
    x = rng.normal(effect, 1, (4000, 100))
    z = x.mean(axis=1) / (x.std(axis=1, ddof=1) / 10)
    assert (abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.03)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == holm([0.9, 0.6, 0.6]).tolist()[:2] == [1, 1]  # no probability is above 1
    assert holm([]).tolist() == []
    for bad in ([-0.1], [1.1], [math.nan], [[0.1]]):
        with pytest.raises(HealError, match="p-values"):
            holm(bad)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_step_by_step(p, alpha):
    rejected = set()
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] * (len(p) - rank) > alpha:
            break
        rejected.add(i)
    assert set(np.flatnonzero(holm(p) <= alpha)) == rejected


# --- p-values, and measures across benchmarks

def test_the_p_value_of_one_seed_is_that_of_the_paired_t_test():
    a = np.array([1, 1, 1, 1, 0, 1.0])
    b = np.array([0, 1, 0, 0, 0, 1.0])
    assert stats.paired_p(a, b) == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    seeds = np.tile([0.1, 0.3, 0.2], (9, 1))  # problems that agree: the seeds' t test
    assert stats.paired_p(seeds, 0 * seeds) == pytest.approx(scipy_stats.ttest_1samp([0.1, 0.3, 0.2], 0).pvalue)


def test_the_p_value_at_its_limits():
    x = table(20, 3)
    assert stats.paired_p(x, 0 * x) == stats.paired_p(0 * x, x) and stats.paired_p(x, x) == 1
    assert stats.paired_p(np.ones(9), np.zeros(9)) == pytest.approx(2 / 2**9)  # nothing varies: the sign test
    assert stats.paired_p(np.full((3, 7), 0.1), np.zeros((3, 7))) == 0.25  # nor here, but for what rounding does
    assert stats.paired_p([1.0], [0.0]) == 1 and stats.paired_p(1000 + np.arange(40.0), np.zeros(40)) == 1e-12
    h = math.hypot(*(scipy_stats.t.isf(p / 2, n - 1) * x.mean(1 - axis).std(ddof=1) / math.sqrt(n)
                     for axis, n in enumerate(x.shape) for p in [stats.paired_p(x, 0 * x)]))
    assert h == pytest.approx(x.mean())


def test_few_seeds_that_agree_show_little():
    """Three seeds that happen to agree in sign: with two degrees of freedom that is no proof for 24 questions."""
    seeds = np.tile([-0.2, -0.1, -0.3], (200, 1)) + np.random.default_rng(0).normal(0, 0.1, (200, 3))
    assert 0.01 < stats.paired_p(seeds, 0 * seeds) < 0.2
    many = np.tile(np.resize([-0.2, -0.1, -0.3], 12), (200, 1))
    assert stats.paired_p(many, 0 * many) < 1e-4


def test_a_p_value_below_the_level_goes_with_an_interval_beyond_zero():
    rng = np.random.default_rng(0)
    for shift in np.linspace(-0.6, 0.6, 13):
        diff = rng.normal(shift, 1, (40, 3))
        low, high = stats.bootstrap_mean(diff, n_boot=4000)[1:]
        p = stats.paired_p(diff, 0 * diff)
        assert (p < 0.03) <= (low > 0 or high < 0) <= (p < 0.08)


def test_the_interquartile_mean_is_that_of_the_middle_half():
    assert stats.interquartile_mean([[0, 1], [2, 3], [4, 100], [6, 7]]) == np.mean([2, 3, 4, 6])


def test_the_chance_of_improvement_counts_pairs_of_runs():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 4, (5, 3)), rng.integers(0, 4, (4, 3))
    pairs = [(x > y) + (x == y) / 2 for task in range(3) for x in a[:, task] for y in b[:, task]]
    assert stats.probability_of_improvement(a, b) == pytest.approx(np.mean(pairs))
    assert stats.probability_of_improvement(a, a) == 0.5
    with pytest.raises(HealError, match="n_tasks"):
        stats.probability_of_improvement(a, b[:, :2])


def test_whole_runs_are_drawn_again_and_few_are_stretched():
    scores = np.array([[0.0, 10], [1, 11], [2, 12]]) / 12
    seen = []
    value, low, high = stats.bootstrap_runs(lambda x: seen.append(x) or float(x.mean()), scores, n_boot=200)
    assert value == scores.mean() and low < value < high
    assert all((x[:, 0] * 12 + 10 == pytest.approx(x[:, 1] * 12)) for x in seen)  # a run's tasks share a student
    drawn = np.quantile([x.mean() for x in seen[:-1]], [0.025, 0.975])  # the last call is of the scores themselves
    assert [low, high] == pytest.approx(np.clip(value + stats._stretch(3, 0.95) * (drawn - value), 0, 1), abs=0.02)
    again = stats.bootstrap_runs(lambda x: float(x.mean()), scores, n_boot=200)
    assert again == (value, low, high)


@pytest.mark.parametrize("level", [0, 1, -0.1, 95])
def test_a_level_lies_between_none_and_all(level):
    with pytest.raises(HealError):
        bootstrap_mean([0.0, 1.0], level=level)


def test_half_of_a_tie_is_an_improvement():
    assert stats.probability_of_improvement(np.ones((2, 3)), np.ones((4, 3))) == 0.5
    assert stats.probability_of_improvement(np.array([[1.0], [2.0]]), np.array([[1.0]])) == 0.75


def test_runs_that_never_differ_have_no_interval():
    value, low, high = stats.bootstrap_runs(stats.interquartile_mean, np.full((3, 2), 0.5), n_boot=20)
    assert value == 0.5 and math.isnan(low) and math.isnan(high)

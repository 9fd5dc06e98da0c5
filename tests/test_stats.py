import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from heal_lib import stats
from heal_lib.errors import HealError
from heal_lib.stats import (
    auroc,
    average_precision,
    bootstrap_mean,
    paired_bootstrap,
)

labelled = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=25)


def table(n_problems=40, n_seeds=5, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0.5, 0.3, (n_problems, 1))
        + rng.normal(0, 0.1, n_seeds)
        + rng.normal(0, 0.2, (n_problems, n_seeds))
    )


def test_bootstrap_against_a_loop_over_the_same_draws():
    x, n_boot = table(7, 3), 200
    problem_rng, seed_rng = np.random.default_rng(5).spawn(2)
    w = problem_rng.multinomial(7, np.full(7, 1 / 7), n_boot)
    v = seed_rng.multinomial(3, np.full(3, 1 / 3), n_boot)
    mean, of_problem, of_seed = x.mean(), x.mean(1, keepdims=True), x.mean(0)
    t = scipy_stats.t.ppf(0.975, [6, 2]) / scipy_stats.norm.ppf(0.975)
    wider = math.sqrt(7 / 6) * t[0] - 1, math.sqrt(3 / 2) * t[1] - 1
    stretched = x + wider[0] * (of_problem - mean) + wider[1] * (of_seed - mean)
    means = []
    for b in range(n_boot):
        problems, seeds = np.repeat(np.arange(7), w[b]), np.repeat(np.arange(3), v[b])
        assert len(problems) == 7 and len(seeds) == 3
        means.append(stretched[np.ix_(problems, seeds)].mean())
    expected = (x.mean(), *np.clip(np.quantile(means, [0.025, 0.975]), x.min(), x.max()))
    assert bootstrap_mean(x, n_boot=n_boot, seed=5) == pytest.approx(expected)


def test_bootstrap_against_a_plain_loop():
    x, rng = table(), np.random.default_rng(1)
    means = [x[np.ix_(rng.integers(0, 40, 40), rng.integers(0, 5, 5))].mean() for _ in range(4000)]
    mean, low, high = bootstrap_mean(x, n_boot=4000, seed=2)
    assert mean == pytest.approx(x.mean())
    plain_low, plain_high = np.quantile(means, [0.025, 0.975])
    assert low == pytest.approx(plain_low, abs=0.06) and high == pytest.approx(plain_high, abs=0.06)
    assert plain_high - plain_low < high - low < stats._stretch(5, 0.95) * 1.02 * (plain_high - plain_low)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_draws_vary_as_means_of_that_many_do(n):
    """Plain draws of n vary by (n - 1) / n of that: by two thirds for three seeds; and that of n is known by n - 1."""
    for scores in (np.tile(np.arange(n) % 4 / 4, (6, 1)), np.tile(np.arange(n) % 4 / 4, (6, 1)).T):  # seeds, problems
        spread = stats._resampled_means(scores, 20_000, 0).std()
        error = (np.arange(n) % 4 / 4).std(ddof=1) / math.sqrt(n)
        assert spread == pytest.approx(error * scipy_stats.t.ppf(0.975, n - 1) / scipy_stats.norm.ppf(0.975), rel=0.03)


def test_an_interval_stays_among_the_scores_that_there_are():
    """Stretched, a seed of nothing would count below nothing."""
    x = np.zeros((10, 3))
    x[0, 0] = 1
    assert bootstrap_mean(x)[1] == 0 and bootstrap_mean(1 - x)[2] == 1 and paired_bootstrap(0 * x, x)[2] == 0


def test_one_seed_is_scipys_bootstrap():
    x = table(60, 1)[:, 0]
    theirs = scipy_stats.bootstrap(
        (x,), np.mean, n_resamples=5000, method="percentile", rng=0
    ).confidence_interval
    assert bootstrap_mean(x, n_boot=5000)[1:] == pytest.approx(tuple(theirs), abs=0.01)
    assert bootstrap_mean(x) == bootstrap_mean(x[:, None])


def test_seeds_that_disagree_widen_the_interval():
    """Pooling problems x seeds as if independent hides the spread between training seeds."""
    x = np.repeat([[0.2, 0.4, 0.6, 0.8]], 100, axis=0)
    _, low, high = bootstrap_mean(x)
    assert high - low > 0.3
    assert np.ptp(bootstrap_mean(x.mean(axis=1))) < 1e-12


def test_bootstrap_is_deterministic_whatever_the_chunks(monkeypatch):
    x = table()
    whole = bootstrap_mean(x, seed=3)
    assert whole == bootstrap_mean(x, seed=3) != bootstrap_mean(x, seed=4)
    monkeypatch.setattr(stats, "CHUNK", 1000)
    assert bootstrap_mean(x, seed=3) == pytest.approx(whole, abs=1e-14)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 8])
@pytest.mark.parametrize("between", [0.0, 0.3])  # seeds that do not matter, and that matter most
def test_intervals_cover_and_p_values_are_small_as_seldom_as_they_say(n_seeds, between):
    hits, p = 0, []
    for trial in range(100):
        rng = np.random.default_rng(trial)
        x = rng.normal(0, 0.3, (30, 1)) + rng.normal(0, between, n_seeds) + rng.normal(0, 0.2, (30, n_seeds))
        _, low, high = bootstrap_mean(x, n_boot=200, seed=trial)
        hits += low <= 0 <= high
        p.append(stats.paired_p(x, 0 * x))
    assert hits > 91 and np.sum(np.array(p) < 0.05) < 9 and np.sum(np.array(p) < 0.01) < 4


def test_paired_bootstrap_resamples_both_alike():
    a = table()
    b = a - 0.07
    assert paired_bootstrap(a, b, seed=1) == pytest.approx((0.07, 0.07, 0.07))
    assert paired_bootstrap(a, a) == stats.exact(0.0, len(a), -1.0)  # not alike on all there are
    noise = np.random.default_rng(9).normal(0, 0.01, a.shape)
    difference, low, high = paired_bootstrap(a + noise, a)
    assert low < difference < high and high - low < 0.02  # unpaired it would be about 0.2
    assert paired_bootstrap(a, a + noise) == pytest.approx((-difference, -high, -low))
    assert paired_bootstrap([1, 0, 1], [0, 0, 1], n_boot=500)[0] == pytest.approx(1 / 3)


def test_bootstrap_refuses():
    for bad in ([], [[]], [1, math.nan], np.zeros((2, 2, 2)), 1.0):
        with pytest.raises(HealError, match="scores"):
            bootstrap_mean(bad)
    with pytest.raises(HealError, match="n_boot"):
        bootstrap_mean([1, 2], n_boot=0)
    assert bootstrap_mean([1, 2], n_boot=1)[0] == 1.5
    with pytest.raises(HealError, match="shapes"):
        paired_bootstrap([1, 2], [1, 2, 3])
    with pytest.raises(HealError, match="shapes"):
        paired_bootstrap(np.zeros((3, 1)), np.zeros(3))  # would broadcast to 3 x 3


@given(labelled)
def test_auroc_against_all_pairs(rows):
    positives, negatives = [s for s, y in rows if y], [s for s, y in rows if not y]
    value = auroc([s for s, _ in rows], [y for _, y in rows])
    if not positives or not negatives:
        assert math.isnan(value)
    else:
        wins = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
        assert value == pytest.approx(sum(wins) / len(wins))


def test_auroc_by_hand():
    assert auroc([1, 2, 3, 4], [0, 0, 1, 1]) == 1
    assert auroc([4, 3, 2, 1], [0, 0, 1, 1]) == 0
    assert auroc([1, 1, 1], [0, 1, 1]) == 0.5
    assert auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auroc([1, 2, np.inf], [0, 0, 1]) == 1


def test_labels_without_an_oracle_are_refused():
    for metric in (auroc, average_precision):
        for labels in ([0, 1, -1], [0, 1], [0, 1, math.nan]):
            with pytest.raises(HealError, match="labels"):
                metric([1, 2, 3], labels)


@given(labelled)
def test_average_precision_against_its_definition(rows):
    scores, labels = np.array([s for s, _ in rows]), np.array([y for _, y in rows])
    value = average_precision(scores, labels)
    if not labels.any():
        assert math.isnan(value)
        return
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        recall = labels[chosen].sum() / labels.sum()
        total += labels[chosen].mean() * (recall - recall_before)
        recall_before = recall
    assert value == pytest.approx(total)


def test_average_precision_by_hand():
    assert average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision([1, 1, 1, 1], [1, 0, 0, 0]) == 0.25  # no information: the base rate
    for tied in (np.inf, -np.inf):  # infinite scores tie like others: inf - inf is not 0
        assert average_precision([tied, tied, 1], [1, 0, 0]) == (0.5 if tied > 0 else pytest.approx(1 / 3))
    assert auroc([np.inf, np.inf, 1], [1, 0, 0]) == 0.75


@pytest.mark.parametrize(("scores", "low", "high"), [
    (np.zeros((50, 3)), 0, 1 - 0.025 ** (1 / 50)), (np.ones(20), 0.025 ** (1 / 20), 1)])
def test_where_all_cells_agree_the_interval_is_exact(scores, low, high):
    """0 of 50 does not show that the share is 0: Clopper and Pearson's interval, with problems as the unit."""
    assert bootstrap_mean(scores) == pytest.approx((scores.flat[0], low, high))
    assert bootstrap_mean(scores, level=0.9)[1:] != pytest.approx((low, high))


def test_a_difference_between_agreeing_cells_has_an_exact_interval():
    ones, zeros, reach = np.ones(60), np.zeros(60), 1 - 0.025 ** (1 / 60)
    assert paired_bootstrap(zeros, zeros) == paired_bootstrap(ones, ones) == pytest.approx((0, -reach, reach))
    assert paired_bootstrap(ones, zeros) == pytest.approx((1, 1 - 2 * reach, 1))
    assert paired_bootstrap(zeros, ones) == pytest.approx((-1, -1, 2 * reach - 1))


def test_one_problem_says_nearly_nothing():
    reach = 1 - 0.025
    assert bootstrap_mean([0.0]) == pytest.approx((0, 0, reach)) and bootstrap_mean([1.0])[1] == pytest.approx(0.025)
    assert paired_bootstrap([1.0], [1.0]) == pytest.approx((0, -reach, reach))

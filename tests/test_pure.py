import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal_lib.errors import HealError
from heal_lib.pure import (
    aggregate,
    anomaly_plus,
    keep,
    step_ratio,
    uncertainty,
    uncertainty_among,
    uncertainty_at_steps,
)


def test_uncertainty_is_per_answer_token():
    assert uncertainty([math.log(2), math.log(8)]) == pytest.approx(math.log(4))
    assert uncertainty([[1.0, 3.0], [0.0, 0.0]]).tolist() == [2, 0]
    with pytest.raises(HealError, match="no answer tokens"):
        uncertainty([])


def test_uncertainty_among_candidates_is_what_the_right_one_has_of_them_all():
    third = np.log([[3.0, 6.0, 6.0], [3.0, 3.0, 3.0]])  # NLL of the right one first: likelihoods 1/3, 1/6, 1/6
    assert uncertainty_among(third) == pytest.approx([math.log(2), math.log(3)])
    assert uncertainty_among([0.0, 50.0]) == pytest.approx(0, abs=1e-9) and uncertainty_among([7.0]) == 0
    assert uncertainty_among([60.0, 10.0]) == pytest.approx(50)
    with pytest.raises(HealError, match="no candidate"):
        uncertainty_among([])


@given(st.lists(st.floats(0, 40), min_size=1, max_size=6), st.floats(0, 200))
def test_how_odd_an_answer_looks_here_falls_out(nll, odd):
    """A box that comes too early is unlikely, whatever stands in it: that is no uncertainty about the answer."""
    assert uncertainty_among(np.array(nll) + odd) == pytest.approx(uncertainty_among(nll), abs=1e-6)
    assert uncertainty_among(nll) >= 0


def test_uncertainty_before_and_after_the_step():
    curve = [3.0, 2.0, 0.0]  # before any step, after step 1, after step 2
    assert uncertainty_at_steps(curve).tolist() == [3, 2]
    assert uncertainty_at_steps(curve, "after").tolist() == [2, 0]
    with pytest.raises(HealError, match="before"):
        uncertainty_at_steps(curve, "during")


def test_step_ratio_by_hand():
    assert step_ratio([2.0, 2.0], [0.99, 0.0]) == pytest.approx([2, 200])
    assert step_ratio(3.0, 0.5, eps=0.5) == pytest.approx(3)


def test_a_surprise_is_suspect_only_where_the_answer_is_certain():
    surprise_while_open, routine_while_certain, surprise_while_certain = step_ratio(
        [5, 1, 5], [2, 0.05, 0.05]
    )
    assert surprise_while_certain > 3 * max(surprise_while_open, routine_while_certain)


@pytest.mark.parametrize(
    "args",
    [
        ([1.0], [-0.1]),
        ([1.0], [math.nan]),
        ([1.0, 2.0], [1.0]),
        ([1.0], [0.0], 0.0),
        ([math.inf], [math.inf]),
    ],
)
def test_step_ratio_refuses(args):
    with pytest.raises(HealError, match="ste|answer"):
        step_ratio(*args)


def test_aggregate_by_hand():
    r = [1, 9, 2, 3, 4]
    assert aggregate(r) == pytest.approx(3.8)
    assert aggregate(r, "max") == 9
    assert aggregate(r, "top3") == pytest.approx(16 / 3)
    assert aggregate([1, 2], "top3") == 1.5
    for bad in ([], [1, math.nan]):
        with pytest.raises(HealError, match="step ratios"):
            aggregate(bad)
    with pytest.raises(HealError, match="pure_aggregate"):
        aggregate(r, "median")


def test_keep_by_hand():
    assert keep([5, 1, 2, 9, 3]).tolist() == [True, True, True, False, True]
    assert keep([5, 1, 2, 9, 3], lam=0.4).tolist() == [False, True, True, False, True]
    assert keep([1, 1, 1, 1, 1], lam=0.4).tolist() == [True, True, True, False, False]  # ties: the later go
    assert keep([]).tolist() == []
    assert not keep([1, 2], lam=1).any() and keep([1, 2], lam=0).all()
    assert keep([0.1, 0.3, 0.2], lam=0.2, rule="threshold").tolist() == [True, False, True]


@pytest.mark.parametrize("lam", ["0.1", "0.2", "0.29", "0.3", "0.57", "0.7", "1"])
def test_share_dropped_is_exactly_the_floor(lam):
    for n in range(300):
        assert (~keep(np.arange(n), float(lam))).sum() == math.floor(Fraction(lam) * n)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_scale_of_the_scores_does_not_decide(scale):
    """Known wrong turn: a fixed threshold keeps all or nothing as the scale of the scores moves."""
    scores = scale * np.random.default_rng(0).lognormal(size=103)
    assert (~keep(scores)).sum() == 20
    threshold = keep(scores, lam=1.0, rule="threshold").mean()
    assert (threshold in (0, 1)) == (scale != 1.0)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc")), max_size=40),
    st.sampled_from([0, 0.1, 0.2, 0.5, 1]),
)
def test_pools_are_filtered_one_by_one(rows, lam):
    scores, pools = [r[0] for r in rows], [r[1] for r in rows]
    mask = keep(scores, lam, pools=pools)
    for pool in set(pools):
        members = [i for i, p in enumerate(pools) if p == pool]
        largest_first = sorted(members, key=lambda i: (-scores[i], -i))
        dropped = largest_first[: math.floor(Fraction(str(lam)) * len(members))]
        assert {i for i in members if not mask[i]} == set(dropped)


def test_small_pools_lose_nothing():
    assert keep([1, 2, 3, 4], pools=[0, 0, 0, 0]).all()
    assert (~keep(np.arange(10), pools=[0] * 5 + [1] * 5)).nonzero()[0].tolist() == [4, 9]


def test_keep_refuses():
    with pytest.raises(HealError, match="NaN"):
        keep([1, math.nan])
    for lam in (-0.1, 1.1, math.nan):
        with pytest.raises(HealError, match="pure_lambda"):
            keep([1, 2], lam)
    with pytest.raises(HealError, match="pure_lambda"):
        keep([1, 2], math.nan, rule="threshold")
    with pytest.raises(HealError, match="pure_rule"):
        keep([1, 2], rule="zscore")
    for pools in (["a"], [["a", "b"], ["a", "c"]]):
        with pytest.raises(HealError, match="pools"):
            keep([1, 2], pools=pools)


def test_pure_plus_by_hand():
    reading = {"n_steps": 2, "ppl": [math.e, math.e**2], "uncertainty": [5.0, 0.0, 3.0]}
    assert anomaly_plus(reading) == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert anomaly_plus({"n_steps": 0, "ppl": [], "uncertainty": [5.0]}) == math.inf  # all assertion


def test_pure_plus_sees_both_an_asserted_answer_and_a_false_step():
    derived = {"n_steps": 3, "ppl": [5, 1, 1], "uncertainty": [8, 9, 6, 0]}  # one open choice, then routine
    asserted = {"n_steps": 3, "ppl": [40, 1, 1], "uncertainty": [8, 0, 0, 0]}
    false_step = {"n_steps": 3, "ppl": [5, 30, 1], "uncertainty": [8, 9, 6, 0]}
    assert anomaly_plus(derived) < min(anomaly_plus(asserted), anomaly_plus(false_step)) / 2

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal_lib.errors import HealError
from heal_lib.gear import CUT_RULES, cut_position, eligible, find_breakpoint, given_breaks, kept_steps

entropies = st.lists(st.floats(0, 10), min_size=2, max_size=60)


def test_breakpoint_by_hand():
    #      step: 0  1  2  3    4    5  6  7  8   K = 9: indices 1 and 2 may break
    h = [0.1, 0.2, 0.9, 0.9, 5.0, 0.1, 0, 0, 0]
    assert find_breakpoint(h) == 2
    assert find_breakpoint(h, window=1) == 4
    assert find_breakpoint(h, window=0.5) == 4
    assert find_breakpoint(h, window=0.4) == 2


def test_breakpoint_of_short_trajectories():
    assert find_breakpoint([]) is None
    assert find_breakpoint([1.0]) is None
    for k in (2, 3, 4, 5, 6):  # ceil(6 / 3) - 1 = 1
        assert find_breakpoint(np.arange(k) ** 2) == 1
    assert find_breakpoint(np.arange(7) ** 2) == 2


def test_ties_go_to_the_earliest():
    assert find_breakpoint([0, 1, 1, 2, 2, 3], window=1) == 1
    assert find_breakpoint([1] * 12) == 1


def test_a_falling_trajectory_breaks_where_it_falls_least():
    assert find_breakpoint([9, 5, 4, 0, 0, 0, 0, 0, 0]) == 2


def test_value_surge_takes_the_entropy_itself():
    h = [9, 1, 4, 5] + [0] * 8  # the rises are -8, 3, 1; step 0 can never be the breakpoint
    assert find_breakpoint(h) == 2
    assert find_breakpoint(h, surge="value") == 3


@pytest.mark.parametrize(
    "window", [Fraction(1, 3), Fraction(2, 3), Fraction(1, 10), Fraction(7, 100), Fraction(1, 5)]
)
def test_window_is_exact_where_floats_are_not(window):
    for k in range(2, 400):  # strictly convex: the breakpoint is the last index of the window
        assert find_breakpoint(np.arange(k) ** 2.0, float(window)) == max(1, math.ceil(k * window) - 1)


@given(entropies, st.floats(0.01, 1))
def test_breakpoint_is_the_earliest_maximum_in_the_window(h, window):
    last = max(1, math.ceil(len(h) * window - 1e-9) - 1)
    best = max(range(1, last + 1), key=lambda i: (h[i] - h[i - 1], -i))
    assert find_breakpoint(h, window) == best


def test_token_window_counts_steps_that_begin_within_it():
    h = [0, 1, 3, 6, 10, 15]
    assert (
        find_breakpoint(h, window_unit="tokens", step_lengths=[1, 1, 1, 1, 1, 1]) == find_breakpoint(h) == 1
    )
    # 30 tokens, the first third is tokens 0..9: steps begin at 0, 2, 4, 9, 10, 20
    assert find_breakpoint(h, window_unit="tokens", step_lengths=[2, 2, 5, 1, 10, 10]) == 3
    assert find_breakpoint(h, window_unit="tokens", step_lengths=[50, 1, 1, 1, 1, 1]) == 1
    assert find_breakpoint(h, 1, window_unit="tokens", step_lengths=[1, 2, 3, 4, 5, 6]) == 5


def test_bad_switches_are_refused():
    for window in (0, -1, 1.01, math.nan):
        with pytest.raises(HealError, match="window"):
            find_breakpoint([1, 2], window)
    with pytest.raises(HealError, match="NaN"):
        find_breakpoint([1, math.nan, 2])
    with pytest.raises(HealError, match="one trajectory"):
        find_breakpoint([[1, 2], [3, 4]])
    with pytest.raises(HealError, match="surge"):
        find_breakpoint([1, 2], surge="nll")
    with pytest.raises(HealError, match="window_unit"):
        find_breakpoint([1, 2], window_unit="words")
    for lengths in (None, [1], [1, 0]):
        with pytest.raises(HealError, match="step_lengths"):
            find_breakpoint([1, 2], window_unit="tokens", step_lengths=lengths)


def test_kept_steps():
    assert [kept_steps(i) for i in (None, 0, 1, 2, 5)] == [0, 0, 0, 1, 4]
    assert [kept_steps(3, backoff=b) for b in (0, 1, 2, 9)] == [3, 2, 1, 0]
    with pytest.raises(HealError, match="backoff"):
        kept_steps(3, backoff=-1)


def test_one_based_formula_of_the_method():
    for k_star in range(2, 9):
        for b in range(3):
            assert kept_steps(k_star - 1, b) == max(0, k_star - 1 - b)


def test_the_breakpoint_decides_the_cut():
    """Known wrong turn: a breakpoint that is found and then not used."""
    early, late = [0, 5, 5, 5] + [5] * 8, [0, 0, 0, 5] + [5] * 8
    assert cut_position("entropy", early) == 0
    assert cut_position("entropy", late) == 2
    assert cut_position("entropy", late, backoff=0) == find_breakpoint(late) == 3


def test_cut_rules_by_hand():
    h = [9, 1, 4, 5] + [0] * 8
    assert cut_position("entropy", h) == 1
    assert cut_position("value", h) == 2
    assert cut_position("middle", h) == 6
    assert cut_position("start", h) == 0
    assert cut_position("entropy", h, window_unit="tokens", step_lengths=[9] + [1] * 11) == 0
    for rule in CUT_RULES:
        assert cut_position(rule, [1.0], rng=np.random.default_rng(0), at=0) == 0
        whole = 0 if rule == "start" else 1  # of two steps the second may be the breakpoint
        assert cut_position(rule, [1.0, 2.0], rng=np.random.default_rng(0), at=1, backoff=0) == whole


def test_rules_that_are_given_a_break():
    h = [9, 1, 4, 5] + [0] * 8  # 12 steps; GEAR itself would keep 1
    # what stands before the break
    assert [cut_position("oracle", h, at=i) for i in (0, 3, 11, 30, None)] == [0, 3, 11, 11, 11]
    assert cut_position("oracle", h, at=5, backoff=2) == 5
    for rule in ("fixed", "permuted"):
        assert [cut_position(rule, h, at=i) for i in (None, 1, 4, 30)] == [0, 0, 3, 10]  # one step back
        assert cut_position(rule, h, at=4, backoff=0) == 4


def test_what_each_rule_is_given():
    found, breaks = [3, 1, None, 2, 5, 1, 4, 4], [7, None, 0, 1, 2, 3, 4, 5]
    assert given_breaks("oracle", found, breaks) == breaks
    assert given_breaks("fixed", found) == [3] * 8  # of 1 1 2 3 4 4 5
    assert given_breaks("fixed", [4, 1]) == [1, 1] and given_breaks("fixed", [None]) == [None]
    assert given_breaks("start", found) == [None] * 8
    dealt = given_breaks("permuted", found, seed=1)
    assert sorted(dealt, key=str) == sorted(found, key=str) and dealt == given_breaks("permuted", found, seed=1)
    assert len({tuple(given_breaks("permuted", found, seed=s)) for s in range(5)}) > 1


def test_random_in_the_text_is_uniform_over_all_of_it_and_ignores_the_window():
    rng = np.random.default_rng(0)
    draws = [cut_position("random-text", np.zeros(6), rng=rng) for _ in range(4000)]
    counts = np.bincount(draws)  # steps 1..5 may be the breakpoint, one step back
    assert len(counts) == 5 and (abs(counts - 800) < 130).all()


def test_random_cut_is_uniform_over_the_same_window_and_seeded():
    h = np.zeros(15)  # the window is steps 1..4, so with one step back 0..3 stay
    draws = [cut_position("random", h, rng=rng) for rng in [np.random.default_rng(0)] for _ in range(4000)]
    counts = np.bincount(draws)
    assert len(counts) == 4 and (abs(counts - 1000) < 150).all()
    assert cut_position("random", h, rng=np.random.default_rng(7)) == cut_position(
        "random", h, rng=np.random.default_rng(7)
    )


def test_cut_rule_errors():
    for rule in ("random", "random-text"):
        with pytest.raises(HealError, match="rng"):
            cut_position(rule, [1, 2, 3])
    with pytest.raises(HealError, match="cut rule"):
        cut_position("best", [1, 2, 3])


def test_eligible():
    assert [bool(eligible(c)) for c in (0, 1, 2, 30)] == [True, True, False, False]
    assert eligible([0, 3, 5], max_correct=3).tolist() == [True, True, False]


def test_gates_of_hint_and_repair_differ():
    """Known wrong turn: pass@30 as a yes/no makes the Hint gate and the Repair gate the same."""
    c = np.arange(31)
    hint, repair = c / 30 < 0.5, eligible(c)
    assert hint.sum() == 15 and repair.sum() == 2

"""Shares whose wholes differ between problems and seeds."""

import numpy as np
import pytest

from heal_lib.errors import HealError
from heal_lib.stats import bootstrap_mean, bootstrap_share, cell_shares


def test_of_equal_wholes_a_share_is_a_mean():
    part = np.random.default_rng(0).integers(0, 5, (30, 4))
    assert bootstrap_share(part, np.full((30, 4), 4)) == pytest.approx(bootstrap_mean(part / 4))


def test_what_problems_or_seeds_alone_vary_by_is_in_the_interval():
    whole = np.tile([[1.0, 4.0]], (20, 1))
    by_problem = np.repeat([0.0, 1.0], 10)[:, None] * whole
    for part in (by_problem, whole * [1.0, 0.0]):
        share, low, high = bootstrap_share(part, whole)
        assert 0 <= low < share == part.sum() / whole.sum() < high <= 1
    assert bootstrap_share(whole * [1.0, 0.0], whole)[1] == 0  # a share, whatever a resample of few seeds says


def test_cells_have_the_share_as_their_mean_and_those_without_a_whole_leave_it_alone():
    part, whole = np.array([[1.0, -1], [1, 0]]), np.array([[1.0, 1], [1, 0]])
    assert cell_shares(part, whole).mean() == pytest.approx(1 / 3) and cell_shares(part, whole)[1, 1] == 1 / 3


def test_an_empty_whole_is_nan_and_a_full_or_empty_share_exact():
    assert np.isnan(bootstrap_share(np.zeros((3, 2)), np.zeros((3, 2)))).all()
    whole = np.array([[1.0, 2.0], [0.0, 3.0], [0.0, 0.0]])
    reach = 1 - 0.025 ** (1 / 2)  # the third problem has no whole
    assert bootstrap_share(0 * whole, whole) == pytest.approx((0, 0, reach))
    assert bootstrap_share(whole, whole) == pytest.approx((1, 1 - reach, 1))


def test_a_part_larger_than_its_whole_is_refused():
    with pytest.raises(HealError, match="parts of wholes"):
        bootstrap_share([[2.0]], [[1.0]])

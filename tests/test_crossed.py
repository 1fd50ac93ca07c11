"""Draws crossed with networks: Clark's min F' against scipy's tests, its limits, and how often it is wrong."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mddes.studies.crossed import Grid, compare_grids, spreads, summarise_grid
from mddes.studies.statistics import compare_pairs, summarise

RANDOM = np.random.default_rng(0)


def grid(values: NDArray[np.float64]) -> Grid:
    return {(j, s): float(values[j, s]) for j in range(values.shape[0]) for s in range(values.shape[1])}


def test_it_is_min_f() -> None:
    """F by draws and F by networks are scipy's paired tests of the means."""
    first, second = RANDOM.normal(0.6, 0.1, (4, 6)), RANDOM.normal(0.4, 0.1, (4, 6))
    f1 = stats.ttest_rel(first.mean(1), second.mean(1)).statistic ** 2
    f2 = stats.ttest_rel(first.mean(0), second.mean(0)).statistic ** 2
    df = (f1 + f2) ** 2 / (f1**2 / 5 + f2**2 / 3)
    found = compare_grids(grid(first), grid(second))
    assert found
    assert found.p == pytest.approx(stats.f.sf(f1 * f2 / (f1 + f2), 1, df), rel=1e-9)
    assert (found.n, found.draws, found.pairs) == (24, 4, "4 x 6")
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert found.low is not None
    assert found.high is not None
    half = stats.t.ppf(0.975, df) * abs(found.difference) / math.sqrt(f1 * f2 / (f1 + f2))
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half))


def test_one_draw_is_the_paired_test() -> None:
    first, second = RANDOM.normal(0.6, 0.1, (1, 6)), RANDOM.normal(0.4, 0.1, (1, 6))
    assert compare_grids(grid(first), grid(second)) == compare_pairs(first[0].tolist(), second[0].tolist())
    assert summarise_grid(grid(first)) == summarise(first[0].tolist())
    assert spreads(grid(first)) is None


def test_a_single_poison_is_paired_with_every_draw() -> None:
    many, one = RANDOM.normal(0.6, 0.1, (3, 5)), RANDOM.normal(0.4, 0.1, (1, 5))
    assert compare_grids(grid(many), grid(one)) == compare_grids(grid(many), grid(np.repeat(one, 3, axis=0)))


def test_networks_that_do_not_differ_leave_the_test_of_the_draws() -> None:
    """And the other way round; and one network is no spread of networks."""
    draws = RANDOM.normal(0.1, 0.1, 5)
    zero = np.zeros((5, 4))
    by_draw = compare_grids(grid(np.repeat(draws[:, None], 4, axis=1)), grid(zero))
    assert by_draw
    assert by_draw.p == pytest.approx(stats.ttest_1samp(draws, 0).pvalue)
    by_network = compare_grids(grid(np.repeat(draws[None], 4, axis=0)), grid(zero.T))
    assert by_network
    assert by_network.p == pytest.approx(by_draw.p)
    single = compare_grids(grid(draws[:, None]), grid(zero[:, :1]))
    assert single
    assert single.p == pytest.approx(by_draw.p)
    assert single.n == 5
    assert by_draw.effect == pytest.approx(draws.mean() / draws.std(ddof=1))


def test_the_interval_of_a_row_counts_both_spreads() -> None:
    """Against a constant: the test of the row itself."""
    values = RANDOM.normal(0.6, 0.1, (3, 5))
    row, against = summarise_grid(grid(values)), compare_grids(grid(values), grid(np.zeros((1, 5))))
    assert against
    assert (row.low, row.high) == pytest.approx((against.low, against.high))
    assert row.n == 15
    assert (row.mean, row.std) == pytest.approx((values.mean(), values.std(ddof=1)))
    found = spreads(grid(values))
    assert found
    assert found.means == pytest.approx(values.mean(1))
    assert (found.draws, found.networks) == pytest.approx((values.mean(1).std(ddof=1), values.mean(0).std(ddof=1)))


def test_a_training_that_failed_takes_its_network_out_of_every_draw() -> None:
    values, other = RANDOM.normal(0.6, 0.1, (3, 5)), RANDOM.normal(0.4, 0.1, (3, 5))
    torn = {place: value for place, value in grid(values).items() if place != (1, 2)}
    left = [0, 1, 3, 4]
    assert compare_grids(torn, grid(other)) == compare_grids(grid(values[:, left]), grid(other[:, left]))
    assert summarise_grid(torn).mean == pytest.approx(values[:, left].mean())
    assert compare_grids({(0, 0): 0.5}, {(0, 1): 0.5}) is None
    with pytest.raises(ValueError, match="3 and 2 draws"):
        compare_grids(grid(values), grid(other[:2]))


def test_no_spread_is_no_test() -> None:
    found = compare_grids(grid(np.full((3, 4), 0.75)), grid(np.full((3, 4), 0.5)))
    assert found
    assert (found.difference, found.p, found.effect) == (0.25, None, None)


@pytest.mark.parametrize(("draws_sd", "networks_sd"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_it_is_wrong_no_more_often_than_it_says(draws_sd: float, networks_sd: float) -> None:
    """Where two kinds do not differ, but searches and networks do, a test that counts only one of them is misled."""
    random = np.random.default_rng(1)
    runs, draws, networks = 1000, 5, 4
    wrong = single = 0
    for _ in range(runs):
        apart = random.normal(0, draws_sd, (draws, 1)) + random.normal(0, networks_sd, (1, networks))
        apart = apart + random.normal(0, 0.5, (draws, networks))
        found = compare_grids(grid(apart), grid(np.zeros((1, networks))))
        assert found
        assert found.p is not None
        wrong += found.p < 0.05
        pooled = stats.ttest_1samp(apart.ravel(), 0).pvalue
        single += pooled < 0.05
    assert wrong / runs < 0.065, "0.05, and two standard deviations of 1000 runs"
    if draws_sd or networks_sd:
        assert single / runs > 0.15, "all trainings taken for independent"

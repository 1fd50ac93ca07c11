"""Searches crossed with networks: Clark's F by search and by network, the limits, and how often the test is wrong."""

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mddes.studies.crossed import Grid, compare_grids, spreads, summarise_grid, whole
from mddes.studies.statistics import Comparison, compare_pairs, summarise

RANDOM = np.random.default_rng(0)


def grid(values: NDArray[np.float64], *without: tuple[int, int]) -> Grid:
    there = [place for place in np.ndindex(values.shape) if place not in without]
    return Grid({(j, s): float(values[j, s]) for j, s in there}, len(values))


def row(values: NDArray[np.float64]) -> Grid:
    return Grid({(0, s): float(value) for s, value in enumerate(values)})


def compare(first: Grid, second: Grid) -> Comparison:
    found = compare_grids(first, second)
    assert found
    return found


def test_it_is_min_f() -> None:
    """F by search and F by network are scipy's paired tests of the means; df is the smaller of theirs."""
    first, second = RANDOM.normal(0.6, 0.1, (4, 6)), RANDOM.normal(0.4, 0.1, (4, 6))
    f1 = stats.ttest_rel(first.mean(1), second.mean(1)).statistic ** 2
    f2 = stats.ttest_rel(first.mean(0), second.mean(0)).statistic ** 2
    found = compare(grid(first), grid(second))
    assert found.p == pytest.approx(stats.f.sf(f1 * f2 / (f1 + f2), 1, 3), rel=1e-9)
    assert (found.n, found.draws, found.pairs) == (24, 4, "4 x 6")
    assert found.difference == pytest.approx(first.mean() - second.mean())
    half = stats.t.ppf(0.975, 3) * abs(found.difference) / math.sqrt(f1 * f2 / (f1 + f2))
    assert found.low is not None
    assert found.high is not None
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half))
    assert found.effect == pytest.approx(found.difference / (first - second).std(ddof=1))


def test_rows_of_one_training_for_each_network_are_compared_as_ever() -> None:
    first, second = RANDOM.normal(0.6, 0.1, 6), RANDOM.normal(0.4, 0.1, 6)
    assert compare(row(first), row(second)) == compare_pairs(first.tolist(), second.tolist())
    assert summarise_grid(row(first)) == summarise(first.tolist())
    assert spreads(row(first)) is None
    assert compare_grids(Grid({(0, 0): 0.5}), Grid({(0, 1): 0.5})) is None


def test_such_a_row_stands_beside_every_search() -> None:
    many, one = RANDOM.normal(0.6, 0.1, (3, 5)), RANDOM.normal(0.4, 0.1, 5)
    beside = compare(grid(many), row(one))
    assert beside == compare(grid(many), grid(np.repeat(one[None], 3, axis=0)))
    turned = compare(row(one), grid(many))
    assert turned.difference == pytest.approx(-beside.difference)
    assert turned.p == pytest.approx(beside.p)


def test_one_side_without_spread_leaves_the_test_of_the_other() -> None:
    values, zero = RANDOM.normal(0.1, 0.1, 5), np.zeros((5, 5))
    expected = stats.ttest_1samp(values, 0).pvalue
    assert compare(grid(np.repeat(values[:, None], 5, axis=1)), grid(zero)).p == pytest.approx(expected)
    assert compare(grid(np.repeat(values[None], 5, axis=0)), grid(zero)).p == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_of_one_search_or_one_network_there_is_no_test(shape: tuple[int, int]) -> None:
    values = RANDOM.normal(0.6, 0.1, shape)
    found = compare(grid(values), grid(np.zeros(shape)))
    assert found.difference == pytest.approx(values.mean())
    assert (found.low, found.high, found.p, found.effect) == (None, None, None, None)
    assert (summarise_grid(grid(values)).low, summarise_grid(grid(values)).high) == (None, None)


def test_the_interval_of_a_row_counts_both_spreads() -> None:
    """Against a constant: the test of the row itself."""
    values = RANDOM.normal(0.6, 0.1, (3, 5))
    own, against = summarise_grid(grid(values)), compare(grid(values), row(np.zeros(5)))
    assert own.low is not None
    assert against.low is not None
    assert (own.low, own.high) == pytest.approx((against.low, against.high))
    assert own.n == 15
    assert (own.mean, own.std) == pytest.approx((values.mean(), values.std(ddof=1)))
    found = spreads(grid(values))
    assert found
    assert found.means == pytest.approx(values.mean(1))
    assert found.draws == pytest.approx(values.mean(1).std(ddof=1))
    assert found.within == pytest.approx(math.sqrt(np.mean([v.var(ddof=1) for v in values])))


def test_a_training_that_failed_takes_out_its_network_or_its_search() -> None:
    values, other = RANDOM.normal(0.6, 0.1, (3, 5)), RANDOM.normal(0.4, 0.1, (3, 5))
    one = whole(grid(values, (1, 2)))
    assert {s for _, s in one.values} == {0, 1, 3, 4}, "twelve trainings are left, and ten without the search"
    left = [0, 1, 3, 4]
    expected = compare(grid(values[:, left]), grid(other[:, left]))
    assert compare(one, grid(other)) == compare(grid(values, (1, 2)), grid(other)) == expected
    three = whole(grid(values, (1, 0), (1, 1), (1, 2)))
    assert {j for j, _ in three.values} == {0, 2}
    assert compare(three, grid(other)) == compare(grid(values[[0, 2]]), grid(other[[0, 2]]))
    assert whole(row(values[0])) == row(values[0])


def test_a_search_of_which_nothing_is_left_pairs_no_other() -> None:
    values, other = RANDOM.normal(0.6, 0.1, (3, 1)), RANDOM.normal(0.4, 0.1, (3, 1))
    found = compare(grid(values, (1, 0)), grid(other))
    assert found.difference == pytest.approx(np.mean(values[[0, 2]] - other[[0, 2]]))
    assert (found.pairs, found.p) == ("2 x 1", None)
    fewer = dataclasses.replace(grid(other[:2]), draws=2)
    assert compare(grid(values), fewer).difference == pytest.approx(np.mean(values[:2] - other[:2]))
    nothing = grid(np.ones((2, 2)), (0, 1), (1, 0))
    assert whole(nothing).values == {}
    assert compare_grids(nothing, grid(np.ones((2, 2)))) is None
    assert whole(Grid({}, 3)).values == {}


def test_no_spread_is_no_test() -> None:
    found = compare(grid(np.full((3, 4), 0.75)), grid(np.full((3, 4), 0.5)))
    assert (found.difference, found.low, found.p, found.effect) == (0.25, 0.25, None, None)


@pytest.mark.parametrize("shape", [(2, 6), (5, 2), (5, 4)])
@pytest.mark.parametrize(("draws_sd", "networks_sd"), [(1.0, 0.3), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_it_is_wrong_no_more_often_than_it_says(shape: tuple[int, int], draws_sd: float, networks_sd: float) -> None:
    """Where two kinds do not differ, but searches and networks do."""
    random, runs = np.random.default_rng(1), 800
    wrong = single = 0
    for _ in range(runs):
        apart = random.normal(0, draws_sd, (shape[0], 1)) + random.normal(0, networks_sd, (1, shape[1]))
        apart = apart + random.normal(0, 0.3, shape)
        p = compare(grid(apart), row(np.zeros(shape[1]))).p
        assert p is not None
        wrong += p < 0.05
        single += stats.ttest_1samp(apart.ravel(), 0).pvalue < 0.05
    assert wrong / runs < 0.067, "0.05, and two standard deviations of 800 runs"
    if draws_sd or networks_sd:
        assert single / runs > 0.15, "all trainings taken for independent"

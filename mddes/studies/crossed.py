"""Searches crossed with networks: every network is trained on what every search found.

What a table says of MDD-ES must hold for another search and for another network, so a comparison counts both. With the
differences averaged over networks there is one for each search, averaged over searches one for each network; the
squared standard errors of the two are added, as in Clark's min F' (1973), which counts the spread that is left beside
both twice. Degrees of freedom are those of the shorter side, not Clark's, which are too many where two or three
searches happen to agree (`tests/test_crossed.py`). Of one search, or one network, there is no test: nothing is known of
another.

A row that is not searched for has one value for each network (`draws` is None); two of those are compared as ever
(`statistics.compare_pairs`), and one of them stands beside every search of another row.

Clark, H. H. (1973). The language-as-fixed-effect fallacy. Journal of Verbal Learning and Verbal Behavior 12, 335-359.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mddes.studies.statistics import CONFIDENCE, ROUNDING, Comparison, Summary, compare_pairs, summarise

Place = tuple[int, int]  # search (0 where there is one), network


@dataclass(frozen=True)
class Grid:
    """The accuracies of a row.

    Attributes:
        values: by search and network; trainings that failed are missing.
        draws: how many searches there are; None where a network has one training.
    """

    values: Mapping[Place, float]
    draws: int | None = None


@dataclass(frozen=True)
class Spreads:
    """What a row of several searches says of each.

    Attributes:
        means: of each search, over the networks.
        networks: how many these are.
        draws: standard deviation (n - 1) of the means.
        within: standard deviation of networks within a search, pooled over the searches; None of a single network.
    """

    means: tuple[float, ...]
    networks: int
    draws: float
    within: float | None


def whole(grid: Grid) -> Grid:
    """Return the row without the searches, or without the networks, of which a training failed: what loses less."""
    if grid.draws is None or len(grid.values) == 0:
        return grid
    draws, networks = ({place[side] for place in grid.values} for side in (0, 1))
    by_network = {s for s in networks if all((draw, s) in grid.values for draw in draws)}
    by_draw = {draw for draw in draws if all((draw, s) in grid.values for s in networks)}
    if len(by_draw) * len(networks) > len(by_network) * len(draws):
        return Grid({place: value for place, value in grid.values.items() if place[0] in by_draw}, grid.draws)
    return Grid({place: value for place, value in grid.values.items() if place[1] in by_network}, grid.draws)


def summarise_grid(grid: Grid) -> Summary:
    """Return n, mean and standard deviation of all values, and the interval of the mean that counts both sides.

    Of one search, of one network and of a grid with holes there is no interval.

    Raises:
        ValueError: no values.
    """
    plain = summarise(list(grid.values.values()))
    if grid.draws is None:
        return plain
    values = _matrix(grid.values)
    half = None if values is None else _half(values)
    low, high = (None, None) if half is None else (plain.mean - half, plain.mean + half)
    return replace(plain, low=low, high=high)


def spreads(grid: Grid) -> Spreads | None:
    """Return what searches differ by, and networks; None where there are no several searches on the same networks."""
    values = None if grid.draws is None else _matrix(grid.values)
    if values is None or len(values) < 2:
        return None
    means, networks = values.mean(1), values.shape[1]
    within = float(math.sqrt(values.var(axis=1, ddof=1).mean())) if networks > 1 else None
    return Spreads(tuple(means.tolist()), networks, float(means.std(ddof=1)), within)


def compare_grids(first: Grid, second: Grid) -> Comparison | None:
    """Compare two rows; None where they have no network, or no search, in common.

    Search j of one is paired with search j of the other, and with the one training that another row has for a network.
    Of one search, or of one network, the comparison has no interval and no p.
    """
    if first.draws is None and second.draws is None:
        both = sorted(first.values.keys() & second.values.keys())
        return compare_pairs([first.values[p] for p in both], [second.values[p] for p in both]) if both else None
    apart = _matrix(whole(Grid(_differences(first, second), first.draws or second.draws)).values)
    if apart is None:
        return None
    draws, n, difference = len(apart), apart.size, float(apart.mean())
    half = _half(apart)
    if half is None:
        return Comparison(n, difference, None, None, None, None, draws=draws)
    error = _error(apart)
    if error == 0:
        return Comparison(n, difference, difference, difference, None, None, draws=draws)
    p = float(2 * stats.t.sf(abs(difference) / error, min(apart.shape) - 1))
    effect = difference / float(apart.std(ddof=1))
    return Comparison(n, difference, difference - half, difference + half, p, effect, draws=draws)


def _differences(first: Grid, second: Grid) -> dict[Place, float]:
    places = first.values if first.draws is not None else second.values
    found = {}
    for draw, s in places:
        a, b = (grid.values.get((0 if grid.draws is None else draw, s)) for grid in (first, second))
        if a is not None and b is not None:
            found[draw, s] = a - b
    return found


def _matrix(values: Mapping[Place, float]) -> NDArray[np.float64] | None:
    """Return (searches, networks); None of nothing, or of a grid with holes."""
    draws, networks = (sorted({place[side] for place in values}) for side in (0, 1))
    if not values or len(values) != len(draws) * len(networks):
        return None
    return np.array([[values[draw, s] for s in networks] for draw in draws])


def _error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean that counts searches and networks."""
    squares = [float(side.var(ddof=1)) / len(side) for side in (values.mean(1), values.mean(0))]
    return math.sqrt(sum(square for square in squares if square > ROUNDING**2))


def _half(values: NDArray[np.float64]) -> float | None:
    """Return half of the 95 % interval of the mean; None of one search or one network."""
    if min(values.shape) < 2:
        return None
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, min(values.shape) - 1)) * _error(values)

"""Poisons drawn several times, networks trained several times, crossed: every network is trained on every draw.

"Draws" are independent searches, or draws of a random poison. What a table says of MDD-ES must hold for another search
and for another network, so both spreads count. Clark (1973) gives the test for it, min F': with F_1 of the differences
by draw (each a mean over the networks) and F_2 by network, min F' = F_1 F_2 / (F_1 + F_2), on one and
(F_1 + F_2)^2 / (F_1^2 / df_2 + F_2^2 / df_1) degrees of freedom. In standard errors: the squares of the two are added.
That counts the spread that is left beside both twice, so the test is on the safe side. A row of one poison is a grid of
one draw; two of those are compared as ever (`statistics.compare_pairs`).

Clark, H. H. (1973). The language-as-fixed-effect fallacy. Journal of Verbal Learning and Verbal Behavior 12, 335-359.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mddes.studies.statistics import CONFIDENCE, ROUNDING, Comparison, Summary, compare_pairs, summarise

Grid = Mapping[tuple[int, int], float]  # (draw, network) -> value


@dataclass(frozen=True)
class Spreads:
    """What a grid of several draws says of each.

    Attributes:
        means: of each draw, over the networks.
        count: how many networks those are.
        draws: standard deviation (n - 1) of the means.
        networks: that of the means of each network, over the draws; None of a single network.
    """

    means: tuple[float, ...]
    count: int
    draws: float
    networks: float | None


def summarise_grid(grid: Grid) -> Summary:
    """Return n, mean and sd of all values, and the interval of the mean that counts draws and networks.

    Raises:
        ValueError: no values.
    """
    whole = summarise(list(grid.values()))
    values = _matrix(grid, _networks(grid))
    if values.shape[0] == 1 or not values.size:
        return whole
    half = _half(values)
    mean = float(values.mean())
    return replace(summarise(values.ravel().tolist()), low=mean - half, high=mean + half)


def spreads(grid: Grid) -> Spreads | None:
    """Return the means of the draws, and what draws and networks differ by; None of a single draw, or of no values."""
    values = _matrix(grid, _networks(grid))
    if values.shape[0] < 2 or not values.size:
        return None
    networks = float(values.mean(0).std(ddof=1)) if values.shape[1] > 1 else None
    means = values.mean(1)
    return Spreads(tuple(means.tolist()), values.shape[1], float(means.std(ddof=1)), networks)


def compare_grids(first: Grid, second: Grid) -> Comparison | None:
    """Compare two rows on the networks that both have in every draw; None if there is no such network.

    Draw j of one is paired with draw j of the other; a row of one poison is paired with all draws of the other.

    Raises:
        ValueError: rows of several draws each, and not of as many.
    """
    networks = _networks(first) & _networks(second)
    if not networks:
        return None
    a, b = _matrix(first, networks), _matrix(second, networks)
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise ValueError(f"rows of {len(a)} and {len(b)} draws cannot be paired")
    apart = a - b
    draws, networks_left = apart.shape
    if draws == 1:
        return compare_pairs(a[0].tolist(), b[0].tolist())
    difference, n = float(apart.mean()), draws * networks_left
    squares, df = _error(apart)
    if squares == 0:
        return Comparison(n, difference, difference, difference, None, None, draws=draws)
    error = math.sqrt(squares)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, df)) * error
    p = float(2 * stats.t.sf(abs(difference) / error, df))
    spread = math.sqrt(sum(means.var(ddof=1) for means in (apart.mean(0), apart.mean(1)) if len(means) > 1))
    return Comparison(n, difference, difference - half, difference + half, p, difference / spread, draws=draws)


def _networks(grid: Grid) -> set[int]:
    """Return the networks that every draw has; a training that failed takes its network out."""
    draws = {draw for draw, _ in grid}
    return {s for _, s in grid if all((draw, s) in grid for draw in draws)}


def _matrix(grid: Grid, networks: set[int]) -> NDArray[np.float64]:
    """Return the values (draws, networks)."""
    return np.array([[grid[draw, s] for s in sorted(networks)] for draw in sorted({draw for draw, _ in grid})])


def _error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the squared standard error of the mean of (draws, networks), draws and networks counted, and its df."""
    means = [side for side in (values.mean(1), values.mean(0)) if len(side) > 1]
    squares = [float(side.var(ddof=1)) / len(side) for side in means]
    squares = [square if square > ROUNDING**2 else 0.0 for square in squares]
    total = sum(squares)
    if total == 0:
        return 0.0, math.inf
    parts = sum(square**2 / (len(side) - 1) for square, side in zip(squares, means, strict=True))
    return total, total**2 / parts


def _half(values: NDArray[np.float64]) -> float:
    """Return half of the 95 % interval of the mean."""
    squares, df = _error(values)
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, df)) * math.sqrt(squares) if squares else 0.0

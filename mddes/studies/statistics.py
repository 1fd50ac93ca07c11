"""What a row of accuracies says, and whether two rows differ: n, spread, intervals, paired tests, effect sizes.

Rows of a study are paired: network s of every row has the same initial weights and batch order, so a difference is
tested within pairs. Several comparisons in one table are corrected together (Holm 1979). All arithmetic is scipy's but
the correction, which scipy lacks.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8
ROUNDING = 1e-12  # equal numbers differ by so much when they are subtracted; accuracies differ by 1 / images


@dataclass(frozen=True)
class Summary:
    """Of n values: mean, standard deviation (n - 1) and the 95 % interval of the mean (Student's t); None for n = 1."""

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of n pairs.

    Attributes:
        n: pairs.
        draws: of several searches on each network (`crossed`), how many; n is searches times networks.
        difference: mean of first - second.
        low, high: 95 % interval of it; None for a single pair.
        p: two-sided, of Student's paired t-test; None where it cannot be computed (one pair, or no spread at all).
        effect: Cohen's d_z, the mean difference over the standard deviation of all n differences; None without spread.
        p_holm: p corrected for all comparisons of the table.
    """

    n: int
    difference: float
    low: float | None
    high: float | None
    p: float | None
    effect: float | None
    p_holm: float | None = None
    draws: int | None = None

    @property
    def pairs(self) -> str:
        """How many, in words: "5", or "3 x 5" of three searches on five networks."""
        return str(self.n) if self.draws is None else f"{self.draws} x {self.n // self.draws}"


def summarise(values: Sequence[float]) -> Summary:
    """Return what a row of values says.

    >>> summarise([0.5, 0.7]).mean, summarise([0.5]).std
    (0.6, None)
    """
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Summary(n, mean, None, None, None)
    std = float(np.std(values, ddof=1))
    std = 0.0 if std < ROUNDING else std
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half)


def compare_pairs(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compare two rows pair by pair.

    Raises:
        ValueError: rows of different length, or empty ones.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"pairs need two rows of one length, not {len(first)} and {len(second)}")
    apart = np.subtract(first, second)
    summary = summarise(apart.tolist())
    if summary.std is None or summary.std == 0:
        return Comparison(summary.n, summary.mean, summary.low, summary.high, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nearly equal differences lose precision, as they must
        p = float(stats.ttest_rel(first, second).pvalue)
    return Comparison(summary.n, summary.mean, summary.low, summary.high, p, summary.mean / summary.std)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's step-down correction: the i-th smallest of m times (m - i + 1), monotone, at most 1.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    ranked = sorted(p_values.items(), key=lambda item: item[1])
    for i, (name, p) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - i) * p))
        corrected[name] = largest
    return corrected


def welch(first: Summary, second: Summary) -> float | None:
    """Return the two-sided p of Welch's t-test of two means, from n, mean and std alone; None without spread.

    >>> sam, adaptive = Summary(5, 92.95, 1.0, None, None), Summary(5, 94.05, 0.7, None, None)
    >>> round(welch(adaptive, sam), 3)
    0.083
    """
    if not (first.std and second.std):
        return None
    parts = [(s.mean, s.std, s.n) for s in (first, second)]
    return float(stats.ttest_ind_from_stats(*parts[0], *parts[1], equal_var=False).pvalue)


def kendall(first: Sequence[float | None], second: Sequence[float | None]) -> tuple[float | None, int]:
    """Return Kendall's tau-b of the pairs in which no value is missing (None or NaN), and how many those are.

    None where it is undefined: fewer than two pairs, or a side without two different values. There is no p here: it
    would take the pairs for independent draws.

    >>> kendall([1, 2, 3, 4], [1, 2, 4, None]), kendall([1, 2], [3, 3])
    ((1.0, 3), (None, 2))

    Raises:
        ValueError: rows of different length.
    """
    if len(first) != len(second):
        raise ValueError(f"pairs need two rows of one length, not {len(first)} and {len(second)}")
    x, y = np.array([first, second], dtype=float).reshape(2, -1)
    there = ~(np.isnan(x) | np.isnan(y))
    x, y = x[there], y[there]
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return None, len(x)
    tau = float(stats.kendalltau(x, y).statistic)
    return max(-1.0, min(1.0, tau)), len(x)


def detectable_effect(n: int, power: float = POWER) -> float | None:
    """Return the least Cohen's d_z that a two-sided paired t-test of n pairs at 0.05 finds with that power.

    >>> round(detectable_effect(30), 2), round(detectable_effect(5), 2)
    (0.53, 1.68)
    """
    if n < 2:
        return None
    critical = stats.f.ppf(CONFIDENCE, 1, n - 1)  # t squared: scipy's noncentral F is stable where its t is not

    def short(effect: float) -> float:
        return float(stats.ncf.sf(critical, 1, n - 1, n * effect**2)) - power

    return float(optimize.brentq(short, 1e-3, 100.0))


def compare_spreads(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Return std(first) / std(second) and the p of their equality, pair by pair; None without spread, or of two pairs.

    Pitman (1939) and Morgan (1939): variances are equal where sums and differences of the pairs are uncorrelated.
    """
    spreads = [summarise(values).std for values in (first, second)]
    apart, sums = np.subtract(first, second), np.add(first, second)
    if len(first) < 3 or not all(spreads) or not summarise(apart.tolist()).std or not summarise(sums.tolist()).std:
        return None
    assert spreads[0] is not None
    assert spreads[1] is not None
    return spreads[0] / spreads[1], float(stats.pearsonr(sums, apart).pvalue)

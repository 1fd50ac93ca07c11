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
from scipy import stats

CONFIDENCE = 0.95
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
        difference: mean of first - second.
        low, high: 95 % interval of it; None for a single pair.
        p: two-sided, of Student's paired t-test; None where it cannot be computed (one pair, or no spread at all).
        effect: Cohen's d_z, the mean difference over the differences' standard deviation; None without spread.
        p_holm: p corrected for all comparisons of the table.
    """

    n: int
    difference: float
    low: float | None
    high: float | None
    p: float | None
    effect: float | None
    p_holm: float | None = None


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

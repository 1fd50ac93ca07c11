"""What rows of accuracies say: against textbook formulas, written out."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mddes.studies.findings import Findings, as_markdown
from mddes.studies.statistics import compare_pairs, compare_spreads, detectable_effect, holm, kendall, summarise, welch

FIRST, SECOND = (0.91, 0.88, 0.93, 0.90, 0.87), (0.80, 0.85, 0.79, 0.84, 0.81)


def test_a_summary_by_hand() -> None:
    s = summarise(FIRST)
    mean = sum(FIRST) / 5
    std = math.sqrt(sum((x - mean) ** 2 for x in FIRST) / 4)
    assert s.n == 5
    assert [s.mean, s.std] == pytest.approx([mean, std])
    half = 2.7764451051977934 * std / math.sqrt(5)  # Student's t, 4 degrees of freedom, 97.5 %, from a table
    assert [s.low, s.high] == pytest.approx([mean - half, mean + half])


def test_a_comparison_by_hand() -> None:
    c = compare_pairs(FIRST, SECOND)
    apart = [a - b for a, b in zip(FIRST, SECOND, strict=True)]
    mean = sum(apart) / 5
    std = math.sqrt(sum((x - mean) ** 2 for x in apart) / 4)
    t = mean / (std / math.sqrt(5))
    assert c.difference == pytest.approx(mean)
    assert c.effect == pytest.approx(mean / std)
    assert c.p == pytest.approx(2 * float(stats.t.sf(abs(t), 4)))
    assert c.low is not None
    assert c.p is not None
    assert (c.low > 0) == (c.p < 0.05), "interval and test agree"


def test_pairs_without_spread_have_no_test() -> None:
    """Rounding is no spread: 0.9 - 0.8 and 0.8 - 0.7 differ in the last bit."""
    for first, second in (([0.9, 0.8], [0.8, 0.7]), ([0.1] * 3, [0.2] * 3), ([0.5], [0.4]), ([0.5, 0.5], [0.5, 0.5])):
        c = compare_pairs(first, second)
        assert (c.p, c.effect) == (None, None)
        assert c.difference == pytest.approx(first[0] - second[0])
    with pytest.raises(ValueError, match="pairs need two rows of one length"):
        compare_pairs([0.5], [0.4, 0.3])


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.02, "c": 0.5, "d": 0.011}) == {
        "a": pytest.approx(0.04),
        "d": pytest.approx(0.04),  # 3 x 0.011 = 0.033 is below the one before
        "b": pytest.approx(0.04),
        "c": pytest.approx(0.5),
    }
    assert holm({}) == {}
    assert holm({"a": 0.7, "b": 0.6}) == {"b": 1.0, "a": 1.0}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_plain_value_and_bonferroni_s(values: list[float]) -> None:
    named = {str(i): p for i, p in enumerate(values)}
    corrected = holm(named)
    for name, p in named.items():
        assert p <= corrected[name] <= min(1.0, len(values) * p) + 1e-12
    by_size = sorted(named, key=lambda name: named[name])
    assert [corrected[name] for name in by_size] == sorted(corrected.values())


def test_results_of_another_protocol_have_another_hash() -> None:
    def findings(**protocol: object) -> Findings:
        return Findings("transfer", protocol, [], {}, [])

    assert findings(a=1, b=2).protocol_hash == findings(b=2, a=1).protocol_hash
    assert findings(a=1).protocol_hash != findings(a=2).protocol_hash
    assert len(findings().protocol_hash) == 12


def test_a_table_s_cells_cannot_break_it() -> None:
    assert as_markdown([{"x": "a|b"}]).splitlines()[-1] == "| a\\|b |"


def test_welch_from_summaries_equals_that_from_values() -> None:
    a, b = np.random.default_rng(1).normal([[0.0], [1.0]], [[1.0], [3.0]], (2, 7)).tolist()
    assert welch(summarise(a), summarise(b)) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert welch(summarise([1.0]), summarise(b)) is None


def test_detectable_effects_are_found_that_often() -> None:
    """Against simulated t-tests, and the first whole n at which tables have 80 % power for d = 0.5 (34)."""
    effect = detectable_effect(8)
    assert effect is not None
    drawn = np.random.default_rng(5).normal(effect, 1.0, (40_000, 8))
    found = float((stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05).mean())
    assert found == pytest.approx(0.8, abs=0.01)
    at = {n: detectable_effect(n) for n in (33, 34)}
    assert at[34] is not None
    assert at[33] is not None
    assert at[34] < 0.5 < at[33]
    assert detectable_effect(1) is None


def test_spreads_of_pairs_are_compared_as_by_morgan_s_t() -> None:
    """Morgan's statistic is written in the two variances and their correlation."""
    random = np.random.default_rng(7)
    common = random.normal(size=20)
    a, b = common + 0.5 * random.normal(size=20), common + random.normal(size=20)
    f, r = np.var(a, ddof=1) / np.var(b, ddof=1), np.corrcoef(a, b)[0, 1]
    t = (f - 1) * np.sqrt(18) / (2 * np.sqrt(f * (1 - r**2)))
    compared = compare_spreads(a.tolist(), b.tolist())
    assert compared is not None
    assert compared[0] == pytest.approx(np.sqrt(f))
    assert compared[1] == pytest.approx(2 * stats.t.sf(abs(t), 18))
    assert compare_spreads([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]) is None, "equal spreads, and nothing between the pairs"


@given(st.permutations(range(7)))
def test_kendall_counts_inversions_where_nothing_ties(order: list[int]) -> None:
    inversions = sum(a > b for a, b in combinations(order, 2))
    tau, n = kendall(range(7), order)
    assert n == 7
    assert tau == pytest.approx(1 - 2 * inversions / math.comb(7, 2))


def pair_by_pair(first: list[int], second: list[int]) -> float | None:
    """Return tau-b as Kendall (1945) defines it, from all pairs of pairs."""
    signs = [(np.sign(a - c), np.sign(b - d)) for (a, b), (c, d) in combinations(zip(first, second, strict=True), 2)]
    untied = [sum(pair[i] != 0 for pair in signs) for i in range(2)]
    return None if 0 in untied else float(sum(x * y for x, y in signs)) / math.sqrt(untied[0] * untied[1])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=9))
def test_kendall_with_ties_is_what_all_pairs_say(points: list[tuple[int, int]]) -> None:
    first, second = [a for a, _ in points], [b for _, b in points]
    tau, n = kendall(first, second)
    assert n == len(points)
    expected = pair_by_pair(first, second)
    assert tau == (None if expected is None else pytest.approx(expected))
    grown = [math.exp(a) for a in first]  # ranks are all that counts
    assert kendall(grown, second) == (tau, n)


def test_kendall_of_known_cases() -> None:
    for first, second, expected in (([1, 2, 3, 4], [1, 2, 4, 3], 2 / 3), ([1, 1, 2, 2], [1, 2, 3, 4], 0.8165)):
        assert kendall(first, second)[0] == pytest.approx(expected, abs=5e-5)
    assert kendall([1, 2, None, 4, 9], [1, 2, 3, math.nan, 4]) == (1.0, 3), "missing pairs are left out"
    for few, other, n in (([], [], 0), ([1], [2], 1), ([1, 1], [1, 2], 2), ([1, 2, None], [3, 3, 4], 2)):
        assert kendall(few, other) == (None, n)
    with pytest.raises(ValueError, match="not 2 and 1"):
        kendall([1, 2], [1])

"""The sentence at a run's end says what the numbers support, and no more."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mddes import SearchConfig, load_dataset
from mddes.data import split
from mddes.search.config import resolve
from mddes.studies.comparison import Row, sentence

DIGITS = load_dataset("digits")
CONFIG = resolve(SearchConfig(), split(DIGITS.train))
CLEAN, UNIFORM, FOUND = (0.91, 0.92, 0.90), (0.80, 0.84, 0.85), (0.65, 0.70, 0.66)


def said(
    clean: tuple[float, ...] = CLEAN, uniform: tuple[float, ...] = UNIFORM, found: tuple[float, ...] = FOUND
) -> str:
    rows = [Row(name, values) for name, values in (("clean", clean), ("uniform", uniform), ("found", found)) if values]
    return sentence(rows, DIGITS, CONFIG)


def test_means_spread_and_interval() -> None:
    text = said()
    assert "reaches a clean-test accuracy of 91.0 ± 1.0 %" in text
    assert "with the found poison of 5 pixels per class 67.0 ± 2.6 %" in text
    assert "uniform perturbation of the same size 83.0 ± 2.6 % (n = 3 networks a row, mean ± sd)" in text
    interval = stats.ttest_ind(FOUND, UNIFORM, equal_var=False).confidence_interval(0.95)
    assert (
        f"is lower than uniform's: -16.0 points, 95 % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
        in text
    )


@pytest.mark.parametrize(
    ("found", "verdict"), [((0.84, 0.80, 0.83), "not distinguishable from"), ((0.97, 0.98, 0.97), "higher than")]
)
def test_no_effect_and_the_wrong_effect(found: tuple[float, ...], verdict: str) -> None:
    assert f"is {verdict} uniform's" in said(found=found)


def test_a_single_network_has_no_spread() -> None:
    text = said((0.9,), (0.8,), (0.7,))
    assert text.endswith("80.0 % (one network a row).")


@pytest.mark.filterwarnings("error")
def test_rows_without_spread() -> None:
    assert said(uniform=(0.8,) * 3, found=(0.7,) * 3).endswith(
        "Neither row has any spread: there is no interval to state."
    )
    assert "95 % interval" in said(uniform=(0.8,) * 3), "one of them has"


def test_a_network_that_learned_nothing_shows_nothing() -> None:
    largest = float(np.bincount(DIGITS.test.labels).max() / len(DIGITS.test))
    text = said(clean=(largest, largest), uniform=(largest, largest), found=(largest, largest))
    assert text.endswith(f"learned next to nothing (the largest class alone is {100 * largest:.1f} %).")
    assert "points" not in text


def test_incomplete_comparisons() -> None:
    assert said((), (), ()) == "The poison was not compared on test images."
    assert "all networks of a row failed" in said(found=())
    assert "one pixel per class" in sentence(
        [Row("clean", CLEAN), Row("uniform", UNIFORM), Row("found", FOUND)], DIGITS, replace(CONFIG, pixels=1)
    )

"""How measures of solutions go together: against the records, and where pooling poisons deceives."""

from pathlib import Path
from typing import Any

import pytest
from test_interpolation_study import config
from test_statistics import pair_by_pair
from test_transfer import records

import mddes.study
from mddes.studies.correlations import (
    ALL,
    QUANTITIES,
    correlation_cells,
    correlation_sentences,
    correlation_tables,
    points,
)
from mddes.study import study

START = {"dataset": "digits", "model": "graynet"}


def pair(sharpness: tuple[float | None, float], accuracy: tuple[float, float]) -> dict[str, Any]:
    """Return a pair's record; what is not given is 1 at both ends."""
    usual: dict[str, Any] = {name: [1.0, 1.0] for name in QUANTITIES[:-1]}
    return {**usual, "train_accuracy": [1.0, 1.0], "hessian_trace": list(sharpness), "test_accuracy": list(accuracy)}


def cell(cells: list[dict[str, Any]], first: str, second: str, within: str) -> dict[str, Any]:
    (found,) = [c for c in cells if (c["first"], c["second"], c["within"]) == (first, second, within)]
    return found


def test_rows_are_those_of_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mddes.study, "_draw", lambda *_: None)
    found = study("interpolation", config(tmp_path, models=("graynet",), line_size=30, measure_size=10))
    cells = [dict(row) for row in found.rows if row["kind"] == "correlation"]
    assert len(cells) == 3 * 55, "pooled and within two poisons, every two of eleven"
    own = sorted(records(found.run_dir).values(), key=lambda r: (r["poison"], r["victim"]))
    for within, name in ((ALL, None), ("clean", "clean"), ("uniform, N_p = 2", "uniform")):
        there = [r for r in own if name in (None, r["poison"])]
        traces = [value for r in there for value in r["hessian_trace"]]
        tests = [value for r in there for value in r["test_accuracy"]]
        trains = [value for r in there for value in r["train_accuracy"]]
        gaps = [round(60 * 30 * (a - b)) for a, b in zip(trains, tests, strict=True)]  # of 30 and of 30 images
        for target, values in (("test_accuracy", tests), ("generalization_gap", gaps)):
            row = cell(cells, "hessian_trace", target, within)
            assert row["n"] == len(there) * 2
            expected = pair_by_pair(traces, values)
            assert row["tau"] == (None if expected is None else pytest.approx(expected))
    (sentence,) = [text for text in found.sentences if "Kendall" in text]
    assert "over 8 solutions of 2 training sets" in sentence
    assert "not what causes it" in sentence


def test_poisons_that_disagree_with_their_pool() -> None:
    """Within each poison the sharper solution is worse; the poison that makes both sharp and good hides it."""
    poisons = {
        "a": [pair((1.0, 2.0), (0.5, 0.4)), pair((3.0, 4.0), (0.3, 0.2))],
        "b": [pair((11.0, 12.0), (0.9, 0.8)), pair((13.0, 14.0), (0.7, 0.6))],
    }
    cells = correlation_cells(START, poisons)
    for name in poisons:
        assert cell(cells, "hessian_trace", "test_accuracy", name)["tau"] == -1
    pooled = cell(cells, "hessian_trace", "test_accuracy", ALL)
    assert (pooled["tau"], pooled["n"], pooled["training_sets"]) == (pytest.approx((16 - 12) / 28), 8, 2)
    assert cell(cells, "hessian_trace", "generalization_gap", ALL)["tau"] == pytest.approx(-4 / 28)
    assert cell(cells, "norm", "test_accuracy", ALL)["tau"] is None
    ((title, rows),) = correlation_tables(cells).items()
    assert title == "Kendall's tau-b over solutions"
    (row,) = [row for row in rows if row["measure"] == "Hessian trace"]
    assert row == {
        "measure": "Hessian trace",
        "test accuracy": "+0.14 (n = 8)",
        "test accuracy, within a training set": "-1.00 (-1.00 to -1.00)",
        "generalisation gap": "-0.14 (n = 8)",
        "generalisation gap, within a training set": "+1.00 (+1.00 to +1.00)",
    }
    (said,) = correlation_sentences(cells)
    assert "Hessian trace +0.14, within -1.00 (-1.00 to -1.00)" in said
    assert "average sharpness undefined, within undefined" in said


def test_a_measure_without_a_value_leaves_its_pairs_only() -> None:
    cells = correlation_cells(START, {"a": [pair((None, 2.0), (0.5, 0.4)), pair((3.0, 4.0), (0.3, 0.2))], "b": []})
    assert cell(cells, "hessian_trace", "test_accuracy", ALL)["n"] == 3
    assert cell(cells, "test_accuracy", "generalization_gap", ALL)["n"] == 4
    assert {c["within"] for c in cells} == {ALL, "a"}, "a poison of which nothing is there has no rows"
    assert correlation_cells(START, {"a": []}) == []


def test_equal_gaps_are_ties() -> None:
    record = pair((1.0, 2.0), (0.8, 0.7)) | {"train_accuracy": [0.9, 0.8]}
    assert 0.9 - 0.8 != 0.8 - 0.7, "in binary"
    (first, second) = points([record])["generalization_gap"]
    assert first == second

"""The figures of a study of defences: accuracy with every defence, and by the share of each class that is poisoned."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.report.panel import Panel, Rows, alone
from mddes.report.style import (
    CLEAN_ACCURACY,
    Row,
    counts,
    file_name,
    level,
    marker,
    numbers,
    ruled,
    slanted,
    tone,
    typeset,
    unique,
    whose,
)

LEAST_SHARES = 3  # two would be none and all, which the other panel shows


def defenses_figures(rows: Rows) -> dict[str, Figure]:
    """Draw clean test accuracy with every defence, and by the share of each class that is poisoned."""
    figures = {}
    for model in unique(rows, "model"):
        for name, panel in PANELS.items():
            if own := [row for row in panel.prepare(rows) if row["model"] == model]:
                figures[f"{name}-{file_name(model)}.png"] = alone(panel, own)
    return figures


def against_defenses(ax: Axes, rows: Rows) -> str:
    """Draw a marker with its 95 % interval for each poison with each defence, side by side."""
    names = unique(rows, "defense")
    labels = unique(rows, "row")
    for i, label in enumerate(labels):
        own = sorted((row for row in rows if row["row"] == label), key=lambda row: names.index(row["defense"]))
        aside = 0.12 * (i - (len(labels) - 1) / 2)
        _points(ax, [names.index(row["defense"]) + aside for row in own], own, i, len(labels), "")
    slanted(ax, names)
    return _finished(ax, rows)


def against_shares(ax: Axes, rows: Rows) -> str:
    """Draw a line for each poison, over the share of each class that is poisoned."""
    labels = unique(rows, "row")
    for i, label in enumerate(labels):
        own = sorted((row for row in rows if row["row"] == label), key=lambda row: float(row["share"]))
        _points(ax, [100 * row["share"] for row in own], own, i, len(labels), "-")
    ax.set_xlabel("share of each class that is poisoned (%)")
    return _finished(ax, rows)


def _points(ax: Axes, x: Sequence[float], rows: Rows, i: int, n: int, line: str) -> None:
    mean = numbers(rows, "clean_test_accuracy_mean", 100)
    bars = [
        [0.0 if row[end] is None else abs(100 * row[end] - m) for row, m in zip(rows, mean, strict=True)]
        for end in ("clean_test_accuracy_low", "clean_test_accuracy_high")
    ]
    style: dict[str, Any] = {"color": tone(i, n), "marker": marker(i), "capsize": 2, "linewidth": 1}
    ax.errorbar(x, mean, bars, linestyle=line, label=typeset(rows[0]["row"]), **style)


def _finished(ax: Axes, rows: Rows) -> str:
    level(ax, rows[0])
    ax.set(ylabel=CLEAN_ACCURACY, ylim=(0, 100))
    ruled(ax, "y")
    return f"{whose(rows)}: mean and 95 % interval (n = {counts(rows)})"


def _whole(rows: Rows) -> list[Row]:
    return [row for row in rows if row["share"] == 1 and row["clean_test_accuracy_mean"] is not None]


def _partly(rows: Rows) -> list[Row]:
    """Return the undefended rows by share; clean networks are those of share 0 of every poison."""
    found: list[Row] = []
    for model in unique(rows, "model"):
        own = [row for row in rows if row["model"] == model and row["clean_test_accuracy_mean"] is not None]
        poisoned = [row for row in own if row["pixels"] is not None]
        clean = [row for row in own if row["poison"] == "clean" and row["defense"] == "none"]
        there = [row for row in poisoned if row["defense"] == "none"]
        there += [{**row, "row": label, "share": 0.0} for row in clean for label in unique(poisoned, "row")]
        found += there if len({row["share"] for row in there}) >= LEAST_SHARES else []
    return found


def _size(rows: Rows, name: str) -> tuple[float, float]:
    return max(5.0, 1.5 + 0.5 * len(unique(rows, name))), 4.2


PANELS = {
    "defenses": Panel(
        "clean test accuracy under every poison with every defence: mean and 95 % interval",
        against_defenses,
        _whole,
        {"model": "model"},
        size=lambda rows: _size(rows, "defense"),
    ),
    "shares": Panel(
        "clean test accuracy by the share of each class that is poisoned: mean and 95 % interval",
        against_shares,
        _partly,
        {"model": "model"},
        size=lambda rows: _size(rows, "share"),
    ),
}

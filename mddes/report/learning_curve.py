"""The figure of a study of learning curves: what a search buys in test error, generation by generation."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.report.panel import Panel, Rows
from mddes.report.style import (
    CLEAN_ACCURACY,
    ERROR,
    TITLE,
    Row,
    counts,
    file_name,
    legend_below,
    numbers,
    over_whole_numbers,
    ruled,
    unique,
    whose,
)

WINNER = "winner on fresh seeds"
STYLES = {
    "clean": ("0.0", "-", "o", "clean"),
    "uniform": ("0.45", "--", "s", "uniform"),
    "best": ("0.6", "-.", "^", "best single value"),
    "winner": ("0.3", ":", "D", WINNER),
}


def learning_curve_figures(rows: Rows) -> dict[str, Figure]:
    """Draw target error over generations, clean test accuracy over epochs, and error against proxy A-distance."""
    figures = {}
    for model in unique(rows, "model"):
        own = [row for row in rows if row["model"] == model]
        figure = Figure(figsize=(10, 3.4), layout="constrained")
        axes = figure.subplots(1, len(PANELS))
        for ax, panel in zip(axes, PANELS.values(), strict=True):
            if there := panel.prepare(own):
                ax.set_title(panel.paint(ax, there).removeprefix(f"{whose(own)}: "), fontsize=TITLE)
        legend_below(figure, axes)
        figure.suptitle(whose(own), fontsize=TITLE + 1)
        figures[f"learning-curve-{file_name(model)}.png"] = figure
    return figures


def over_generations(ax: Axes, rows: Rows) -> str:
    """Draw the test error of the best poison so far, and of the winner."""
    steps = [row for row in rows if row["kind"] == "generation"]
    x = [row["generation"] for row in steps]
    mean, std = numbers(steps, "error_mean", 100), np.nan_to_num(numbers(steps, "error_std", 100))
    ax.fill_between(x, mean - std, mean + std, step="post", color="0.82")
    ax.plot(x, mean, drawstyle="steps-post", color="black", marker="o", markersize=3, label="best so far")
    for row in rows:
        if row["kind"] == "winner":
            error = 100 * float(np.mean(row["errors"]))
            ax.axhline(error, color="0.3", linestyle=":", label=WINNER)
    ax.set_ylabel(ERROR)
    over_whole_numbers(ax, "generation")
    ruled(ax)
    return f"{whose(rows)}: best-so-far poison: mean ± sd of {counts(steps)} networks"


def over_epochs(ax: Axes, rows: Rows) -> str:
    """Draw clean test accuracy over the victims' epochs."""
    for name, (tone, line, marker, label) in STYLES.items():
        own = [row for row in rows if row["row"] == name]
        if own:
            x = [row["epoch"] for row in own]
            mean, std = numbers(own, "accuracy_mean", 100), np.nan_to_num(numbers(own, "accuracy_std", 100))
            style: dict[str, Any] = {"color": tone, "linestyle": line, "marker": marker, "markersize": 3, "capsize": 2}
            ax.errorbar(x, mean, std, label=label, **style)
    ax.set_ylabel(CLEAN_ACCURACY)
    over_whole_numbers(ax, "epoch of the victim")
    ruled(ax)
    return f"{whose(rows)}: mean ± sd of {counts(rows)} networks"


def against_distance(ax: Axes, rows: Rows) -> str:
    """Draw the test error of candidates against the proxy A-distance that the search had logged."""
    x, y = numbers(rows, "proxy_a_distance"), numbers(rows, "error", 100)
    ax.plot(x, y, linestyle="", marker="o", markersize=4, color="0.3")
    ax.set(xlabel="logged proxy A-distance", ylabel=ERROR)
    ruled(ax)
    return f"{whose(rows)}: {len(rows)} candidates, a network each"


def _generations(rows: Rows) -> list[Row]:
    steps = [row for row in rows if row["kind"] == "generation" and row["errors"]]
    return [*steps, *(row for row in rows if row["kind"] == "winner" and row["errors"])]


def _epochs(rows: Rows) -> list[Row]:
    return [row for row in rows if row["kind"] == "epoch" and row["accuracy_mean"] is not None]


def _candidates(rows: Rows) -> list[Row]:
    own = [row for row in rows if row["kind"] == "candidate"]
    return [row for row in own if row["proxy_a_distance"] is not None and row["error"] is not None]


MODEL = {"model": "model"}
PANELS = {
    "generations": Panel(
        "test error of the best poison so far over generations: mean ± sd",
        over_generations,
        _generations,
        MODEL,
        full=True,
    ),
    "epochs": Panel("clean test accuracy over the victims' epochs: mean ± sd", over_epochs, _epochs, MODEL, full=True),
    "candidates": Panel("test error of candidates against proxy A-distance", against_distance, _candidates, MODEL),
}

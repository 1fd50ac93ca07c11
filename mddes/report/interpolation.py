"""The figures of a study of interpolation: the line between two solutions, what lies around both, and correlations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.report.heat_map import heat_map
from mddes.report.panel import Panel, Rows, kind
from mddes.report.style import (
    ACCURACY,
    SMALL,
    TITLE,
    Row,
    counts,
    file_name,
    from_zero,
    legend_below,
    numbers,
    ruled,
    typeset,
    unique,
    whose,
)
from mddes.studies.correlations import ALL, QUANTITIES
from mddes.studies.interpolation_text import WORDS

IMAGES = {"train": ("0.0", "-", "training images, as trained on"), "test": ("0.45", "--", "test images, clean")}
LOSSES = {"train": "training loss (nats)", "test": "test loss (nats)"}
ENDS = (("0.0", "-"), ("0.5", "--"))
LEVELS = 9
MAP = (7.4, 6.2)  # inches, of one heat map


def interpolation_figures(rows: Rows) -> dict[str, Figure]:
    """Draw, for each network, the line under every poison, what lies around both solutions, and the correlations."""
    figures = {}
    for model in unique(rows, "model"):
        own = [row for row in rows if row["model"] == model and row["n"] and row["kind"] != "correlation"]
        if not own:
            continue
        figures[f"line-{file_name(model)}.png"] = _line([row for row in own if row["kind"] == "line"])
        if _surfaces(own) or any(row["kind"] == "slice" for row in own):
            figures[f"around-{file_name(model)}.png"] = _around(own)
        if pairs := [row for row in rows if row["model"] == model and row["kind"] == "correlation"]:
            figures[f"correlations-{file_name(model)}.png"] = _correlations(pairs)
    return figures


def _line(rows: Rows) -> Figure:
    """Draw a column for each poison: training loss, test loss, accuracies."""
    poisons = unique(rows, "row")
    figure = Figure(figsize=(1.2 + 3.1 * len(poisons), 7.0), layout="constrained")
    panels = figure.subplots(3, len(poisons), sharex=True, squeeze=False)
    for column, poison in enumerate(poisons):
        own = [row for row in rows if row["row"] == poison]
        for ax, images in zip(panels[:2, column], IMAGES, strict=True):
            line_loss(ax, own, images)
        line_accuracy(panels[2, column], own)
        panels[0, column].set_title(typeset(poison), fontsize=TITLE, pad=14)
    for ax in panels[:2].flat:
        ax.set_xlabel("")
    for ax in panels[:, 1:].flat:
        ax.set_ylabel("")
    legend_below(figure, panels[2], columns=2)
    figure.suptitle(f"{_between(rows)}: mean ± sd of {counts(rows)} pairs", fontsize=TITLE)
    return figure


def line_loss(ax: Axes, rows: Rows, images: str) -> str:
    """Draw the loss of one poison's training or test images along the line."""
    own = sorted(rows, key=lambda row: float(row["alpha"]))
    _curves(ax, own, (images,), "loss", 1)
    ax.set(ylabel=LOSSES[images], ylim=(0, _ceiling(own, images)))
    return _along(ax, own)


def line_accuracy(ax: Axes, rows: Rows) -> str:
    """Draw the accuracies of one poison's training and test images along the line."""
    own = sorted(rows, key=lambda row: float(row["alpha"]))
    _curves(ax, own, tuple(IMAGES), "accuracy", 100)
    ax.set(ylabel=ACCURACY, ylim=(0, 102))
    return _along(ax, own)


def _along(ax: Axes, rows: Rows) -> str:
    """Mark both ends."""
    for at, name in enumerate((rows[0]["first"], rows[0]["second"])):
        ax.axvline(at, color="0.6", linestyle=":", linewidth=1)
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
        ax.annotate(typeset(name), (at, 1), fontsize=SMALL, **place)
    ax.set_xlabel(r"$\alpha$")
    ruled(ax)
    return f"{_between(rows)}, {typeset(rows[0]['row'])}: mean ± sd of {counts(rows)} pairs"


def _curves(ax: Axes, rows: Rows, kinds: Sequence[str], what: str, times: float) -> None:
    x = [row["alpha"] for row in rows]
    for images in kinds:
        tone, line, label = IMAGES[images]
        for way, width, more in (("", 1.4, ""), ("raw_", 0.8, ", BatchNorm raw")):
            mean, std = (numbers(rows, f"{way}{images}_{what}_{end}", times) for end in ("mean", "std"))
            if np.isnan(mean).all():
                continue
            ax.plot(x, mean, color=tone, linestyle=":" if way else line, linewidth=width, label=label + more)
            if not way:
                ax.fill_between(x, mean - np.nan_to_num(std), mean + np.nan_to_num(std), color=tone, alpha=0.15, lw=0)


def _ceiling(rows: Rows, images: str) -> float:
    """Return the top of the axis: what lies near and between the ends fills it, what is far beyond them leaves it."""
    near = [row for row in rows if -0.3 <= row["alpha"] <= 1.3]
    return 1.1 * float(np.nanmax(numbers(near, f"{images}_loss_mean"), initial=1e-6))


def _around(rows: Rows) -> Figure:
    """Draw a column for each poison: slices through both ends, and the surface around each, on one scale."""
    poisons, ends = unique(rows, "row"), _ends(rows)
    surfaces, sliced = _surfaces(rows), [row for row in rows if row["kind"] == "slice"]
    heights = bool(sliced) + (len(ends) if surfaces else 0)
    figure = Figure(figsize=(1.4 + 2.9 * len(poisons), 0.9 + 2.7 * heights), layout="constrained")
    panels = figure.subplots(heights, len(poisons), squeeze=False)
    for column, poison in enumerate(poisons):
        if sliced:
            slices(panels[0, column], [row for row in sliced if row["row"] == poison])
        panels[0, column].set_title(typeset(poison), fontsize=TITLE)
        there = [row for row in surfaces if row["row"] == poison]
        for ax, end in zip(panels[bool(sliced) :, column], ends, strict=False):
            surface(ax, there, end)
    for ax in panels[:, 1:].flat:
        ax.set_ylabel("")
    legend_below(figure, panels[0], columns=2)
    said = [f"slices: mean ± sd of {counts(sliced)} pairs"] if sliced else []
    said += ["surfaces: the first pair"] if surfaces else []
    where = f"{_between(rows)}: training loss (as trained on) in random directions, in units of the filters' norms"
    figure.suptitle(f"{where};\n{'; '.join(said)}", fontsize=TITLE)
    return figure


def slices(ax: Axes, rows: Rows) -> str:
    """Draw the slices of one poison: the loss around both ends in a random direction."""
    for end, (tone, line) in zip(_ends(rows), ENDS, strict=True):
        own = [row for row in rows if row["end"] == end]
        x, mean = [row["t"] for row in own], numbers(own, "loss_mean")
        std = np.nan_to_num(numbers(own, "loss_std"))
        ax.plot(x, mean, color=tone, linestyle=line, linewidth=1.4, label=f"around the {typeset(end)} solution")
        ax.fill_between(x, mean - std, mean + std, color=tone, alpha=0.15, lw=0)
    ax.set(xlabel="step along the direction (filter norms)", ylabel="training loss (nats)")
    from_zero(ax)
    ruled(ax)
    return (
        f"{_between(rows)}, {typeset(rows[0]['row'])}: slice in a random direction, mean ± sd of {counts(rows)} pairs"
    )


def surface(ax: Axes, rows: Rows, end: str) -> str:
    """Draw the surface around an end; levels are those of both ends together, evenly spaced in log loss."""
    own = {(row["t"], row["u"]): row["loss_mean"] for row in rows if row["end"] == end}
    losses = np.array([row["loss_mean"] for row in rows])
    steps = sorted({t for t, _ in own})
    if len(steps) < 2 or losses.min() <= 0 or losses.min() == losses.max():
        ax.set_axis_off()
        return "no surface"
    levels = np.geomspace(losses.min(), losses.max(), LEVELS)
    grid = np.array([[own.get((t, u), np.nan) for t in steps] for u in steps])
    ax.contourf(steps, steps, grid, levels=levels, cmap="Greys", norm="log", alpha=0.6)
    lines = ax.contour(steps, steps, grid, levels=levels, colors="black", linewidths=0.6)
    ax.clabel(lines, fmt="%.2g", fontsize=6)
    ax.plot(0, 0, marker="+", color="black", markersize=7)
    ax.set(xlabel=f"{typeset(end)}: first direction", ylabel=f"{typeset(end)}: second direction")
    ax.set_aspect("equal")
    return (
        f"{_between(rows)}, {typeset(rows[0]['row'])}: training loss (nats) around the {typeset(end)} solution, steps "
        "in filter norms, one pair"
    )


def _correlations(rows: Rows) -> Figure:
    """Draw a heat map of all solutions, and one of each poison's own."""
    within = unique(rows, "within")
    shown = within if len(within) > 2 else within[:1]  # of one poison, both are the same
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(MAP[0] * columns, MAP[1] * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for ax, name in zip(panels, shown, strict=False):
        title = correlations(ax, [row for row in rows if row["within"] == name])
        ax.set_title(title.removeprefix(f"{whose(rows)}, "), fontsize=TITLE)
    for ax in panels[len(shown) :]:
        ax.set_visible(False)
    figure.suptitle(
        f"{whose(rows)}: Kendall's $\\tau_b$ of what was measured at the solutions; no causal statement",
        fontsize=TITLE + 1,
    )
    return figure


def correlations(ax: Axes, rows: Rows) -> str:
    """Draw the heat map of all solutions, or of one poison's."""
    found = {(row["first"], row["second"]): (row["tau"], row["n"]) for row in rows}
    said = heat_map(ax, {name: WORDS[name] for name in QUANTITIES}, found)
    pooled = rows[0]["within"] == ALL
    solutions = (
        f"{rows[0]['training_sets']} training sets together" if pooled else f"within {typeset(rows[0]['within'])}"
    )
    return f"{whose(rows)}, {solutions}: {said}"


def _ends(rows: Rows) -> tuple[str, str]:
    return rows[0]["first"], rows[0]["second"]


def _between(rows: Rows) -> str:
    return f"{whose(rows)}, {typeset(rows[0]['first'])} to {typeset(rows[0]['second'])}"


def _alive(name: str) -> Any:
    return lambda rows: [row for row in rows if row["kind"] == name and row["n"]]


def _surfaces(rows: Rows) -> list[Row]:
    return [row for row in rows if row["kind"] == "surface" and row["loss_mean"] is not None]


PICKED = {"model": "model", "poison": "row"}
PANELS = {
    "line-loss": Panel(
        "loss along the line between the two solutions: mean ± sd",
        line_loss,
        _alive("line"),
        PICKED,
        {"images": lambda _: tuple(IMAGES)},
        pad=14,
    ),
    "line-accuracy": Panel(
        "accuracy along the line between the two solutions: mean ± sd", line_accuracy, _alive("line"), PICKED, pad=14
    ),
    "slices": Panel("loss around both solutions in a random direction: mean ± sd", slices, _alive("slice"), PICKED),
    "surface": Panel(
        "loss around one solution of the first pair in two random directions",
        surface,
        _surfaces,
        PICKED,
        {"end": _ends},
        size=lambda _: (4.8, 4.8),
    ),
    "correlations": Panel(
        "Kendall's tau-b of every two measures, over all solutions or within a training set",
        correlations,
        kind("correlation"),
        {"model": "model", "within": "within"},
        size=lambda _: MAP,
    ),
}

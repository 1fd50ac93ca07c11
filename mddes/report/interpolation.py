"""The figures of a study of interpolation: loss and accuracy along the line, slices and surfaces around both ends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.report.studies import file_name

Row = Mapping[str, Any]
IMAGES = {"train": ("0.0", "-", "training images, as trained on"), "test": ("0.45", "--", "test images, clean")}
ENDS = (("0.0", "-"), ("0.5", "--"))
LEVELS = 9


def interpolation_figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Draw, for each network, the line under every poison, and what lies around the two solutions."""
    figures = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model and row["n"]]
        if not own:
            continue
        figures[f"line-{file_name(model)}.png"] = _line([row for row in own if row["kind"] == "line"])
        if any(row["kind"] in ("slice", "surface") for row in own):
            figures[f"around-{file_name(model)}.png"] = _around(own)
    return figures


def _line(rows: Sequence[Row]) -> Figure:
    """Draw a column for each poison: training loss, test loss, accuracies; mean and standard deviation of the pairs."""
    poisons = list(dict.fromkeys(row["row"] for row in rows))
    figure = Figure(figsize=(1.2 + 3.1 * len(poisons), 7.0), layout="constrained")
    panels = figure.subplots(3, len(poisons), sharex=True, squeeze=False)
    for column, poison in enumerate(poisons):
        own = sorted((row for row in rows if row["row"] == poison), key=lambda row: row["alpha"])
        for ax, images in zip(panels[:2, column], IMAGES, strict=True):
            _curves(ax, own, (images,), "loss", 1)
            ax.set_ylim(0, _ceiling(own, images))
        _curves(panels[2, column], own, tuple(IMAGES), "accuracy", 100)
        panels[2, column].set_ylim(0, 102)
        for ax in panels[:, column]:
            for at, name in enumerate((own[0]["first"], own[0]["second"])):
                ax.axvline(at, color="0.6", linestyle=":", linewidth=1)
                ax.annotate(name, (at, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=7)
        panels[0, column].set_title(_label(own[0]), fontsize=9, pad=14)
        panels[2, column].set_xlabel(r"$\alpha$")
    for ax, label in zip(panels[:, 0], ("training loss (nats)", "test loss (nats)", "accuracy (%)"), strict=True):
        ax.set_ylabel(label)
    handles, names = panels[2, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    figure.suptitle(f"{_whose(rows)}: mean ± sd of {_counts(rows)} pairs", fontsize=9)
    return figure


def _curves(ax: Axes, rows: Sequence[Row], kinds: Sequence[str], what: str, times: float) -> None:
    x = [row["alpha"] for row in rows]
    for images in kinds:
        tone, line, label = IMAGES[images]
        for way, width, more in (("", 1.4, ""), ("raw_", 0.8, ", BatchNorm raw")):
            mean, std = (_numbers(rows, f"{way}{images}_{what}_{end}") * times for end in ("mean", "std"))
            if np.isnan(mean).all():
                continue
            ax.plot(x, mean, color=tone, linestyle=":" if way else line, linewidth=width, label=label + more)
            if not way:
                ax.fill_between(x, mean - np.nan_to_num(std), mean + np.nan_to_num(std), color=tone, alpha=0.15, lw=0)
    _grid(ax)


def _ceiling(rows: Sequence[Row], images: str) -> float:
    """Return the top of the axis: what lies near and between the ends fills it, what is far beyond them leaves it."""
    near = [row for row in rows if -0.3 <= row["alpha"] <= 1.3]
    return 1.1 * float(np.nanmax(_numbers(near, f"{images}_loss_mean"), initial=1e-6))


def _around(rows: Sequence[Row]) -> Figure:
    """Draw a column for each poison: slices through both ends, and the surface around each, on one scale."""
    poisons = list(dict.fromkeys(row["row"] for row in rows))
    ends = (rows[0]["first"], rows[0]["second"])
    surfaces = [row for row in rows if row["kind"] == "surface" and row["loss_mean"] is not None]
    heights = 3 if surfaces else 1
    figure = Figure(figsize=(1.4 + 2.9 * len(poisons), 0.9 + 2.7 * heights), layout="constrained")
    panels = figure.subplots(heights, len(poisons), squeeze=False)
    for column, poison in enumerate(poisons):
        own = [row for row in rows if row["row"] == poison]
        _slices(panels[0, column], [row for row in own if row["kind"] == "slice"], ends)
        panels[0, column].set_title(_label(own[0]), fontsize=9)
        there = [row for row in surfaces if row["row"] == poison]
        for ax, end in zip(panels[1:, column], ends, strict=False):
            _contours(ax, there, end)
    panels[0, 0].set_ylabel("cross-entropy (nats)")
    for ax, end in zip(panels[1:, 0], ends, strict=False):
        ax.set_ylabel(f"{end}: second direction")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    figure.suptitle(
        f"{_whose(rows)}: poisoned training loss in random directions, in units of the filters' norms;\n"
        f"slices: mean ± sd of {_counts(rows)} pairs; surfaces: the first pair",
        fontsize=9,
    )
    return figure


def _slices(ax: Axes, rows: Sequence[Row], ends: Sequence[str]) -> None:
    for end, (tone, line) in zip(ends, ENDS, strict=True):
        own = [row for row in rows if row["end"] == end]
        x, mean = [row["t"] for row in own], _numbers(own, "loss_mean")
        std = np.nan_to_num(_numbers(own, "loss_std"))
        ax.plot(x, mean, color=tone, linestyle=line, linewidth=1.4, label=f"around the {end} solution")
        ax.fill_between(x, mean - std, mean + std, color=tone, alpha=0.15, lw=0)
    ax.set_xlabel("step along the direction")
    ax.set_ylim(bottom=0)
    _grid(ax)


def _contours(ax: Axes, rows: Sequence[Row], end: str) -> None:
    """Draw the surface around an end; levels are those of both ends together, evenly spaced in log loss."""
    own = {(row["t"], row["u"]): row["loss_mean"] for row in rows if row["end"] == end}
    losses = np.array([row["loss_mean"] for row in rows])
    steps = sorted({t for t, _ in own})
    if len(steps) < 2 or losses.min() <= 0 or losses.min() == losses.max():
        ax.set_axis_off()
        return
    levels = np.geomspace(losses.min(), losses.max(), LEVELS)
    grid = np.array([[own.get((t, u), np.nan) for t in steps] for u in steps])
    ax.contourf(steps, steps, grid, levels=levels, cmap="Greys", norm="log", alpha=0.6)
    lines = ax.contour(steps, steps, grid, levels=levels, colors="black", linewidths=0.6)
    ax.clabel(lines, fmt="%.2g", fontsize=6)
    ax.plot(0, 0, marker="+", color="black", markersize=7)
    ax.set_xlabel(f"{end}: first direction")
    ax.set_aspect("equal")


def _grid(ax: Axes) -> None:
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def _numbers(rows: Sequence[Row], name: str) -> Any:
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)


def _label(row: Row) -> str:
    return str(row["row"]).replace("N_p", "$N_p$")


def _whose(rows: Sequence[Row]) -> str:
    return f"{rows[0]['dataset']}, {rows[0]['model']}, {rows[0]['first']} to {rows[0]['second']}"


def _counts(rows: Sequence[Row]) -> str:
    return "/".join(map(str, sorted({row["n"] for row in rows if row["kind"] != "surface"})))

"""Where networks look, drawn: mean Grad-CAM maps over mean images, the poison's pixels framed; and the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.nn import functional as F

from mddes.report.figures import frame, show
from mddes.report.panel import Panel, Rows, kind
from mddes.report.style import (
    Row,
    counts,
    file_name,
    from_zero,
    inches,
    legend_below,
    numbers,
    ruled,
    typeset,
    unique,
    whose,
)

CLASSES_SHOWN = 10
PANEL = 1.0  # inches
LINES = (("clean", "clean"), ("clean", "poisoned"), ("poisoned", "clean"), ("poisoned", "poisoned"))
PARTS = {"near": "near the class's own poison (%)", "border": "on the border (%)"}
COLORS = "magma"  # from black to white in even steps of lightness: also readable in gray
OPAQUE = 0.75
SHADES = "the mean of the maps that are not zero, from 0 to its largest value; poison framed"


def gradcam_figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Draw, for each poison and network, the maps of every class; single images where asked for; and the shares."""
    figures = {}
    pictures = {row["class"]: np.array(row["picture"]) for row in rows if row["kind"] == "image"}
    for label, model in dict.fromkeys((row["row"], row["model"]) for row in rows if row["kind"] == "map"):
        own = [row for row in rows if row.get("row") == label and row.get("model") == model]
        name = file_name(f"{label}-{model}".replace(", N_p = ", "-np"))
        maps = [row for row in own if row["kind"] == "map" and row["class"] < CLASSES_SHOWN]
        figures[f"gradcam-{name}.png"] = _maps(maps, pictures)
        if singles := [row for row in own if row["kind"] == "single"]:
            figures[f"gradcam-singles-{name}.png"] = _singles(singles)
    for model in dict.fromkeys(row["model"] for row in rows if row["kind"] == "look"):
        own = [row for row in rows if row["kind"] == "look" and row["model"] == model]
        figures[f"gradcam-shares-{file_name(model)}.png"] = _shares(own)
    return figures


def _maps(rows: Sequence[Row], pictures: Mapping[int, np.ndarray]) -> Figure:
    """Draw a column for each class: its mean image, and over it the mean map of each network on each copy."""
    classes = sorted({row["class"] for row in rows})
    figure = Figure(figsize=(PANEL * len(classes) + 1.2, PANEL * 5 + 0.9), layout="constrained")
    axes = figure.subplots(5, len(classes), squeeze=False)
    for column, k in enumerate(classes):
        show(axes[0, column], pictures[k])
        axes[0, column].set_title(str(k), fontsize=9)
        for line, (network, copy) in enumerate(LINES, start=1):
            row = next(r for r in rows if (r["class"], r["network"], r["images"]) == (k, network, copy))
            _overlay(axes[line, column], pictures[k], row)
    labels = ("mean image", *(f"{network} network,\n{copy} images" for network, copy in LINES))
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label, fontsize=7)
    first = rows[0]
    of = f"{whose(rows)}, {typeset(first['row'])}"
    title = f"{of}: mean Grad-CAM of the true class, {_pairs(first)} of networks"
    figure.suptitle(f"{title};\n{SHADES}", fontsize=9)
    return figure


def _singles(rows: Sequence[Row]) -> Figure:
    """Draw a column for each image: itself, and over it the map of each network on each copy."""
    indices = list(dict.fromkeys(row["index"] for row in rows))
    figure = Figure(figsize=(max(5.4, 1.5 * len(indices) + 1.4), 7.6), layout="constrained")
    axes = figure.subplots(5, len(indices), squeeze=False)
    for column, index in enumerate(indices):
        own = {(row["network"], row["images"]): row for row in rows if row["index"] == index}
        show(axes[0, column], np.array(own[LINES[0]]["picture"]))
        axes[0, column].set_title(f"image {index}\nclass {own[LINES[0]]['class']}", fontsize=9)
        for line, place in enumerate(LINES, start=1):
            _overlay(axes[line, column], np.array(own[place]["picture"]), own[place])
    labels = ("test image", *(f"{network} network,\n{copy} image" for network, copy in LINES))
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label, fontsize=8)
    figure.suptitle(f"{whose(rows)}: Grad-CAM of the true class, the first pair of networks", fontsize=9)
    return figure


def _overlay(ax: Axes, picture: np.ndarray, row: Row, side: float = PANEL) -> None:
    """Lay a map over an image (C, H, W), the more opaque the larger it is, and frame the poison's pixels.

    The longer side of the picture is `side` inches, so that frames lie around their pixels. A map that is zero is no
    shade but the words "no map".
    """
    show(ax, picture)
    small = torch.tensor(row["map"], dtype=torch.float64)[None, None]
    grown = F.interpolate(small, size=picture.shape[1:], mode="bilinear", align_corners=False)[0, 0].numpy()
    top = grown.max()
    shade = grown / top if top > 0 else grown
    if top > 0:
        ax.imshow(shade, cmap=COLORS, vmin=0, vmax=1, alpha=OPAQUE, interpolation="nearest")
    else:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        y = 0.85 if np.mean(row["rows"]) > picture.shape[1] / 2 else 0.15  # away from the frames
        ax.text(0.5, y, "no map", transform=ax.transAxes, ha="center", va="center", fontsize=7, bbox=box)
    frame(ax, row["rows"], row["cols"], 72 * side / max(picture.shape[1:]))


def class_map(ax: Axes, rows: Rows) -> str:
    """Draw the mean map of one class, network and copy over the class's mean image; rows are both."""
    (picture,) = (np.array(row["picture"]) for row in rows if row["kind"] == "image")
    (row,) = (row for row in rows if row["kind"] == "map")
    _overlay(ax, picture, row, min(inches(ax)))
    return (
        f"{whose([row])}, {typeset(row['row'])}: mean Grad-CAM of class {row['class']}; {row['network']} network, "
        f"{row['images']} images, {_pairs(row)}; {SHADES}"
    )


def _pairs(row: Row) -> str:
    n = row.get("pairs", 1)  # results of before maps were averaged over pairs have those of one
    return "one pair" if n == 1 else f"{n} pairs"


def _shares(rows: Rows) -> Figure:
    """Draw the share of the maps near the poison's pixels, near random places and on the border, with every seed."""
    figure = Figure(figsize=(_width(rows), 6.2), layout="constrained")
    axes = figure.subplots(len(PARTS), 1, sharex=True)
    for ax, part in zip(axes, PARTS, strict=True):
        title = shares(ax, rows, part)
    legend_below(figure, axes, columns=3)
    figure.suptitle(title, fontsize=9)
    return figure


def shares(ax: Axes, rows: Rows, part: str) -> str:
    """Draw a share of the maps under every poison: mean ± sd of each network and copy, and every seed."""
    labels = unique(rows, "row")
    for i, (network, copy) in enumerate(LINES):
        own = [row for row in rows if (row["network"], row["images"]) == (network, copy)]
        x = [labels.index(row["row"]) + 0.18 * (i - 1.5) for row in own]
        for place, row in zip(x, own, strict=True):
            values = [100 * value for value in row[f"{part}_values"].values()]
            ax.plot([place] * len(values), values, "o", markersize=3, color="white", mec="black", mew=0.6, zorder=3)
        std = np.nan_to_num(numbers(own, f"{part}_std", 100))
        style: dict[str, Any] = {
            "marker": "s" if network == "clean" else "D",
            "color": "0.6" if copy == "clean" else "0.1",
        }
        label = f"{network} network, {copy} images"
        ax.errorbar(x, numbers(own, f"{part}_mean", 100), std, linestyle="", capsize=3, label=label, **style)
        if part == "near":
            style = {"label": "near random places" if i == 0 else "", "color": "0.3"}
            ax.plot(x, numbers(own, "null_mean", 100), "_", markersize=14, **style)
    ax.set_ylabel(f"share of Grad-CAM\n{PARTS[part]}")
    from_zero(ax)
    ax.set_xticks(range(len(labels)), [typeset(label).replace(", ", ",\n") for label in labels], fontsize=8)
    ruled(ax, "y")
    return f"{whose(rows)}: mean ± sd, each pair of networks (n = {counts(rows)})"


def _width(rows: Rows) -> float:
    return max(6.5, 2.5 + 1.6 * len(unique(rows, "row")))


PANELS = {
    "class-map": Panel(
        "mean Grad-CAM of a class over its mean image, the poison's pixels framed",
        class_map,
        kind("map", "image"),
        {"model": "model", "poison": "row", "true_class": "class", "network": "network", "images": "images"},
        size=lambda _: (3.6, 4.2),
    ),
    "shares": Panel(
        "share of the maps near the poison's pixels, or on the border: mean ± sd, each pair of networks",
        shares,
        kind("look"),
        {"model": "model"},
        {"part": lambda _: tuple(PARTS)},
        size=lambda rows: (_width(rows), 3.8),
        full=True,
    ),
}

"""The two figures of a search: its learning curve, and the poison on one image per class.

Both are drawn with matplotlib's object interface (no global state, no window), in gray with line styles and markers,
so that they survive a black-and-white printer.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mddes.data import ImageSet
from mddes.poison import Perturbation

PANELS = (
    ("fitness", "fitness $F$"),
    ("semantic_mismatch", "semantic mismatch $F_m$ (nats)"),
    ("domain_divergence", "domain divergence $F_d$"),
    ("clean_accuracy", "held-out clean accuracy"),
)
CLASSES_A_BLOCK = 10
DPI = 150


def learning_curve(generations: Path) -> Figure:
    """Draw fitness, F_m, F_d and held-out clean accuracy over generations from a generations.csv."""
    with generations.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for ax, (name, label) in zip(axes.flat, PANELS, strict=True):
        _curve(ax, rows, name)
        ax.set_ylabel(label)
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    for ax in axes[1]:
        ax.set_xlabel("generation")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def poison_examples(images: ImageSet, perturbation: Perturbation, class_names: Sequence[str]) -> Figure:
    """Draw the first image of every class clean, poisoned, and the difference, with the pixels framed."""
    first = np.array([int(np.flatnonzero(images.labels == k)[0]) for k in range(images.num_classes)])
    clean = images.subset(first)
    poisoned = perturbation.apply(clean)
    blocks = -(-len(first) // CLASSES_A_BLOCK)
    columns = min(len(first), CLASSES_A_BLOCK)
    figure = Figure(figsize=(1.05 * columns + 0.9, 3.6 * blocks + 0.5), layout="constrained")
    axes = figure.subplots(3 * blocks, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for k, name in enumerate(class_names):
        block, column = divmod(k, CLASSES_A_BLOCK)
        change = poisoned.images[k].astype(int) - clean.images[k]
        shades = ((change + 255) // 2).astype(np.uint8)
        for row, picture in enumerate((clean.images[k], poisoned.images[k], shades)):
            ax = axes[3 * block + row, column]
            _show(ax, picture)
            if row:
                _frame(ax, perturbation, k)
            if row == 0:
                ax.set_title(name, fontsize=9)
            if column == 0:
                ax.set_ylabel(("clean", "poisoned", "difference")[row])
    count = "1 pixel" if perturbation.pixels == 1 else f"{perturbation.pixels} pixels"
    figure.suptitle(f"{count} per class, mode {perturbation.mode}; in the difference, gray is no change", fontsize=11)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure; its ending names the format."""
    figure.savefig(path, dpi=DPI)


def _curve(ax: Axes, rows: Sequence[dict[str, str]], name: str) -> None:
    known = [row for row in rows if row[f"{name}_mean"]]
    x = [int(row["generation"]) for row in known]
    mean = np.array([float(row[f"{name}_mean"]) for row in known])
    std = np.array([float(row[f"{name}_std"] or 0) for row in known])
    best = [float(row[f"{name}_best"]) for row in known]
    ax.fill_between(x, mean - std, mean + std, color="0.82", label="± 1 sd of the candidates")
    ax.plot(x, mean, color="0.35", marker="o", markersize=3, label="mean of the generation")
    ax.plot(x, best, color="black", linestyle="--", marker="^", markersize=4, label="fittest candidate")


def _show(ax: Axes, picture: np.ndarray) -> None:
    ax.set_axis_on()
    ax.set_xticks([])
    ax.set_yticks([])
    if len(picture) == 1:
        ax.imshow(picture[0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        ax.imshow(picture.transpose(1, 2, 0), interpolation="nearest")


def _frame(ax: Axes, perturbation: Perturbation, k: int) -> None:
    """Frame class k's pixels: black on white, visible on any ground."""
    for row, col in zip(perturbation.rows[k], perturbation.cols[k], strict=True):
        for color, width in (("white", 2.2), ("black", 0.9)):
            x, y = col - 0.5, row - 0.5
            ax.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color=color, linewidth=width, clip_on=False)

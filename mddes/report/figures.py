"""The two figures of a search: its learning curve, and the poison on one image per class.

Both are drawn with matplotlib's object interface (no global state, no window), in the one style of `style.py`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.data import ImageSet
from mddes.errors import InputError
from mddes.poison import Perturbation
from mddes.report.style import Row, over_whole_numbers, ruled

CURVES = (
    ("fitness", "fitness $F$"),
    ("semantic_mismatch", "semantic mismatch $F_m$ (nats)"),
    ("domain_divergence", "domain divergence $F_d$"),
    ("clean_accuracy", "held-out clean accuracy"),
)
COUNTED = ("generation", "evaluations", "failed")
CLASSES_A_BLOCK = 10
CLASSES_SHOWN = 40
PANEL_INCHES, INCHES_A_PIXEL = 1.05, 0.06
NAME_LENGTH = 12
DPI = 150


def learning_curve(generations: Path) -> Figure:
    """Draw fitness, F_m, F_d and held-out clean accuracy over generations from a generations.csv."""
    rows = read_generations(generations)
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for ax, (name, _) in zip(axes.flat, CURVES, strict=True):
        over_generations(ax, rows, name)
    for ax in axes[0]:
        ax.set_xlabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def read_generations(path: Path) -> list[dict[str, str]]:
    """Return the rows of a generations.csv: numbers as text, empty where there is none.

    Raises:
        InputError: it is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if None in row.values():
                raise ValueError("a row that is cut off")
            for name in COUNTED:
                int(row[name])
            for name in (f"{curve}_{part}" for curve, _ in CURVES for part in ("mean", "std", "best")):
                float(row[name] or 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}): mddes resume writes it anew") from error
    return rows


def over_generations(ax: Axes, rows: Sequence[Row], name: str) -> str:
    """Draw a curve of `CURVES` over generations: mean and spread of the candidates, and the fittest one's value."""
    known = [row for row in rows if row[f"{name}_mean"]]
    x = [int(row["generation"]) for row in known]
    mean = np.array([float(row[f"{name}_mean"]) for row in known])
    std = np.array([float(row[f"{name}_std"] or 0) for row in known])
    best = [float(row[f"{name}_best"]) for row in known]
    ax.fill_between(x, mean - std, mean + std, color="0.82", label="± 1 sd of the candidates")
    ax.plot(x, mean, color="0.35", marker="o", markersize=3, label="mean of the generation")
    ax.plot(x, best, color="black", linestyle="--", marker="^", markersize=4, label="fittest candidate")
    ax.set_ylabel(dict(CURVES)[name])
    over_whole_numbers(ax, "generation")
    ruled(ax)
    n = "/".join(map(str, sorted({int(row["evaluations"]) - int(row["failed"]) for row in known})))
    return f"n = {n} candidates a generation, mean ± sd"


def poison_examples(images: ImageSet, perturbation: Perturbation, class_names: Sequence[str]) -> Figure:
    """Draw the first image of each of the first forty classes: clean, poisoned, difference, with the pixels framed."""
    shown = min(images.num_classes, CLASSES_SHOWN)
    first = np.array([int(np.flatnonzero(images.labels == k)[0]) for k in range(shown)])
    clean = images.subset(first)
    poisoned = perturbation.apply(clean)
    blocks, columns = -(-shown // CLASSES_A_BLOCK), min(shown, CLASSES_A_BLOCK)
    panel = max(PANEL_INCHES, INCHES_A_PIXEL * max(images.shape[1:]))
    figure = Figure(figsize=(max(panel * columns + 0.9, 4), 3.4 * panel * blocks + 0.5), layout="constrained")
    axes = figure.subplots(3 * blocks, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for k, name in enumerate(class_names[:shown]):
        block, column = divmod(k, CLASSES_A_BLOCK)
        change = poisoned.images[k].astype(int) - clean.images[k]
        shades = ((change + 255) // 2).astype(np.uint8)
        for row, picture in enumerate((clean.images[k], poisoned.images[k], shades)):
            ax = axes[3 * block + row, column]
            show(ax, picture)
            if row:
                rows, cols = perturbation.rows[k].tolist(), perturbation.cols[k].tolist()
                frame(ax, rows, cols, 72 * panel / max(images.shape[1:]))
            if row == 0:
                ax.set_title(_printable(name), fontsize=9, parse_math=False)
            if column == 0:
                ax.set_ylabel(("clean", "poisoned", "difference")[row])
    count = "1 pixel" if perturbation.pixels == 1 else f"{perturbation.pixels} pixels"
    of = f"; {shown} of {images.num_classes} classes" if shown < images.num_classes else ""
    title = f"{count} per class, mode {perturbation.mode}{of}; " + ("\n" if columns < 6 else "")
    figure.suptitle(f"{title}in the difference, gray is no change", fontsize=11)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, and beside it as SVG, which any size can be made of; the same numbers, the same bytes."""
    figure.savefig(path, dpi=DPI)
    with rc_context({"svg.hashsalt": "mddes"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def show(ax: Axes, picture: np.ndarray) -> None:
    """Show an image (C, H, W) uint8, pixel by pixel, without ticks."""
    ax.set_axis_on()
    ax.set_xticks([])
    ax.set_yticks([])
    if len(picture) == 1:
        ax.imshow(picture[0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        ax.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
    ax.autoscale(enable=False)  # frames reach beyond the picture


def frame(ax: Axes, rows: Sequence[int], cols: Sequence[int], points: float) -> None:
    """Frame pixels, each `points` wide: black in white, visible on any ground, and all outside the pixel."""
    for row, col in zip(rows, cols, strict=True):
        for color, width, away in (("white", 1.0, 1.2), ("black", 0.7, 0.35)):
            low, size = -0.5 - away / points, 1 + 2 * away / points
            x, y = col + low, row + low
            xs, ys = [x, x + size, x + size, x, x], [y, y, y + size, y + size, y]
            ax.plot(xs, ys, color=color, linewidth=width, clip_on=False, solid_joinstyle="miter")


def _printable(name: str) -> str:
    """Return a class name, as a title: no control characters, not too long."""
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= NAME_LENGTH else f"{text[: NAME_LENGTH - 1]}…"

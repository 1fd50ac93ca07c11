"""Where all classes' pixels lie: one grid of the image's size, a class's number at each of its pixels."""

from collections import defaultdict

import numpy as np
from matplotlib.axes import Axes

from mddes.poison import Perturbation
from mddes.report.style import inches

INCHES = 4.6


def map_size(perturbation: Perturbation) -> tuple[float, float]:
    """Return the size of a map, in inches."""
    _, height, width = perturbation.image_shape
    return INCHES * width / max(height, width) + 1, INCHES


def perturbation_map(ax: Axes, perturbation: Perturbation) -> str:
    """Draw a perturbation: each pixel in the shade of its value (the mean over channels), with its classes.

    Where several classes share a pixel, the shade is that of their mean.
    """
    _, height, width = perturbation.image_shape
    low = 0 if perturbation.mode == "set" else -255
    shades = np.full((height, width), np.nan)
    classes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for k, (rows, cols, values) in enumerate(
        zip(perturbation.rows, perturbation.cols, perturbation.values, strict=True)
    ):
        for row, col, value in zip(rows.tolist(), cols.tolist(), values, strict=True):
            own = classes[row, col]
            before = shades[row, col] * len(own) if own else 0.0
            own.append(k)
            shades[row, col] = (before + value.mean()) / len(own)
    ax.set_facecolor("0.93")
    image = ax.imshow(shades, cmap="gray", vmin=low, vmax=255, interpolation="nearest")
    cell = 72 * min(inches(ax)[0] / width, inches(ax)[1] / height)  # points
    size = max(4.0, min(9.0, 0.55 * cell))
    for (row, col), own in classes.items():
        light = (shades[row, col] - low) / (255 - low) > 0.55
        text = ",".join(map(str, own))
        ax.text(
            col,
            row,
            text,
            color="black" if light else "white",
            ha="center",
            va="center",
            fontsize=size * min(1, 2 / len(text)),
        )
        ax.plot(
            [col - 0.5, col + 0.5, col + 0.5, col - 0.5, col - 0.5],
            [row - 0.5, row - 0.5, row + 0.5, row + 0.5, row - 0.5],
            color="0.2",
            linewidth=0.5,
        )
    ax.set(xlabel="column", ylabel="row", xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    label = "value" if perturbation.mode == "set" else "value added"
    ax.figure.colorbar(image, ax=ax, label=f"{label} (8 bit)", shrink=0.85)
    pixels = "1 pixel" if perturbation.pixels == 1 else f"{perturbation.pixels} pixels"
    return f"{pixels} a class, mode {perturbation.mode}; numbers are classes"

"""Where all classes' pixels lie: one grid of the image's size, a class's number at each of its pixels."""

from collections import defaultdict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.poison import Perturbation

INCHES = 4.6


def perturbation_map(perturbation: Perturbation, ax: Axes | None = None) -> Figure:
    """Draw a perturbation: each pixel in the shade of its value (the mean over channels), with its classes.

    Where several classes share a pixel, the shade is that of their mean.

    Args:
        perturbation: what to draw.
        ax: draw here; default a figure of its own.

    Returns:
        The figure that `ax` belongs to.
    """
    _, height, width = perturbation.image_shape
    if ax is None:
        ax = Figure(figsize=(INCHES * width / max(height, width) + 1, INCHES), layout="constrained").subplots()
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
    for (row, col), own in classes.items():
        light = (shades[row, col] - low) / (255 - low) > 0.55
        size = max(4.0, min(9.0, 150 / max(height, width)))
        text = ",".join(map(str, own))
        ax.text(col, row, text, color="black" if light else "white", ha="center", va="center", fontsize=size)
        ax.plot(
            [col - 0.5, col + 0.5, col + 0.5, col - 0.5, col - 0.5],
            [row - 0.5, row - 0.5, row + 0.5, row + 0.5, row - 0.5],
            color="0.2",
            linewidth=0.5,
        )
    ax.set(xlabel="column", ylabel="row", xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.colorbar(image, ax=ax, label="value" if perturbation.mode == "set" else "value added", shrink=0.85)
    return figure

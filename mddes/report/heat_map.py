"""A heat map of rank correlations: Kendall's tau-b of every two of some quantities, its value in every cell.

Lower triangle only; the two ends of the map are both dark in gray, so every value has its sign. Colours: PuOr of
ColorBrewer, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from mddes.report.style import inches

COLORS = "PuOr_r"  # from -1, brown in PuOr's other order, over white to 1
LUMA = (0.299, 0.587, 0.114)
DARK = 0.5
READABLE = 3.0  # points; numbers below are left out
BESIDE = (2.1, 1.4)  # inches that names and colour bar take, across and upwards

Pair = tuple[str, str]


def heat_map(ax: Axes, names: Mapping[str, str], found: Mapping[Pair, tuple[float | None, int]]) -> str:
    """Draw tau of every pair of names.

    Args:
        ax: where.
        names: of the quantities, in order, and how they are written.
        found: tau (-1 .. 1; None where it is undefined) and n of (first, second), in either order.

    Returns:
        The title: n, and what hatching means where there is any.
    """
    keys = list(names)
    rows, columns = keys[1:], keys[:-1]
    cells = np.full((len(rows), len(columns)), np.nan)
    usual = _usual([n for _, n in found.values()])
    cell = _cell(ax, len(rows))
    size, small = min(10.0, 0.36 * cell), min(8.0, 0.8 * cell)
    scale, colors = Normalize(-1, 1), mpl.colormaps[COLORS]
    hatched = False
    for i, row in enumerate(rows):
        for j, column in enumerate(columns[: i + 1]):
            tau, n = found.get((column, row)) or found.get((row, column)) or (None, 0)
            if tau is None:
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="0.95", edgecolor="0.4", hatch="////", lw=0))
                hatched = True
                continue
            cells[i, j] = tau
            ink = "white" if np.dot(colors(scale(tau))[:3], LUMA) < DARK else "black"
            text = _short(tau) + (f"\nn = {n}" if n != usual else "")
            if size < READABLE:
                text = "" if _short(tau) == "0" else _short(tau)[0]
            fitting = 0.6 * cell if size < READABLE else size if n == usual else 0.7 * size
            ax.text(j, i, text, color=ink, ha="center", va="center", fontsize=fitting)
    image = ax.imshow(cells, cmap=colors, norm=scale, interpolation="nearest")
    ax.set_xticks(range(len(columns)), [names[key] for key in columns], rotation=40, ha="right", fontsize=small)
    ax.set_yticks(range(len(rows)), [names[key] for key in rows], fontsize=small)
    ax.spines[["top", "right"]].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label="Kendall's $\\tau_b$", shrink=0.7)
    signs = "; too small for numbers, so signs only" if size < READABLE else ""
    return f"n = {usual} solutions" + ("; hatched: undefined" if hatched else "") + signs


def _cell(ax: Axes, n: int) -> float:
    """Return about how wide one of n cells a side will be, in points: the figure is not laid out yet."""
    free = (1.25 * side - beside for side, beside in zip(inches(ax), BESIDE, strict=True))
    return max(6.0, 72 * min(free) / n)


def _usual(counts: Sequence[int]) -> int:
    """Return the number that most pairs have; the larger of two equally frequent ones."""
    return max(sorted(set(counts), reverse=True), key=list(counts).count, default=0)


def _short(tau: float) -> str:
    """Return tau with its sign and without the zero that all share.

    >>> _short(0.526), _short(-1.0), _short(-0.001)
    ('+.53', '−1.0', '0')
    """
    text = f"{tau:+.2f}".replace("0.", ".", 1) if abs(tau) < 0.995 else f"{tau:+.1f}"
    return "0" if text in ("+.00", "-.00") else text.replace("-", "−")

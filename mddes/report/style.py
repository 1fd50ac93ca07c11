"""One style for all figures: gray tones, hatches, markers and small type that survive a black-and-white printer.

No global state is set, so a panel looks the same on a reader's own figure. Read next: `panel.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Row = Mapping[str, Any]

GRAYS = ("0.25", "0.55", "0.75", "0.9")
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "oo", "||")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SMALL, TICKS, TITLE = 7, 8, 9  # points
PIXELS = re.compile(r", N_p = (\d+)$")  # the end of a row's label
ACCURACY, CLEAN_ACCURACY, ERROR = "accuracy (%)", "clean test accuracy (%)", "test error (%)"


def ruled(ax: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Draw a faint grid behind everything."""
    ax.grid(axis=axis, color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def over_whole_numbers(ax: Axes, label: str) -> None:
    """Label the x axis, with whole numbers only."""
    ax.set_xlabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def from_zero(ax: Axes) -> None:
    """Let the y axis begin at 0, with room for marks above the largest value."""
    top = 1.06 * float(ax.dataLim.y1)
    ax.set_ylim(0, top if 0 < top < np.inf else None)


def slanted(ax: Axes, names: Sequence[Any], degrees: float = 40, places: Sequence[float] | None = None) -> None:
    """Write names under places of the x axis: 0, 1, ..., if none are given."""
    at = range(len(names)) if places is None else places
    ax.set_xticks(at, [typeset(name) for name in names], rotation=degrees, ha="right", fontsize=TICKS)


def level(ax: Axes, row: Row) -> None:
    """Draw what the largest class alone would reach."""
    ax.axhline(100 * row["majority"], color="0.4", linestyle=":", linewidth=1, label="largest class alone")


def singles(ax: Axes, x: float, values: Sequence[float], size: float = 2.5) -> None:
    """Draw each network of a bar as an open dot."""
    style: dict[str, Any] = {"markersize": size, "color": "white", "mec": "black", "mew": 0.16 * size}
    ax.plot(np.full(len(values), x), values, "o", zorder=3, **style)


def tone(i: int, n: int, lightest: float = 0.75) -> str:
    """Return the i-th of n gray tones from black."""
    return str(lightest * i / max(1, n - 1))


def marker(i: int) -> str:
    """Return the i-th marker."""
    return MARKERS[i % len(MARKERS)]


def unique(rows: Iterable[Row], name: str) -> list[Any]:
    """Return what rows have under a name, each once, in order."""
    return list(dict.fromkeys(row[name] for row in rows))


def numbers(rows: Sequence[Row], name: str, times: float = 1.0) -> Any:
    """Return a column, (n,) float64; NaN where there is none."""
    return times * np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)


def typeset(name: Any) -> str:
    r"""Return a name as it is written in figures: no markup of its own, on one line.

    matplotlib leaves labels that begin with _ out of legends.

    >>> print(typeset("uniform, N_p = 2"), typeset("a$b$"), typeset("TRAIN_poison"), typeset("_mine"))
    uniform, $N_p$ = 2 a\$b\$ TRAIN_poison $\_$mine
    """
    text = "".join(letter if letter.isprintable() else " " for letter in str(name)).replace("$", r"\$")
    text = PIXELS.sub(r", $N_p$ = \1", text)
    return rf"$\_${text[1:]}" if text.startswith("_") else text


def whose(rows: Sequence[Row]) -> str:
    """Return whose results rows are: data set and network."""
    return f"{typeset(rows[0]['dataset'])}, {typeset(rows[0]['model'])}"


def counts(rows: Iterable[Row]) -> str:
    """Return the numbers n that rows have.

    >>> counts([{"n": 3}, {"n": 2}, {"n": 3}, {"n": 0}]), counts([{"n": 0}])
    ('2/3', '0')
    """
    return "/".join(map(str, sorted({row["n"] for row in rows if row["n"]}))) or "0"


def file_name(name: str) -> str:
    """Return a name as part of a file's."""
    return re.sub(r"[^\w.-]", "_", name)


def figure_of(ax: Axes) -> Figure:
    """Return the figure that an axis belongs to, also where it is in a part of one."""
    figure = ax.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of an axis, as far as they are known before the figure is laid out."""
    return ax.bbox.width / figure_of(ax).dpi, ax.bbox.height / figure_of(ax).dpi


def legend_below(figure: Figure, axes: Iterable[Axes], columns: int = 5) -> None:
    """Draw one legend for several axes under them; what several name stands once."""
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        style: dict[str, Any] = {"ncols": columns, "fontsize": SMALL, "frameon": False}
        figure.legend([*named.values()], [*named], loc="outside lower center", **style)

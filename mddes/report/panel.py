"""A panel: one drawing on one axis, the rows it needs and the choices it takes.

What paints a panel draws marks and axis labels and returns a title, which says what is shown, n and the spread. Figures
of several panels have titles and a legend of their own; a panel that stands alone (`alone`) has both on its axis. Each
module of a kind of run lists its panels as PANELS; `mddes.drawing` offers them.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.errors import InputError, look_up
from mddes.report.style import SMALL, TITLE, Row, figure_of, inches, legend_below

__all__ = ["Axes", "Figure", "Panel", "Rows", "alone", "kind"]  # the first two: types of the public `mddes.drawing`

Rows = Sequence[Row]
LETTER, SMALL_LETTER, HANDLE = 0.066, 0.05, 0.45  # inches: letters of titles and of legends, and a legend's mark
UNBROKEN = (" = ", " %", "± ")  # no line of a title ends within these
SIZE = (5.6, 4.2)


def kind(*names: str) -> Callable[[Rows], list[Row]]:
    """Return what keeps rows of these kinds."""
    return lambda rows: [row for row in rows if row["kind"] in names]


@dataclass(frozen=True)
class Panel:
    """A drawing on one axis.

    Attributes:
        shows: one line.
        paint: takes axis, rows and `own` choices; draws, and returns the title.
        prepare: from all rows of a run to those that are painted; none of them: the run has no such panel.
        choices: names of choices, and of the rows' fields that they choose; a row without the field suits every choice.
        own: names of choices that `paint` takes itself, and their values, from the rows.
        size: of a figure of its own, in inches, from the rows.
        pad: points between axis and title.
        full: it fills its axis: a legend on it needs room.
    """

    shows: str
    paint: Callable[..., str]
    prepare: Callable[[Rows], Rows]
    choices: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, Callable[[Rows], Sequence[str]]] = field(default_factory=dict)
    size: Callable[[Rows], tuple[float, float]] = lambda _: SIZE
    pad: float = 6.0
    full: bool = False

    def values(self, rows: Rows) -> dict[str, dict[str, Any]]:
        """Return the choices there are in prepared rows: what is written, and the value it stands for."""
        found = {
            name: {str(row[key]): row[key] for row in rows if key in row and row[key] is not None}
            for name, key in self.choices.items()
        }
        return found | {name: {value: value for value in values(rows)} for name, values in self.own.items()}

    def pick(self, rows: Rows, chosen: Mapping[str, Any]) -> tuple[Rows, dict[str, Any]]:
        """Return the rows and own choices of what is chosen; the first of what is left open.

        Raises:
            InputError: an unknown choice or value.
            LookupError: rows without what is to be chosen from.
        """
        for name in chosen:
            if not self.choices and not self.own:
                raise InputError(f"this panel takes no choices, and so no {name!r}")
            look_up("choice of this panel", name, self.values(rows))
        taken: dict[str, Any] = {}
        for name in (*self.choices, *self.own):
            there = self.values(rows)[name]
            if not there:
                raise LookupError(f"no row names its {self.choices.get(name, name)}")
            value = look_up(name, str(chosen[name]), there) if name in chosen else next(iter(there.values()))
            if name in self.own:
                taken[name] = value
            else:
                rows = [row for row in rows if row.get(self.choices[name], value) == value]
        return rows, taken


def alone(panel: Panel, rows: Rows, ax: Axes | None = None, **own: Any) -> Figure:
    """Draw a panel with title and legend.

    Args:
        panel: what to draw.
        rows: prepared, and of one choice.
        ax: draw here, a rectilinear axis; default a figure of its own.
        own: the panel's own choices.

    Returns:
        The figure that the axis belongs to.

    Raises:
        InputError: `ax` is no axis, or not a rectilinear one.
    """
    place = Figure(figsize=panel.size(rows), layout="constrained").subplots() if ax is None else _checked(ax)
    place.set_title(_wrapped(panel.paint(place, rows, **own), place), fontsize=TITLE, pad=panel.pad)
    if ax is None:
        legend_below(figure_of(place), [place], columns=3)
    elif labels := place.get_legend_handles_labels()[1]:
        _legend_inside(place, labels, panel.full)
    return figure_of(place)


def _checked(ax: Any) -> Axes:
    if isinstance(ax, Axes) and ax.name == "rectilinear":
        return ax
    what = f"a {ax.name} one" if isinstance(ax, Axes) else f"a {type(ax).__name__}"
    raise InputError(f"ax must be one plain axis, as plt.subplots() makes it or axes[0] of several, not {what}")


def _wrapped(title: str, ax: Axes) -> str:
    for text in UNBROKEN:
        title = title.replace(text, text.replace(" ", "\xa0"))
    lines = textwrap.wrap(title, max(20, int(inches(ax)[0] / LETTER)))
    return "\n".join(lines).replace("\xa0", " ")


def _legend_inside(ax: Axes, labels: Sequence[str], full: bool) -> None:
    if not full:
        ax.legend(loc="best", fontsize=SMALL, framealpha=0.7)
        return
    columns = int(1.15 * inches(ax)[0] / (HANDLE + SMALL_LETTER * max(map(len, labels))))
    columns = max(1, min(3, columns))
    _make_room(ax, -(-len(labels) // columns))
    ax.legend(loc="upper center", ncols=columns, fontsize=SMALL, framealpha=0.7)


def _make_room(ax: Axes, lines: int) -> None:
    """Raise the top of an axis for a legend; the ticks stay where they are."""
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    share = min(0.5, (0.15 + 0.17 * lines) / inches(ax)[1])
    ax.set_ylim(low, low + (high - low) / (1 - share))
    ax.set_yticks(ticks)

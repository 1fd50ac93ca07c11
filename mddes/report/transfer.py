"""The figure of a study of transfer: clean test accuracy under every poison, with intervals.

Bars of one N_p stand together, under its name, since that is what is compared; those without one (clean training, other
people's images) come first.
"""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.report.panel import Panel, Rows
from mddes.report.style import (
    CLEAN_ACCURACY,
    GRAYS,
    HATCHES,
    TICKS,
    TITLE,
    Row,
    counts,
    legend_below,
    level,
    ruled,
    singles,
    slanted,
    typeset,
    unique,
    whose,
)
from mddes.studies.transfer import CONSTRUCTED

TONES = {"clean": 0, **dict.fromkeys(CONSTRUCTED, 1), "random-search": 2}
APART = 0.7  # between the bars of two N_p, in bars
NAMES = 105.0  # where their names stand, in percent
Place = tuple[str, int | None]  # a poison and its N_p


def transfer_figures(rows: Rows) -> dict[str, Figure]:
    """Draw clean test accuracy under every poison: a panel for each network, bars with 95 % intervals."""
    models, places = unique(rows, "model"), _places(rows)
    figure = Figure(figsize=(_width(rows), 1.3 + 2.4 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), 1, sharex=True, squeeze=False)[:, 0]
    for ax, model in zip(panels, models, strict=True):
        bars(ax, [row for row in rows if row["model"] == model], places)
        ax.set_ylabel(f"{typeset(model)}\n{CLEAN_ACCURACY}")
    legend_below(figure, panels)
    told = f"mean, 95 % interval, each training (n = {counts(rows)} a bar)"
    figure.suptitle(f"{typeset(rows[0]['dataset'])}: {told}", fontsize=TITLE)
    return {"transfer.png": figure}


def bars(ax: Axes, rows: Rows, places: Mapping[Place, float] | None = None) -> str:
    """Draw the rows of one network: a bar for each poison, in these places, if they are given."""
    places = places or _places(rows)
    for row in rows:
        _bar(ax, places[_place(row)], row)
    level(ax, rows[0])
    ax.set(ylabel=CLEAN_ACCURACY, ylim=(0, 112), yticks=range(0, 101, 20))
    slanted(ax, [poison for poison, _ in places], places=list(places.values()))
    _name_pixels(ax, places)
    ax.margins(x=0.02)
    ruled(ax, "y")
    return f"{whose(rows)}: mean, 95 % interval, each training (n = {counts(rows)} a bar)"


def _name_pixels(ax: Axes, places: Mapping[Place, float]) -> None:
    """Write each N_p over the middle of its bars, and a line between the bars of two."""
    for pixels in dict.fromkeys(pixels for _, pixels in places):
        own = [x for (_, n), x in places.items() if n == pixels]
        if own[0] > 0:
            ax.axvline(own[0] - (1 + APART) / 2, color="0.7", linewidth=0.8)
        if pixels is not None:
            middle = (own[0] + own[-1]) / 2
            ax.text(middle, NAMES, f"$N_p$ = {pixels}", ha="center", va="center", fontsize=TICKS)


def _bar(ax: Axes, x: float, row: Row) -> None:
    if row["clean_test_accuracy_mean"] is None:
        return
    k = TONES.get(row["poison"], 3)
    mean = 100 * row["clean_test_accuracy_mean"]
    ax.bar(x, mean, width=0.7, color=GRAYS[k], edgecolor="black", linewidth=0.6, hatch=HATCHES[k])
    if row["clean_test_accuracy_low"] is not None:
        low, high = 100 * row["clean_test_accuracy_low"], 100 * row["clean_test_accuracy_high"]
        ax.errorbar(x, mean, [[mean - low], [high - mean]], color="black", capsize=3, linewidth=1)
    singles(ax, x, [100 * accuracy for accuracy in row["accuracies"]])


def _place(row: Row) -> Place:
    return str(row["poison"]), row["pixels"]


def _places(rows: Rows) -> dict[Place, float]:
    """Return where each bar stands: by N_p, and within it as in the rows."""
    found: dict[Place, float] = {}
    x, before = 0.0, None
    for place in sorted(dict.fromkeys(map(_place, rows)), key=lambda place: place[1] or 0):
        if found:
            x += 1 if place[1] == before else 1 + APART
        found[place], before = x, place[1]
    return found


def _width(rows: Rows) -> float:
    return max(5.0, 1.9 + 0.36 * max(_places(rows).values()))


PANELS = {
    "bars": Panel(
        "clean test accuracy under every poison: mean, 95 % interval, each network",
        bars,
        list,
        {"model": "model"},
        size=lambda rows: (_width(rows), 3.7),
        full=True,
    )
}

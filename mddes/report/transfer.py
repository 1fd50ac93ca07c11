"""The figure of a study of transfer: clean test accuracy under every poison, with intervals."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.report.panel import Panel, Rows
from mddes.report.style import (
    CLEAN_ACCURACY,
    GRAYS,
    HATCHES,
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

TONES = {"clean": 0, "uniform": 1, "left-column": 1, "random-search": 2}


def transfer_figures(rows: Rows) -> dict[str, Figure]:
    """Draw clean test accuracy under every poison: a panel for each network, bars with 95 % intervals."""
    models, labels = unique(rows, "model"), _labels(rows)
    figure = Figure(figsize=(_width(labels), 1.3 + 2.4 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), 1, sharex=True, squeeze=False)[:, 0]
    for ax, model in zip(panels, models, strict=True):
        bars(ax, [row for row in rows if row["model"] == model], labels)
        ax.set_ylabel(f"{typeset(model)}\n{CLEAN_ACCURACY}")
    legend_below(figure, panels)
    told = f"mean, 95 % interval, each training (n = {counts(rows)} a bar)"
    figure.suptitle(f"{typeset(rows[0]['dataset'])}: {told}", fontsize=TITLE)
    return {"transfer.png": figure}


def bars(ax: Axes, rows: Rows, labels: Sequence[str] = ()) -> str:
    """Draw the rows of one network: a bar for each poison, in the places of `labels`, if they are given."""
    labels = labels or _labels(rows)
    for row in rows:
        _bar(ax, labels.index(_label(row)), row)
    level(ax, rows[0])
    ax.set(ylabel=CLEAN_ACCURACY, ylim=(0, 100))
    slanted(ax, labels)
    ruled(ax, "y")
    return f"{whose(rows)}: mean, 95 % interval, each training (n = {counts(rows)} a bar)"


def _bar(ax: Axes, x: int, row: Row) -> None:
    if row["clean_test_accuracy_mean"] is None:
        return
    k = TONES.get(row["poison"], 3)
    mean = 100 * row["clean_test_accuracy_mean"]
    ax.bar(x, mean, width=0.7, color=GRAYS[k], edgecolor="black", linewidth=0.6, hatch=HATCHES[k])
    if row["clean_test_accuracy_low"] is not None:
        low, high = 100 * row["clean_test_accuracy_low"], 100 * row["clean_test_accuracy_high"]
        ax.errorbar(x, mean, [[mean - low], [high - mean]], color="black", capsize=3, linewidth=1)
    singles(ax, x, [100 * accuracy for accuracy in row["accuracies"]])


def _labels(rows: Rows) -> list[str]:
    return list(dict.fromkeys(_label(row) for row in rows))


def _label(row: Row) -> str:
    return str(row["poison"]) if row["pixels"] is None else f"{row['poison']}, N_p = {row['pixels']}"


def _width(labels: Sequence[str]) -> float:
    return max(5.0, 1.5 + 0.42 * len(labels))


PANELS = {
    "bars": Panel(
        "clean test accuracy under every poison: mean, 95 % interval, each network",
        bars,
        list,
        {"model": "model"},
        size=lambda rows: (_width(_labels(rows)), 3.7),
        full=True,
    )
}

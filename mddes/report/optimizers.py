"""The figures of a study of optimizers: bars at the chosen learning rates, the sweeps they were chosen from, epochs."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.report.panel import Panel, Rows, kind
from mddes.report.style import (
    ACCURACY,
    CLEAN_ACCURACY,
    GRAYS,
    HATCHES,
    TITLE,
    counts,
    file_name,
    legend_below,
    level,
    marker,
    numbers,
    over_whole_numbers,
    ruled,
    singles,
    slanted,
    tone,
    typeset,
    unique,
    whose,
)

SELECTIONS = {
    "poisoned": "chosen on poisoned data",
    "clean": "chosen by an oracle on clean data",
    "default": "left at the default",
}
JUDGED = (("clean_test_accuracy_mean", "-", True), ("held_out_poisoned_accuracy", ":", False))


def optimizers_figures(rows: Rows) -> dict[str, Figure]:
    """Draw, for each network, clean accuracy of the tuned optimizers under every poison, of every rate and epoch."""
    figures = {}
    for model in unique(rows, "model"):
        own = [row for row in rows if row["model"] == model]
        figures[f"optimizers-{file_name(model)}.png"] = _chosen([row for row in own if row["kind"] == "chosen"])
        figures[f"rates-{file_name(model)}.png"] = _sweeps([row for row in own if row["kind"] == "sweep"])
        if after := _with_epochs(own):
            figures[f"epochs-{file_name(model)}.png"] = _epochs(after)
    return figures


def _chosen(rows: Rows) -> Figure:
    """Draw a panel for each way to choose."""
    ways = _ways(rows)
    figure = Figure(figsize=(_width(rows), 3.2 * len(ways)), layout="constrained")
    panels = figure.subplots(len(ways), 1, sharex=True, squeeze=False).flat
    for ax, way in zip(panels, ways, strict=True):
        bars(ax, [row for row in rows if row["selection"] == way])
        ax.set_title(SELECTIONS[way], fontsize=TITLE)
    legend_below(figure, figure.axes)
    figure.suptitle(f"{whose(rows)}: mean, 95 % interval, each network (n = {counts(rows)} a bar)", fontsize=TITLE)
    return figure


def bars(ax: Axes, rows: Rows) -> str:
    """Draw the rows of one way to choose: groups are poisons, bars are optimizers with 95 % intervals."""
    poisons, names = unique(rows, "row"), unique(rows, "optimizer")
    width = 0.85 / len(names)
    labelled = set()
    for row in rows:
        if row["clean_test_accuracy_mean"] is None:
            continue
        i = names.index(row["optimizer"])
        x = poisons.index(row["row"]) + (i - (len(names) - 1) / 2) * width
        mean, low, high = (100 * (row[f"clean_test_accuracy_{end}"] or 0.0) for end in ("mean", "low", "high"))
        style: dict[str, Any] = {"color": GRAYS[i % 4], "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "black"}
        label = None if i in labelled else typeset(row["optimizer"])
        ax.bar(x, mean, width, linewidth=0.5, label=label, **style)
        labelled.add(i)
        if row["clean_test_accuracy_low"] is not None:
            ax.errorbar(x, mean, [[mean - low], [high - mean]], color="black", capsize=1.5, linewidth=0.8)
        singles(ax, x, [100 * accuracy for accuracy in row["accuracies"]], 1.8)
    level(ax, rows[0])
    ax.set(ylim=(0, 100), ylabel=CLEAN_ACCURACY)
    slanted(ax, poisons, 20)
    ruled(ax, "y")
    way = SELECTIONS[rows[0]["selection"]]
    return f"{whose(rows)}, rates {way}: mean, 95 % interval, each network (n = {counts(rows)} a bar)"


def _sweeps(rows: Rows) -> Figure:
    """Draw a panel for each poison."""
    poisons = unique(rows, "row")
    columns = min(3, len(poisons))
    lines = -(-len(poisons) // columns)
    figure = Figure(figsize=(1.0 + 3.2 * columns, 0.8 + 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flat
    for ax, poison in zip(panels, poisons, strict=False):
        rates(ax, [row for row in rows if row["row"] == poison])
        ax.set_ylabel("")
        ax.set_title(typeset(poison), fontsize=TITLE)
    figure.supylabel(ACCURACY, fontsize=TITLE)
    legend_below(figure, figure.axes[: len(poisons)])
    for ax in figure.axes[len(poisons) :]:
        ax.set_visible(False)
    title = f"{whose(rows)}: filled, on clean test images; open, on poisoned held-out images (n = {counts(rows)})"
    figure.suptitle(title, fontsize=TITLE)
    return figure


def rates(ax: Axes, rows: Rows) -> str:
    """Draw the rows of one poison: clean test accuracy and poisoned held-out accuracy over the learning rate."""
    names = unique(rows, "optimizer")
    for i, name in enumerate(names):
        own = sorted((row for row in rows if row["optimizer"] == name), key=lambda row: float(row["lr"]))
        shade = tone(i, len(names), 0.7)
        for field, line, filled in JUDGED:
            style: dict[str, Any] = {"marker": marker(i), "markersize": 3.5, "mfc": shade if filled else "none"}
            label = typeset(name) if filled else None
            ax.plot([r["lr"] for r in own], numbers(own, field, 100), line, color=shade, lw=1, label=label, **style)
    ax.set(xscale="log", ylim=(0, 102), xlabel="learning rate", ylabel=ACCURACY)
    ruled(ax)
    return (
        f"{whose(rows)}, {typeset(rows[0]['row'])}: means; filled, on clean test images; open, on poisoned "
        f"held-out images (n = {counts(rows)})"
    )


def _with_epochs(rows: Rows) -> Rows:
    """Return the rows of chosen rates after every checkpoint and after the last epoch; none without checkpoints."""
    found = [{**row, "epoch": row["epoch"] or row.get("epochs")} for row in rows if row["kind"] in ("chosen", "epoch")]
    return found if any(row["kind"] == "epoch" for row in found) and all(row["epoch"] for row in found) else []


def _epochs(rows: Rows) -> Figure:
    """Draw a line of panels for each way to choose, a panel for each poison."""
    poisons, ways = unique(rows, "row"), _ways(rows)
    figure = Figure(figsize=(1.0 + 2.4 * len(poisons), 2.8 * len(ways)), layout="constrained")
    panels = figure.subplots(len(ways), len(poisons), sharex=True, sharey=True, squeeze=False)
    for line, way in zip(panels, ways, strict=True):
        for ax, poison in zip(line, poisons, strict=True):
            epochs(ax, [row for row in rows if row["selection"] == way and row["row"] == poison])
            ax.set_ylabel("")
            ax.set_title(f"{typeset(poison)}\n{SELECTIONS[way]}", fontsize=TITLE - 1)
    figure.supylabel(CLEAN_ACCURACY, fontsize=TITLE)
    legend_below(figure, figure.axes)
    figure.suptitle(f"{whose(rows)}: mean ± sd of {counts(rows)} networks", fontsize=TITLE)
    return figure


def epochs(ax: Axes, rows: Rows) -> str:
    """Draw the rows of one poison and one way to choose: clean test accuracy over the epochs, mean ± sd."""
    names = unique(rows, "optimizer")
    for i, name in enumerate(names):
        own = sorted((row for row in rows if row["optimizer"] == name), key=lambda row: int(row["epoch"]))
        mean, std = (numbers(own, f"clean_test_accuracy_{what}", 100) for what in ("mean", "std"))
        x = [row["epoch"] + 0.06 * (i - (len(names) - 1) / 2) for row in own]  # beside each other
        style: dict[str, Any] = {"marker": marker(i), "markersize": 3.5, "capsize": 2, "linewidth": 1}
        ax.errorbar(x, mean, np.nan_to_num(std), color=tone(i, len(names), 0.7), label=typeset(name), **style)
    ax.set(ylim=(0, 102), ylabel=CLEAN_ACCURACY)
    over_whole_numbers(ax, "epoch")
    ruled(ax)
    way = SELECTIONS[rows[0]["selection"]]
    return f"{whose(rows)}, {typeset(rows[0]['row'])}, rates {way}: mean ± sd of {counts(rows)} networks"


def _ways(rows: Rows) -> list[str]:
    return [way for way in SELECTIONS if any(row["selection"] == way for row in rows)]


def _width(rows: Rows) -> float:
    return max(6.0, 1.2 + 0.17 * len(unique(rows, "row")) * (len(unique(rows, "optimizer")) + 2))


PANELS = {
    "bars": Panel(
        "clean test accuracy of each tuned optimizer under every poison: mean, 95 % interval, each network",
        bars,
        kind("chosen"),
        {"model": "model", "selection": "selection"},
        size=lambda rows: (_width(rows), 4.0),
        full=True,
    ),
    "rates": Panel(
        "accuracy of each optimizer over its learning rate, on clean test and on poisoned held-out images",
        rates,
        kind("sweep"),
        {"model": "model", "poison": "row"},
    ),
    "epochs": Panel(
        "clean test accuracy of each tuned optimizer over the epochs: mean, standard deviation",
        epochs,
        _with_epochs,
        {"model": "model", "selection": "selection", "poison": "row"},
    ),
}

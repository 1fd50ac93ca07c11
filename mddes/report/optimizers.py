"""The figures of a study of optimizers: bars at the chosen learning rates, and the sweeps they were chosen from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mddes.report.studies import GRAYS, HATCHES, MARKERS, file_name

Row = Mapping[str, Any]
SELECTIONS = {"poisoned": "chosen on poisoned data", "clean": "chosen by an oracle on clean data"}


def optimizers_figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Draw, for each network, clean test accuracy of the tuned optimizers under every poison, and of every rate."""
    figures = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        figures[f"optimizers-{file_name(model)}.png"] = _bars([row for row in own if row["kind"] == "chosen"], model)
        figures[f"rates-{file_name(model)}.png"] = _sweeps([row for row in own if row["kind"] == "sweep"], model)
    return figures


def _bars(rows: Sequence[Row], model: str) -> Figure:
    """Draw a panel for each way to choose; groups are poisons, bars are optimizers with 95 % intervals."""
    poisons = list(dict.fromkeys(row["row"] for row in rows))
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    figure = Figure(figsize=(max(6.0, 1.2 + 0.17 * len(poisons) * (len(names) + 2)), 6.4), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    width = 0.85 / len(names)
    for ax, (way, title) in zip(panels, SELECTIONS.items(), strict=True):
        for row in rows:
            if row["selection"] != way or row["clean_test_accuracy_mean"] is None:
                continue
            i = names.index(row["optimizer"])
            x = poisons.index(row["row"]) + (i - (len(names) - 1) / 2) * width
            mean, low, high = (100 * (row[f"clean_test_accuracy_{end}"] or 0.0) for end in ("mean", "low", "high"))
            tone, hatch = GRAYS[i % 4], HATCHES[(i // 4 + i) % 4]
            ax.bar(x, mean, width, color=tone, edgecolor="black", linewidth=0.5, hatch=hatch, label=row["optimizer"])
            if row["clean_test_accuracy_low"] is not None:
                ax.errorbar(x, mean, [[mean - low], [high - mean]], color="black", capsize=1.5, linewidth=0.8)
            single = 100 * np.array(row["accuracies"])
            dots = {"linestyle": "", "marker": "o", "markersize": 1.8, "color": "white", "mec": "black", "mew": 0.4}
            ax.plot(np.full(len(single), x), single, **dots)
        ax.axhline(100 * rows[0]["majority"], color="0.4", linestyle=":", linewidth=1)
        ax.set(ylim=(0, 100), ylabel="clean test accuracy (%)")
        ax.set_title(title, fontsize=9)
        ax.grid(axis="y", color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    panels[-1].set_xticks(range(len(poisons)), [name.replace("N_p", "$N_p$") for name in poisons], fontsize=8)
    panels[-1].tick_params(axis="x", rotation=20)
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        [handles[name] for name in names if name in handles],
        [name for name in names if name in handles],
        loc="outside lower center",
        ncols=5,
        fontsize=7,
        frameon=False,
    )
    counts = "/".join(map(str, sorted({row["n"] for row in rows if row["n"]})))
    title = f"{rows[0]['dataset']}, {model}: mean, 95 % interval, each network (n = {counts} a bar)"
    figure.suptitle(title, fontsize=9)
    return figure


def _sweeps(rows: Sequence[Row], model: str) -> Figure:
    """Draw a panel for each poison: clean test accuracy and poisoned held-out accuracy over the learning rate."""
    poisons = list(dict.fromkeys(row["row"] for row in rows))
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    columns = min(3, len(poisons))
    lines = -(-len(poisons) // columns)
    figure = Figure(figsize=(1.0 + 3.2 * columns, 0.8 + 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flat
    for ax, poison in zip(panels, poisons, strict=False):
        for i, name in enumerate(names):
            own = sorted((r for r in rows if (r["row"], r["optimizer"]) == (poison, name)), key=lambda r: r["lr"])
            x = [row["lr"] for row in own]
            tone = str(0.7 * i / max(1, len(names) - 1))
            for field, line, filled in (
                ("clean_test_accuracy_mean", "-", tone),
                ("held_out_poisoned_accuracy", ":", "none"),
            ):
                y = [np.nan if row[field] is None else 100 * row[field] for row in own]
                marker = MARKERS[i % len(MARKERS)]
                label = name if line == "-" else None
                ax.plot(x, y, line, color=tone, marker=marker, markersize=3.5, mfc=filled, linewidth=1, label=label)
        ax.set(xscale="log", ylim=(0, 102), xlabel="learning rate")
        ax.set_title(poison.replace("N_p", "$N_p$"), fontsize=9)
        ax.grid(color="0.9", linewidth=0.6)
    figure.supylabel("accuracy (%)", fontsize=9)
    first = figure.axes[0]
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7, frameon=False)
    for ax in figure.axes[len(poisons) :]:
        ax.set_visible(False)
    n = "/".join(map(str, sorted({row["n"] for row in rows if row["n"]})))
    title = f"{rows[0]['dataset']}, {model}: filled, on clean test images; open, on poisoned held-out images (n = {n})"
    figure.suptitle(title, fontsize=9)
    return figure

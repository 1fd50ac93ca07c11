"""The figures of studies, from their rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

GRAYS = ("0.25", "0.55", "0.75", "0.9")
HATCHES = ("", "//", "..", "xx")


def transfer_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draw clean test accuracy under every poison: a panel for each network, bars with 95 % intervals."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    bars = len({_label(row) for row in rows})
    figure = Figure(figsize=(max(5.0, 1.5 + 0.42 * bars), 1.3 + 2.4 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), 1, sharex=True, squeeze=False)[:, 0]
    labels = list(dict.fromkeys(_label(row) for row in rows))
    counts = {row["n"] for row in rows}
    for ax, model in zip(panels, models, strict=True):
        own = {_label(row): row for row in rows if row["model"] == model}
        for x, label in enumerate(labels):
            _bar(ax, x, own.get(label))
        first = next(iter(own.values()))
        ax.axhline(100 * first["majority"], color="0.4", linestyle=":", linewidth=1, label="largest class alone")
        ax.set_ylabel(f"{model}\nclean test accuracy (%)")
        ax.set_ylim(0, 100)
        ax.grid(axis="y", color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    panels[-1].set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=8)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", fontsize=7, frameon=False)
    n = str(counts.pop()) if len(counts) == 1 else "see the table"
    figure.suptitle(f"{rows[0]['dataset']}: mean, 95 % interval, each network (n = {n} a bar)", fontsize=9)
    return {"transfer.png": figure}


def _bar(ax: Any, x: int, row: Mapping[str, Any] | None) -> None:
    if row is None or row["clean_test_accuracy_mean"] is None:
        return
    k = {"clean": 0, "uniform": 1, "left-column": 1, "random-search": 2}.get(row["poison"], 3)
    mean = 100 * row["clean_test_accuracy_mean"]
    ax.bar(x, mean, width=0.7, color=GRAYS[k], edgecolor="black", linewidth=0.6, hatch=HATCHES[k])
    if row["clean_test_accuracy_low"] is not None:
        low, high = 100 * row["clean_test_accuracy_low"], 100 * row["clean_test_accuracy_high"]
        ax.errorbar(x, mean, [[mean - low], [high - mean]], color="black", capsize=3, linewidth=1)
    single = 100 * np.array(row["accuracies"])
    ax.plot(np.full(len(single), x), single, linestyle="", marker="o", markersize=2.5, color="white", mec="black")


def _label(row: Mapping[str, Any]) -> str:
    return str(row["poison"]) if row["pixels"] is None else f"{row['poison']}, $N_p$ = {row['pixels']}"

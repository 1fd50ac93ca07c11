"""The figures of studies, from their rows."""

import re
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


def file_name(model: str) -> str:
    """Return a network's name as part of a file's."""
    return re.sub(r"[^\w.-]", "_", model)


def _label(row: Mapping[str, Any]) -> str:
    return str(row["poison"]) if row["pixels"] is None else f"{row['poison']}, $N_p$ = {row['pixels']}"


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def defenses_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draw clean test accuracy with every defence, and by the share of each class that is poisoned."""
    figures = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model and row["clean_test_accuracy_mean"] is not None]
        whole = [row for row in own if row["share"] == 1]
        names = list(dict.fromkeys(row["defense"] for row in whole))
        figures[f"defenses-{file_name(model)}.png"] = _lines(whole, "defense", names, f"{rows[0]['dataset']}, {model}")
        clean = [row for row in own if row["poison"] == "clean" and row["defense"] == "none"]
        labels = dict.fromkeys(row["row"] for row in own if row["pixels"] is not None)
        partly = [row for row in own if row["defense"] == "none" and row["pixels"] is not None]
        partly += [{**row, "row": label, "share": 0.0} for row in clean for label in labels]
        shares = sorted({row["share"] for row in partly})
        if len(shares) > 2:
            figures[f"shares-{file_name(model)}.png"] = _lines(
                partly, "share", shares, f"{rows[0]['dataset']}, {model}", line="-"
            )
    return figures


def _lines(rows: Sequence[Mapping[str, Any]], name: str, values: Sequence[Any], title: str, line: str = "") -> Figure:
    """Draw a marker with its 95 % interval for each poison at each value, side by side where values are names."""
    figure = Figure(figsize=(max(5.0, 1.5 + 0.5 * len(values)), 4.2), layout="constrained")
    ax = figure.subplots()
    labels = list(dict.fromkeys(row["row"] for row in rows))
    numbers = all(isinstance(value, int | float) for value in values)
    for i, name_of_row in enumerate(labels):
        label = name_of_row.replace("N_p", "$N_p$")
        own = sorted((row for row in rows if row["row"] == name_of_row), key=lambda row: values.index(row[name]))
        aside = 0.0 if numbers else 0.12 * (i - (len(labels) - 1) / 2)
        x = [100 * row[name] if numbers else values.index(row[name]) + aside for row in own]
        mean = np.array([100 * row["clean_test_accuracy_mean"] for row in own])
        bars = [
            [0.0 if row[end] is None else abs(100 * row[end] - m) for row, m in zip(own, mean, strict=True)]
            for end in ("clean_test_accuracy_low", "clean_test_accuracy_high")
        ]
        tone = str(0.75 * i / max(1, len(labels) - 1))
        marker = MARKERS[i % len(MARKERS)]
        ax.errorbar(
            x,
            mean,
            bars,
            linestyle=line,
            marker=marker,
            color=tone,
            capsize=2,
            linewidth=1,
            label=label,
        )
    ax.axhline(100 * rows[0]["majority"], color="0.4", linestyle=":", linewidth=1, label="largest class alone")
    if numbers:
        ax.set_xlabel("share of each class that is poisoned (%)")
    else:
        ax.set_xticks(range(len(values)), [str(value) for value in values], rotation=40, ha="right", fontsize=8)
    ax.set_ylabel("clean test accuracy (%)")
    ax.set_ylim(0, 100)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    counts = sorted({row["n"] for row in rows})
    ax.set_title(f"{title}: mean and 95 % interval (n = {'/'.join(map(str, counts))})", fontsize=9)
    return figure


def learning_curve_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draw target error over generations, clean test accuracy over epochs, and error against proxy A-distance."""
    figures = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        figure = Figure(figsize=(10, 3.4), layout="constrained")
        generations, epochs, candidates = figure.subplots(1, 3)
        _over_generations(generations, [row for row in own if row["kind"] == "generation" and row["errors"]])
        for row in own:
            if row["kind"] == "winner":
                error = 100 * float(np.mean(row["errors"]))
                generations.axhline(error, color="0.3", linestyle=":", label="winner on fresh seeds")
        _over_epochs(epochs, [row for row in own if row["kind"] == "epoch"])
        pairs = [row for row in own if row["kind"] == "candidate" and row["proxy_a_distance"] is not None]
        candidates.plot(
            [row["proxy_a_distance"] for row in pairs],
            [100 * row["error"] for row in pairs],
            linestyle="",
            marker="o",
            markersize=4,
            color="0.3",
        )
        candidates.set_xlabel("logged proxy A-distance")
        candidates.set_ylabel("test error (%)")
        candidates.set_title(f"{len(pairs)} candidates, a network each", fontsize=9)
        named = dict(zip(*reversed([*generations.get_legend_handles_labels()]), strict=True))
        named |= dict(zip(*reversed([*epochs.get_legend_handles_labels()]), strict=True))
        figure.legend([*named.values()], [*named], loc="outside lower center", ncols=5, fontsize=7, frameon=False)
        for ax in (generations, epochs, candidates):
            ax.grid(color="0.9", linewidth=0.6)
            ax.set_axisbelow(True)
        figure.suptitle(f"{rows[0]['dataset']}, {model}", fontsize=10)
        figures[f"learning-curve-{file_name(model)}.png"] = figure
    return figures


def _over_generations(ax: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    x = [row["generation"] + 1 for row in rows]
    mean = np.array([100 * row["error_mean"] for row in rows])
    std = np.array([100 * (row["error_std"] or 0.0) for row in rows])
    ax.fill_between(x, mean - std, mean + std, step="post", color="0.82")
    ax.plot(x, mean, drawstyle="steps-post", color="black", marker="o", markersize=3)
    ax.set_xlabel("generation")
    ax.set_ylabel("test error (%)")
    n = rows[0]["n"] if rows else 0
    ax.set_title(f"best-so-far poison: mean ± sd of {n} networks", fontsize=9)


def _over_epochs(ax: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    styles = {
        "clean": ("0.0", "-", "o", "clean"),
        "uniform": ("0.45", "--", "s", "uniform"),
        "best": ("0.6", "-.", "^", "best single value"),
        "winner": ("0.3", ":", "D", "winner on fresh seeds"),
    }
    for name, (tone, line, marker, label) in styles.items():
        own = [row for row in rows if row["row"] == name]
        x, mean = [row["epoch"] for row in own], np.array([100 * row["accuracy_mean"] for row in own])
        std = np.array([100 * (row["accuracy_std"] or 0.0) for row in own])
        if own:
            ax.errorbar(
                x,
                mean,
                std,
                color=tone,
                linestyle=line,
                marker=marker,
                markersize=3,
                capsize=2,
                label=label,
            )
    ax.set_xlabel("epoch of the victim")
    ax.set_ylabel("clean test accuracy (%)")
    ax.set_title("mean ± sd", fontsize=9)

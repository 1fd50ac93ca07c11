"""The figure of `studies.sam`: every run, the claims pair by pair, and accuracy under distribution shift."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mddes.report.studies import MARKERS
from mddes.studies.sam_claims import PUBLISHED

Row = Mapping[str, Any]
START = "shifted_accuracy_"


def sam_figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Draw for each problem all runs, the paper's claims as differences between pairs, and means under shift."""
    own = [row for row in rows if row["kind"] == "method" and row["n"]]
    problems = list(dict.fromkeys(row["problem"] for row in own))
    methods = list(dict.fromkeys(row["method"] for row in own))
    figure = Figure(figsize=(1.2 + 4.2 * len(problems), 9.6), layout="constrained")
    panels = figure.subplots(3, len(problems), squeeze=False)
    for column, problem in enumerate(problems):
        there = {row["method"]: row for row in own if row["problem"] == problem}
        pairs = [row for row in rows if row["kind"] == "comparison" and row["problem"] == problem]
        _runs(panels[0, column], there, methods)
        _differences(panels[1, column], [row for row in pairs if row["measure"] == "test_accuracy"])
        _shifted(panels[2, column], there, methods)
        n = "/".join(map(str, sorted({row["n"] for row in there.values()})))
        panels[0, column].set_title(f"{problem} (n = {n} a method)", fontsize=9)
    handles, labels = panels[2, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    figure.suptitle(
        "means with 95 % intervals; dots are runs, and a thin line joins the methods of one run", fontsize=9
    )
    return {"sam.png": figure}


def _runs(ax: Any, there: Mapping[str, Row], methods: Sequence[str]) -> None:
    """Draw each run as a line over the methods: runs are pairs."""
    whole = len({len(row["accuracies"]) for row in there.values()}) == 1
    single = [100 * np.array(there[m]["accuracies"]) for m in methods if m in there]
    x = [methods.index(m) for m in methods if m in there]
    if whole:
        ax.plot(x, np.stack(single), color="0.82", linewidth=0.6, zorder=1)
    for i, values in zip(x, single, strict=True):
        ax.plot(np.full(len(values), i), values, linestyle="", marker="o", markersize=2.5, color="0.6", zorder=2)
    for i, row in zip(x, (there[m] for m in methods if m in there), strict=True):
        _point(ax, i + 0.18, row, "test_accuracy", color="black", marker="D")
    ax.set_xticks(range(len(methods)), methods, rotation=25, ha="right", fontsize=8)
    ax.set_ylabel("test accuracy (%)")
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def _differences(ax: Any, pairs: Sequence[Row]) -> None:
    """Draw what the paper says is above 0, pair by pair, and its own numbers as crosses."""
    for y, row in enumerate(pairs):
        mean, low, high = (None if row[k] is None else 100 * row[k] for k in ("difference", "low", "high"))
        bars = None if low is None or high is None else [[mean - low], [high - mean]]
        ax.errorbar(mean, y, xerr=bars, color="black", marker="D", markersize=4, capsize=2, linewidth=1)
        published = PUBLISHED.get(row["first"].partition("/")[0])
        if published and row["second"] == "sam":
            ax.plot(published.mean - PUBLISHED["sam"].mean, y, color="0.4", marker="x", markersize=6)
    ax.axvline(0, color="0.4", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(pairs)), [f"{row['first']}\nminus {row['second']}" for row in pairs], fontsize=6.5)
    ax.invert_yaxis()
    ax.set_xlabel("points of test accuracy, pairs (cross: the paper's)")
    ax.grid(axis="x", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def _shifted(ax: Any, there: Mapping[str, Row], methods: Sequence[str]) -> None:
    names = [key for key in next(iter(there.values())) if key.startswith(START) and key.endswith("_mean")]
    severities = sorted(float(name.removeprefix(START).removesuffix("_mean")) for name in names)
    step = 0.12 * min(np.diff([0.0, *severities]), default=1.0)
    for i, method in enumerate(methods):
        if method not in there:
            continue
        tone, marker = str(0.75 * i / max(1, len(methods) - 1)), MARKERS[i % len(MARKERS)]
        aside = step * (i - (len(methods) - 1) / 2)
        for k, (t, name) in enumerate([(0.0, "test_accuracy"), *((t, f"{START}{t:g}") for t in severities)]):
            _point(ax, t + aside, there[method], name, color=tone, marker=marker, label=None if k else method)
    ax.set_xlabel("severity of the distribution shift")
    ax.set_ylabel("test accuracy (%)")
    ax.set_xticks([0.0, *severities])
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def _point(ax: Any, x: float, row: Row, measure: str, **style: Any) -> None:
    """Draw a mean and its 95 % interval, where there is one."""
    mean, low, high = (row[f"{measure}_{end}"] for end in ("mean", "low", "high"))
    bars = None if low is None else [[100 * (mean - low)], [100 * (high - mean)]]
    ax.errorbar(x, 100 * mean, bars, linestyle="", markersize=4, capsize=2, linewidth=1, zorder=3, **style)

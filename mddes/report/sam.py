"""The figure of `studies.sam`: every run, the claims pair by pair, and accuracy under distribution shift."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mddes.report.panel import Panel, Rows
from mddes.report.style import TITLE, Row, counts, legend_below, marker, ruled, slanted, tone, unique
from mddes.studies.sam_claims import PUBLISHED

TEST = "test accuracy (%)"
START = "shifted_accuracy_"


def sam_figures(rows: Rows) -> dict[str, Figure]:
    """Draw for each problem all runs, the paper's claims as differences between pairs, and means under shift."""
    own = _methods(rows)
    problems, methods = unique(own, "problem"), unique(own, "method")
    figure = Figure(figsize=(1.2 + 4.2 * len(problems), 9.6), layout="constrained")
    panels = figure.subplots(3, len(problems), squeeze=False)
    for column, problem in enumerate(problems):
        there = [row for row in own if row["problem"] == problem]
        runs(panels[0, column], there, methods)
        if pairs := [row for row in _claims(rows) if row["problem"] == problem]:
            differences(panels[1, column], pairs)
        shift(panels[2, column], there, methods)
        panels[0, column].set_title(f"{problem} (n = {counts(there)} a method)", fontsize=TITLE)
    legend_below(figure, panels[2], columns=3)
    figure.suptitle(
        "means with 95 % intervals; dots are runs, and a thin line joins the methods of one run", fontsize=TITLE
    )
    return {"sam.png": figure}


def runs(ax: Axes, rows: Rows, methods: Sequence[str] = ()) -> str:
    """Draw each run of a problem as a line over the methods: runs are pairs. Methods have the places of `methods`."""
    there, methods = {row["method"]: row for row in rows}, methods or unique(rows, "method")
    whole = len({len(row["accuracies"]) for row in rows}) == 1
    single = [100 * np.array(there[m]["accuracies"]) for m in methods if m in there]
    x = [methods.index(m) for m in methods if m in there]
    if whole:
        ax.plot(x, np.stack(single), color="0.82", linewidth=0.6, zorder=1)
    for i, values in zip(x, single, strict=True):
        ax.plot(np.full(len(values), i), values, linestyle="", marker="o", markersize=2.5, color="0.6", zorder=2)
    for i, row in zip(x, (there[m] for m in methods if m in there), strict=True):
        _point(ax, i + 0.18, row, "test_accuracy", color="black", marker="D")
    slanted(ax, methods, 20)
    ax.set_ylabel(TEST)
    ruled(ax, "y")
    joined = "; a thin line joins the methods of one run" if whole else ""
    return f"{_whose(rows)}: mean, 95 % interval, each run (n = {counts(rows)} a method){joined}"


def differences(ax: Axes, rows: Rows) -> str:
    """Draw what the paper says is above 0 on a problem, pair by pair, and its own numbers as crosses."""
    for y, row in enumerate(rows):
        mean, low, high = (None if row[k] is None else 100 * row[k] for k in ("difference", "low", "high"))
        if mean is None:
            continue
        bars = None if low is None or high is None else [[mean - low], [high - mean]]
        ax.errorbar(mean, y, xerr=bars, color="black", marker="D", markersize=4, capsize=2, linewidth=1)
        published = PUBLISHED.get(row["first"].partition("/")[0])
        if published and row["second"] == "sam":
            ax.plot(published.mean - PUBLISHED["sam"].mean, y, color="0.4", marker="x", markersize=6)
    ax.axvline(0, color="0.4", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(rows)), [f"{row['first']}\nminus {row['second']}" for row in rows], fontsize=6.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("points of test accuracy, pairs (cross: the paper's)")
    ruled(ax, "x")
    return f"{_whose(rows)}: mean difference of {counts(rows)} pairs, 95 % interval"


def shift(ax: Axes, rows: Rows, methods: Sequence[str] = ()) -> str:
    """Draw the methods' accuracies on a problem under distribution shift, side by side at every severity."""
    there, methods = {row["method"]: row for row in rows}, methods or unique(rows, "method")
    names = [key for key in rows[0] if key.startswith(START) and key.endswith("_mean")]
    severities = sorted(float(name.removeprefix(START).removesuffix("_mean")) for name in names)
    step = 0.12 * min(np.diff([0.0, *severities]), default=1.0)
    for i, method in enumerate(methods):
        if method not in there:
            continue
        aside = step * (i - (len(methods) - 1) / 2)
        style: dict[str, Any] = {"color": tone(i, len(methods)), "marker": marker(i)}
        for k, (t, name) in enumerate([(0.0, "test_accuracy"), *((t, f"{START}{t:g}") for t in severities)]):
            _point(ax, t + aside, there[method], name, label=None if k else method, **style)
    ax.set(xlabel="severity of the distribution shift", ylabel=TEST)
    ax.set_xticks([0.0, *severities])
    ruled(ax, "y")
    return f"{_whose(rows)}: mean and 95 % interval (n = {counts(rows)} a method)"


def _point(ax: Axes, x: float, row: Row, measure: str, **style: Any) -> None:
    """Draw a mean and its 95 % interval, where there is one."""
    mean, low, high = (row[f"{measure}_{end}"] for end in ("mean", "low", "high"))
    bars = None if low is None else [[100 * (mean - low)], [100 * (high - mean)]]
    ax.errorbar(x, 100 * mean, bars, linestyle="", markersize=4, capsize=2, linewidth=1, zorder=3, **style)


def _whose(rows: Rows) -> str:
    return str(rows[0]["problem"])


def _methods(rows: Rows) -> list[Row]:
    return [row for row in rows if row["kind"] == "method" and row["n"]]


def _claims(rows: Rows) -> list[Row]:
    return [row for row in rows if row["kind"] == "comparison" and row["measure"] == "test_accuracy"]


PROBLEM: Mapping[str, str] = {"problem": "problem"}
PANELS = {
    "runs": Panel("test accuracy of every run and method: mean, 95 % interval, each run", runs, _methods, PROBLEM),
    "differences": Panel(
        "the paper's claims as differences between pairs: mean and 95 % interval", differences, _claims, PROBLEM
    ),
    "shift": Panel("test accuracy under distribution shift: mean and 95 % interval", shift, _methods, PROBLEM),
}

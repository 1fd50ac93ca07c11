"""What a search did, drawn from its records: the two fitness terms, the strategy's spread, and who trained when."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mddes.tasks import Record

WORKERS_SHOWN = 24


def fitness_scatter(records: Sequence[Record], ax: Axes | None = None) -> Figure:
    """Draw F_m against F_d of every candidate that was trained, shaded by generation; on `ax`, if one is given."""
    ax = ax or Figure(figsize=(5.6, 4.2), layout="constrained").subplots()
    x = [record["domain_divergence"] for record in records]
    y = [record["semantic_mismatch"] for record in records]
    shade = [record["generation"] for record in records]
    points = ax.scatter(x, y, c=shade, cmap="viridis_r", s=18, edgecolor="0.2", linewidth=0.4)
    best = max(records, key=lambda record: record["fitness"])
    ax.plot(best["domain_divergence"], best["semantic_mismatch"], "*", color="black", markersize=13, mfc="none")
    at = (best["domain_divergence"], best["semantic_mismatch"])
    ax.annotate("best single value", at, (-6, 7), fontsize=7, textcoords="offset points", ha="right")
    ax.set(xlabel="domain divergence $F_d$", ylabel="semantic mismatch $F_m$ (nats)")
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.colorbar(points, ax=ax, label="generation").ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def strategy_diagnostics(generations: Path, records: Sequence[Record]) -> Figure:
    """Draw sigma, the standard deviations of the sampled coordinates, and how far the population's centre has moved."""
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    step, spread, moved = figure.subplots(1, 3)
    if generations.is_file():
        with generations.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["sigma"]]
        step.plot([int(r["generation"]) for r in rows], [float(r["sigma"]) for r in rows], "o-", color="black", ms=3)
    step.set(ylabel="step size $\\sigma$", ylim=(0, None))
    groups: dict[int, list[list[float]]] = defaultdict(list)
    for record in records:
        if record.get("repeat", 0) == 0 and "asked" in record:
            groups[record["generation"]].append(record["asked"])
    sampled = {g: np.array(own) for g, own in sorted(groups.items()) if len(own) > 1}
    x = list(sampled)
    deviations = [np.sort(own.std(axis=0, ddof=1)) for own in sampled.values()]
    for share, style, label in ((1.0, "^--", "largest"), (0.5, "o-", "median"), (0.0, "v:", "smallest")):
        y = [own[round(share * (len(own) - 1))] for own in deviations]
        spread.plot(x, y, style, color="black", ms=3, linewidth=1, label=label)
    spread.set(ylabel="sd of a coordinate", ylim=(0, None))
    if sampled:
        spread.legend(fontsize=7, frameon=False)
    centres = [own.mean(axis=0) for own in sampled.values()]
    distances = [float(np.linalg.norm(centre - centres[0])) for centre in centres]
    moved.plot(x, distances, "s-", color="black", ms=3)
    moved.set(ylabel="distance of the mean candidate\nfrom the first generation's", ylim=(0, None))
    for ax in (step, spread, moved):
        ax.set_xlabel("generation")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    return figure


def timeline(records: Sequence[Record], ax: Axes | None = None) -> Figure:
    """Draw when each worker trained: a bar for each training, hatched where it failed; on `ax`, if one is given."""
    workers = sorted({str(record["worker"]) for record in records})
    shown = workers[:WORKERS_SHOWN]
    start = min(record["began"] for record in records)
    length = max(record["began"] + record["seconds"] for record in records) - start
    unit, name = (3600.0, "hours") if length > 7200 else (60.0, "minutes") if length > 120 else (1.0, "seconds")
    ax = ax or Figure(figsize=(8, 1.2 + 0.28 * len(shown)), layout="constrained").subplots()
    for line, worker in enumerate(shown):
        own = [record for record in records if str(record["worker"]) == worker]
        for status, tone, hatch in (("done", "0.55", ""), ("failed", "white", "////")):
            bars = [((r["began"] - start) / unit, r["seconds"] / unit) for r in own if r["status"] == status]
            ax.broken_barh(bars, (line - 0.35, 0.7), facecolor=tone, hatch=hatch, edgecolor="0.15", linewidth=0.3)
    more = f" (the first {len(shown)} of {len(workers)})" if len(shown) < len(workers) else ""
    ax.set_yticks(range(len(shown)), [f"worker {i + 1}" for i in range(len(shown))], fontsize=7)
    ax.set(xlabel=f"{name} since the first training began", ylim=(-0.6, len(shown) - 0.4))
    ax.set_title(f"{len(records)} trainings on {len(workers)} worker(s){more}", fontsize=9)
    ax.invert_yaxis()
    figure = ax.figure
    assert isinstance(figure, Figure)
    return figure

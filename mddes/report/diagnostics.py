"""What a search did, drawn from its records: the two fitness terms, the strategy's spread, and who trained when.

`PANELS` are those of a search. Their rows are of four kinds: generation (of generations.csv), candidate and training
(records), and poison (a perturbation): `search_rows`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mddes.poison import Perturbation
from mddes.report.figures import CURVES, over_generations, read_generations
from mddes.report.panel import Panel, Rows, kind
from mddes.report.perturbation_map import map_size, perturbation_map
from mddes.report.style import SMALL, Row, over_whole_numbers, ruled
from mddes.tasks import Record

WORKERS_SHOWN = 24


def fitness_scatter(ax: Axes, records: Sequence[Row]) -> str:
    """Draw F_m against F_d of every candidate that was trained, shaded by generation."""
    x = [record["domain_divergence"] for record in records]
    y = [record["semantic_mismatch"] for record in records]
    shade = [record["generation"] for record in records]
    points = ax.scatter(x, y, c=shade, cmap="viridis_r", s=18, edgecolor="0.2", linewidth=0.4)
    best = max(records, key=lambda record: record["fitness"])
    at = (best["domain_divergence"], best["semantic_mismatch"])
    ax.plot(*at, "*", color="black", markersize=13, mfc="none")
    left = at[0] < sum(ax.get_xlim()) / 2
    style: dict[str, Any] = {"ha": "left" if left else "right", "va": "center", "textcoords": "offset points"}
    ax.annotate("best single value", at, (9 if left else -9, 0), fontsize=SMALL, **style)
    ax.set(xlabel="domain divergence $F_d$", ylabel="semantic mismatch $F_m$ (nats)")
    ruled(ax)
    scale = ax.figure.colorbar(points, ax=ax, label="generation")
    scale.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    networks = {record["networks"] for record in records}
    each = "a network each" if networks == {1} else f"means of {'/'.join(map(str, sorted(networks)))} networks each"
    return f"n = {len(records)} candidates, {each}"


def step_size(ax: Axes, generations: Sequence[Row]) -> str:
    """Draw sigma after each generation."""
    rows = [row for row in generations if row["sigma"]]
    ax.plot([int(r["generation"]) for r in rows], [float(r["sigma"]) for r in rows], "o-", color="black", ms=3)
    _over_generations(ax, "step size $\\sigma$")
    return "CMA-ES: step size, in sides of the search cube"


def coordinate_spread(ax: Axes, records: Sequence[Row]) -> str:
    """Draw the largest, median and smallest standard deviation of a coordinate of the sampled candidates."""
    sampled = _sampled(records)
    deviations = [own.std(axis=0, ddof=1) for own in sampled.values()]
    for of, style, label in ((np.max, "^--", "largest"), (np.median, "o-", "median"), (np.min, "v:", "smallest")):
        ax.plot([*sampled], [of(own) for own in deviations], style, color="black", ms=3, linewidth=1, label=label)
    _over_generations(ax, "sd of a coordinate")
    return f"CMA-ES: sd of {_sizes(sampled)} candidates, in sides of the search cube"


def mean_movement(ax: Axes, records: Sequence[Row]) -> str:
    """Draw how far the population's centre has moved from its first."""
    sampled = _sampled(records)
    centres = [own.mean(axis=0) for own in sampled.values()]
    distances = [float(np.linalg.norm(centre - centres[0])) for centre in centres]
    ax.plot([*sampled], distances, "s-", color="black", ms=3)
    _over_generations(ax, "distance of the mean candidate\nfrom the first generation's")
    return f"CMA-ES: mean of {_sizes(sampled)} candidates, in sides of the search cube"


def _sampled(records: Sequence[Row]) -> dict[int, Any]:
    """Return what was asked for in each generation of more than one candidate, (P, D)."""
    groups: dict[int, list[list[float]]] = defaultdict(list)
    for record in records:
        if record.get("repeat", 0) == 0 and "asked" in record:
            groups[record["generation"]].append(record["asked"])
    return {g: np.array(own) for g, own in sorted(groups.items()) if len(own) > 1}


def _sizes(sampled: dict[int, Any]) -> str:
    return "/".join(map(str, sorted({len(own) for own in sampled.values()})))


def _over_generations(ax: Axes, label: str) -> None:
    ax.set(ylabel=label, ylim=(0, None))
    over_whole_numbers(ax, "generation")
    ruled(ax)


def strategy_diagnostics(generations: Sequence[Row], records: Sequence[Row]) -> Figure:
    """Draw sigma, the standard deviations of the sampled coordinates, and how far the population's centre has moved."""
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    step, spread, moved = figure.subplots(1, 3)
    step_size(step, generations)
    coordinate_spread(spread, records)
    mean_movement(moved, records)
    spread.legend(fontsize=SMALL, frameon=False)
    return figure


def timeline(ax: Axes, records: Sequence[Row]) -> str:
    """Draw when each worker trained: a bar for each training, hatched where it failed."""
    workers = sorted({str(record["worker"]) for record in records})
    shown = workers[:WORKERS_SHOWN]
    start = min(record["began"] for record in records)
    length = max(record["began"] + record["seconds"] for record in records) - start
    unit, name = (3600.0, "hours") if length > 7200 else (60.0, "minutes") if length > 120 else (1.0, "seconds")
    for line, worker in enumerate(shown):
        own = [record for record in records if str(record["worker"]) == worker]
        for status, tone, hatch in (("done", "0.55", ""), ("failed", "white", "////")):
            bars = [((r["began"] - start) / unit, r["seconds"] / unit) for r in own if r["status"] == status]
            ax.broken_barh(bars, (line - 0.35, 0.7), facecolor=tone, hatch=hatch, edgecolor="0.15", linewidth=0.3)
    more = f" (the first {len(shown)} of {len(workers)})" if len(shown) < len(workers) else ""
    ax.set_yticks(range(len(shown)), [f"worker {i + 1}" for i in range(len(shown))], fontsize=SMALL)
    ax.set(xlabel=f"{name} since the first training began", ylim=(len(shown) - 0.4, -0.6))
    return f"{len(records)} trainings on {len(workers)} worker(s){more}; hatched: failed"


def timeline_size(records: Rows) -> tuple[float, float]:
    """Return the size of a timeline, in inches."""
    return 8.0, 1.2 + 0.28 * min(WORKERS_SHOWN, len({str(record["worker"]) for record in records}))


def _curve(name: str, shows: str) -> Panel:
    def prepare(rows: Rows) -> Rows:
        return [row for row in rows if row["kind"] == "generation" and row[f"{name}_mean"]]

    return Panel(
        f"{shows} over generations: mean ± sd of the candidates, and the fittest", _named(name), prepare, full=True
    )


def _named(name: str) -> Callable[[Axes, Rows], str]:
    return partial(over_generations, name=name)


def _both_terms(rows: Rows) -> Rows:
    """Return a row a candidate: its generation, and fitness and both terms as means over its networks."""
    names = [name for name, _ in CURVES[:3]]
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "candidate" and all(row.get(name) is not None for name in names):
            groups[row["generation"], row["candidate"]].append(row)
    return [
        {"generation": g, "networks": len(own)} | {name: float(np.mean([r[name] for r in own])) for name in names}
        for (g, _), own in groups.items()
    ]


def _asked(rows: Rows) -> Rows:
    own = [row for row in rows if row["kind"] == "candidate"]
    return own if _sampled(own) else []


def search_rows(folder: Path, config: Mapping[str, Any], records: Sequence[Record]) -> list[Row]:
    """Return what the panels of a search are drawn from, as far as it is there.

    Args:
        folder: of the search.
        config: its settings.
        records: its evaluations, finalists included.
    """
    path, winner = folder / "generations.csv", folder / "perturbation.json"
    rows: list[Row] = [{**row, "kind": "generation"} for row in (read_generations(path) if path.is_file() else [])]
    # What a random search asked for says nothing of a strategy.
    hidden = {"asked"} if config.get("algorithm") == "random" else set()
    done = [record for record in records if record["phase"] == "search" and record["status"] == "done"]
    rows += [{k: v for k, v in record.items() if k not in hidden} | {"kind": "candidate"} for record in done]
    rows += [{**record, "kind": "training"} for record in records if "began" in record]
    return rows + ([{"kind": "poison", "perturbation": Perturbation.load(winner)}] if winner.is_file() else [])


PANELS = {
    "fitness": _curve("fitness", "fitness"),
    "semantic-mismatch": _curve("semantic_mismatch", "the semantic mismatch"),
    "domain-divergence": _curve("domain_divergence", "the domain divergence"),
    "clean-accuracy": _curve("clean_accuracy", "held-out clean accuracy"),
    "fitness-scatter": Panel(
        "the two terms of the fitness of every candidate, by generation", fitness_scatter, _both_terms
    ),
    "step-size": Panel(
        "sigma of CMA-ES over generations",
        step_size,
        lambda rows: [row for row in rows if row["kind"] == "generation" and row["sigma"]],
    ),
    "coordinate-sd": Panel(
        "largest, median and smallest sd of a sampled coordinate", coordinate_spread, _asked, full=True
    ),
    "mean-movement": Panel("distance of the sampled mean from the first generation's", mean_movement, _asked),
    "perturbation-map": Panel(
        "where the found poison writes which class",
        lambda ax, rows: perturbation_map(ax, rows[0]["perturbation"]),
        kind("poison"),
        size=lambda rows: map_size(rows[0]["perturbation"]),
    ),
    "timeline": Panel("when each worker trained", timeline, kind("training"), size=timeline_size),
}

"""What lies between two solutions, and which is sharper: Fig. 4 of Chaudhury & Yamasaki (2020), with numbers.

A pair of optimizers trains from one initialisation on the same batches; loss and accuracy are judged along the line
between the two (Goodfellow et al. 2015). A slice is not sharpness, so both ends are measured as well: top Hessian
eigenvalue, trace, average-case sharpness, and the curvature along the line itself, compared pair by pair as ratios. The
task is `measures/solutions.py`; the words are in `interpolation_text.py`, what goes together in `correlations.py`.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mddes.data import Dataset
from mddes.errors import InputError
from mddes.measures.interpolation import barrier, grid, has_batch_norm
from mddes.models import build
from mddes.seeding import derive
from mddes.settings import Ranges
from mddes.studies.base import PoisonedNetworks, poisons_of, protocol_of, rows_on, victim_of
from mddes.studies.bench import Bench, check_records, failures
from mddes.studies.correlations import correlation_cells, correlation_sentences, correlation_tables
from mddes.studies.findings import Findings
from mddes.studies.interpolation_text import DRAWN, answer, sentences, tables
from mddes.studies.optimizers import passes
from mddes.studies.poisons import PoisonRow
from mddes.studies.settings import PoisonSettings, recipe_for, resolve_models
from mddes.studies.statistics import compare_pairs, holm, summarise
from mddes.tasks import Record, Task
from mddes.training import Recipe
from mddes.user_code import is_own

TASK = "mddes.measures.solutions:between"
REACH = 1.0  # of slices and surfaces, in filter norms
LANCZOS = 10  # products that the top eigenvalue usually takes
FORWARD, PRODUCT = 0.35, 4.5  # what an image costs, forwards and in a product with the Hessian, in steps of training
SHARPNESS = ("hessian_top_eigenvalue", "hessian_trace", "average_sharpness", "adaptive_average_sharpness")
ENDS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "norm", "distance_from_init", "line_curvature")
COMPARED = (*SHARPNESS, "line_curvature", "test_accuracy")
PLAIN = ("test_accuracy",)  # compared by differences, not by ratios
LINES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True, kw_only=True)
class InterpolatedPair(PoisonSettings):
    """Which poisons, which two solutions, and what is measured between and around them."""

    poisons: tuple[str, ...] = ("clean", "uniform", "mdd-es")
    """Rows, as for `mddes study transfer`."""
    pair: tuple[str, ...] = ("sgd", "adam")
    """The two optimizers: the line goes from the first (0) to the second (1)."""
    lrs: tuple[float, ...] = ()
    """Their learning rates; default each optimizer's."""
    epochs_each: tuple[int, ...] = ()
    """How long each trains, to compare them where both have got as far; in place of `epochs`."""
    points: int = 41
    """Points on the line, evenly spaced; 0 and 1 are added if they are not among them."""
    low: float = -0.5
    """Where the line begins."""
    high: float = 1.5
    """Where it ends."""
    line_size: int = 5000
    """Images that the line is judged on, so many of training and of test at most; the former recalibrate BatchNorm."""
    measure_size: int = 2048
    """Training images on which the ends are measured, at most."""
    probes: int = 30
    """Random probes of the trace."""
    noise: float = 0.01
    """Average sharpness: standard deviation of the noise on every weight."""
    relative_noise: float = 0.4
    """Adaptive average sharpness: the same, as a share of the weight's magnitude."""
    draws: int = 20
    """Draws of the noise."""
    slices: int = 21
    """Points of the slice through each solution in a random direction; 0 is none."""
    surface: int = 13
    """Points on a side of the surface around each solution of the first pair; 0 is none."""


@dataclass(frozen=True, kw_only=True)
class InterpolationConfig(InterpolatedPair, PoisonedNetworks):
    """The settings of a study of interpolation.

    Raises:
        InputError: an unknown name, or a number out of range.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.pair) != 2:
            raise InputError(f"a pair is two optimizers, not {len(self.pair)}: {', '.join(self.pair)}")
        if self.lrs and len(self.lrs) != 2:
            raise InputError(f"lrs are two learning rates, not {len(self.lrs)}")
        if self.epochs_each and len(self.epochs_each) != 2:
            raise InputError(f"epochs_each are two numbers of epochs, not {len(self.epochs_each)}")
        if self.epochs_each and self.epochs is not None:
            raise InputError("epochs_each says how long the solutions train: leave epochs out")
        for name in self.pair:
            if is_own(name) and not self.lrs:
                raise InputError(f"{name} has no default learning rate: give both solutions theirs (--lrs)")
        first, second = self._pair_of(Recipe())
        if first == second:
            raise InputError(f"both solutions would be the same: {first.optimizer} at {first.lr:g}")
        grid(self.low, self.high, self.points)
        for name in ("slices", "surface"):
            if getattr(self, name) == 1:
                raise InputError(f"{name} must be 0 (none) or at least 2, not 1")

    def _pair_of(self, usual: Recipe) -> list[Recipe]:
        lrs, epochs = self.lrs or (None, None), self.epochs_each or (usual.epochs, usual.epochs)
        return [
            dataclasses.replace(usual, optimizer=name, lr=lr, epochs=each)
            for name, lr, each in zip(self.pair, lrs, epochs, strict=True)
        ]

    def ranges(self) -> Ranges:
        """Return what the numbers may be."""
        least = dict.fromkeys(("epochs_each", "line_size", "measure_size", "probes", "draws"), 1)
        least |= {"points": 2, "slices": 0, "surface": 0}
        return Ranges({**super().ranges().at_least, **least}, {}, ("lrs", "noise", "relative_noise"))

    def recipes(self, dataset: Dataset) -> list[Recipe]:
        """Return the two recipes, which differ in optimizer, learning rate and epochs only."""
        return self._pair_of(recipe_for(self, dataset))

    def ends(self) -> tuple[str, str]:
        """Return the names of the two solutions."""
        names = [name.partition("#")[0] for name in self.pair]
        if names[0] == names[1]:
            names = [f"{name} {recipe.lr:g}" for name, recipe in zip(names, self._pair_of(Recipe()), strict=True)]
        if len({*self.epochs_each}) == 2:
            names = [f"{name} (epochs: {epochs})" for name, epochs in zip(names, self.epochs_each, strict=True)]
        return names[0], names[1]


PRESETS: dict[str, dict[str, Any]] = {
    # Everything once, in minutes on two cores.
    "smoke": {
        "poisons": ("clean", "uniform", "one-pixel-shortcut"),
        "pixels": (4,),
        "points": 21,
        "line_size": 500,
        "measure_size": 256,
        "surface": 9,
    },
    # Fig. 4: SGD and Adam on every image; the paper names no learning rates, no network and no grid.
    "paper": {
        "dataset": "mnist",
        "poisons": ("clean", "uniform", "one-pixel-shortcut", "mdd-es"),
        "line_size": 60_000,
        "seeds": 5,
    },
}


def victims_a_model(config: InterpolationConfig, dataset: Dataset) -> tuple[int, int]:
    """Return how many pairs of each kind a study will train, and how many plain trainings they cost, about."""
    rows, train = poisons_of(config), dataset.train
    m = min(config.measure_size, len(train))
    line = min(config.line_size, len(train)) + min(config.line_size, len(dataset.test))
    forwards: float = 2 * m * (2 * config.draws + config.slices)
    forwards += len(grid(config.low, config.high, config.points)) * line * _judgements(config, dataset)
    steps = FORWARD * forwards + 2 * m * (LANCZOS + config.probes + 1) * PRODUCT
    epochs = recipe_for(config, dataset).epochs
    images = epochs * len(train)
    each = sum(passes(r.optimizer) * r.epochs / epochs for r in config.recipes(dataset)) + steps / images
    surfaces = FORWARD * 2 * m * config.surface**2 / images
    return rows * config.seeds, math.ceil(rows * (config.seeds * each + surfaces))


def _judgements(config: InterpolationConfig, dataset: Dataset) -> float:
    """Return how often a point of the line is judged, on average over the networks: with BatchNorm raw as well."""
    shape, k = dataset.train.shape, dataset.train.num_classes
    mean, std = dataset.train.channel_statistics()
    normed = [
        has_batch_norm(build(model, shape, k, seed=0, mean=mean, std=std))
        for model in resolve_models(config.models, shape[0])
    ]
    return float(np.mean([2.5 if own else 1.0 for own in normed]))


def run_interpolation(bench: Bench, config: InterpolationConfig) -> Findings:
    """Train and measure the pairs of the study, or find them measured, and return what they say."""
    models = resolve_models(config.models, bench.dataset.train.shape[0])
    pairs = [(row, model, s) for row in rows_on(bench, config) for model in models for s in range(config.seeds)]
    records = bench.run([_task(bench, config, *pair) for pair in pairs], bench.shared())
    drawn = [f"{name}_error" for name in DRAWN]
    check_records(bench.ledger.path, records, dict.fromkeys((*SHARPNESS, *ENDS, *drawn, "slices", "surfaces"), list))
    groups: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
    rows = {row.label: row for row, _, _ in pairs}
    for (row, model, s), record in zip(pairs, records, strict=True):
        groups[row.label, model][s] = record
    cells: list[dict[str, Any]] = []
    for (label, model), own in groups.items():
        row = rows[label]
        start = {"dataset": bench.dataset.name, "poison": row.name, "pixels": row.pixels, "row": label, "model": model}
        done = _done(own)
        start |= {"first": config.ends()[0], "second": config.ends()[1], "n": len(done)}
        cells += _cells({**start, "failed": len(own) - len(done)}, done, config)
    compared = [cell for cell in cells if cell["kind"] == "comparison"]
    corrected = holm({str(i): cell["p"] for i, cell in enumerate(compared) if cell["p"] is not None})
    for i, cell in enumerate(compared):
        cell["p_holm"] = corrected.get(str(i))
    together: list[dict[str, Any]] = []
    for model in models:
        alive = {row: [*_done(own).values()] for (row, name), own in groups.items() if name == model}
        together += correlation_cells({"dataset": bench.dataset.name, "model": model}, alive)
    first, second = config.recipes(bench.dataset)
    measured = {name: getattr(config, name) for name in ("line_size", "measure_size")} | measures_of(config)
    protocol = {**protocol_of("interpolation", bench, first), "second": second.spec(), "measured": measured}
    return Findings(
        study="interpolation",
        protocol=protocol,
        rows=cells + together,
        tables=tables(cells) | correlation_tables(together),
        sentences=sentences(cells) + correlation_sentences(together) + failures(records),
        answer=answer(cells),
    )


def _done(records: Mapping[int, Record]) -> dict[int, Record]:
    return {s: record for s, record in records.items() if record["status"] == "done"}


def _task(bench: Bench, config: InterpolationConfig, row: PoisonRow, model: str, s: int) -> Task:
    recipes = config.recipes(bench.dataset)
    victim = victim_of(row, model, recipes[0], config.seed, s)
    spec = {
        "model": model,
        "recipes": [recipe.spec() for recipe in recipes],
        "num_classes": bench.dataset.train.num_classes,
        "seed": victim.seed,
        "perturbation": victim.perturbation,
        "alphas": grid(config.low, config.high, config.points),
        "line_size": config.line_size,
        "measure_size": config.measure_size,
        "subset_seed": derive(config.seed, "measured"),
        "measures": measures_of(config),
        "slice_steps": _steps(config.slices),
        "surface_steps": _steps(config.surface) if s == 0 else [],
        **victim.more,
    }
    labels = {**victim.labels, "seed": victim.seed, "perturbation": victim.perturbation}
    return Task(TASK, spec, bench.digest(victim.more.get("images")), labels)


def measures_of(config: InterpolationConfig) -> dict[str, dict[str, Any]]:
    """Return what is measured at both ends: a measure and its settings, by the name that it has in the tables."""
    average = {"measure": "average_sharpness_l2", "draws": config.draws}
    return {
        "hessian_top_eigenvalue": {"measure": "hessian_top_eigenvalue"},
        "hessian_trace": {"measure": "hessian_trace", "probes": config.probes},
        "average_sharpness": {**average, "rho": config.noise},
        "adaptive_average_sharpness": {**average, "rho": config.relative_noise, "adaptive": True},
    }


def _steps(points: int) -> list[float]:
    return [round(float(t), 12) + 0.0 for t in np.linspace(-REACH, REACH, points)]


def _cells(
    start: Mapping[str, Any], records: Mapping[int, Record], config: InterpolationConfig
) -> list[dict[str, Any]]:
    """Return the rows of one poison on one kind of network: pair, ends, comparisons, line, slices, surfaces."""
    own = list(records.values())
    alphas = grid(config.low, config.high, config.points)
    pair = {**start, "kind": "pair", **_spread("distance", [record["distance"] for record in own])}
    for name in ("train", "test"):
        for way in ("", "raw_"):
            lines = [record[f"{way}line_{name}_loss"] for record in own]
            pair |= _spread(f"{way}barrier_{name}", [None if line is None else barrier(alphas, line) for line in lines])
    cells = [pair]
    for i, (end, recipe) in enumerate(zip(config.ends(), config.pair, strict=True)):
        cell = {**start, "kind": "end", "end": end, "optimizer": recipe}
        for name in (*SHARPNESS, *ENDS):
            cell |= _spread(name, [record[name][i] for record in own])
        for name in DRAWN:
            cell[f"{name}_error_mean"] = _spread("error", [record[f"{name}_error"][i] for record in own])["error_mean"]
        cells.append(cell)
    cells += [{**start, "kind": "comparison", **_compared(name, own)} for name in COMPARED] if own else []
    for j, alpha in enumerate(alphas):
        cell = {**start, "kind": "line", "alpha": alpha}
        for name in (*LINES, *(f"raw_{line}" for line in LINES)):
            way, _, bare = name.rpartition("raw_")
            lines = [record[f"{'raw_' if name != bare else way}line_{bare}"] for record in own]
            cell |= _spread(name, [None if line is None else line[j] for line in lines])
        cells.append(cell)
    return cells + _around(start, records, config)


def _around(
    start: Mapping[str, Any], records: Mapping[int, Record], config: InterpolationConfig
) -> list[dict[str, Any]]:
    cells = []
    for i, end in enumerate(config.ends()):
        for j, t in enumerate(_steps(config.slices)):
            losses = [record["slices"][i][j] for record in records.values()]
            cells.append({**start, "kind": "slice", "end": end, "t": t, **_spread("loss", losses)})
        sides = _steps(config.surface)
        for j, u in enumerate(sides if 0 in records else []):
            for k, t in enumerate(sides):
                loss = records[0]["surfaces"][i][j][k]
                cells.append({**start, "kind": "surface", "end": end, "t": t, "u": u, "loss_mean": loss, "n": 1})
    return cells


def _spread(name: str, values: Sequence[float | None]) -> dict[str, float | None]:
    """Return mean and standard deviation; None if there are no values, or one of them is none."""
    there = [value for value in values if value is not None]
    if not there or len(there) < len(values):
        return {f"{name}_mean": None, f"{name}_std": None}
    summary = summarise(there)
    return {f"{name}_mean": summary.mean, f"{name}_std": summary.std}


def _compared(name: str, records: Sequence[Record]) -> dict[str, Any]:
    """Return the paired comparison of the ends: of logarithms where all values are positive, else of the values.

    On the log scale `ratio` is first / second, of geometric means, with its 95 % interval.
    """
    pairs = [record[name] for record in records if None not in record[name]]
    empty = dict.fromkeys(("difference", "low", "high", "p", "effect", "ratio", "ratio_low", "ratio_high"))
    if not pairs:
        return {"quantity": name, "pairs": 0, "scale": "plain", **empty}
    log = name not in PLAIN and min(min(pair) for pair in pairs) > 0
    first, second = ([math.log(pair[i]) if log else pair[i] for pair in pairs] for i in range(2))
    found = compare_pairs(first, second)
    numbers = {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "effect": found.effect,
    }
    ends = {"ratio": found.difference, "ratio_low": found.low, "ratio_high": found.high} if log else {}
    ratios = {key: None if value is None else math.exp(value) for key, value in ends.items()}
    return {**empty, "quantity": name, "pairs": found.n, "scale": "log" if log else "plain", **numbers, **ratios}

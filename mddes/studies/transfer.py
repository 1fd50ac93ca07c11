"""Does a poison carry over to other networks: Table 1 of Chaudhury & Yamasaki (2020), with the rivals it lacks.

Victims of every kind are trained from scratch under every poison and judged on clean test images. Network s has the
same initial weights and batch order in every row, so rows are compared pair by pair. Where there are several searches,
every network is trained on what each of them found, and a comparison counts both spreads (`crossed`).
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mddes.data import Dataset
from mddes.studies.base import PoisonStudyConfig, levels, poisons_of, protocol_of, rows_on, victim_of
from mddes.studies.bench import Bench, Victim, failures, stuck
from mddes.studies.crossed import Grid, compare_grids, spreads, summarise_grid, whole
from mddes.studies.findings import Findings, limits, percent, slashed, verdict
from mddes.studies.poisons import SEARCHED, SHORTCUTS, PoisonRow
from mddes.studies.settings import recipe_for, resolve_models
from mddes.studies.statistics import Comparison, Summary, holm
from mddes.tasks import Record
from mddes.training import Recipe

# What every other poison of the same N_p is tested against; random search, only what was searched for in another way.
RIVALS = ("uniform", "one-pixel-shortcut", "random-search")
CONSTRUCTED = ("uniform", "left-column", *SHORTCUTS)


@dataclass(frozen=True, kw_only=True)
class TransferConfig(PoisonStudyConfig):
    """The settings of a transfer study."""


PRESETS: dict[str, dict[str, Any]] = {
    # The rows and the statistics in minutes on two cores; searches too short to find much.
    "smoke": {"pixels": (4,), "generations": 3, "popsize": 6},
    # Table 1's protocol (docs/method.md, readings 15 and 16), with the rows it lacks.
    "paper": {
        "dataset": "svhn",
        "models": ("resnet20", "resnet32", "densenet40"),
        "pixels": (1, 2, 5, 10),
        "epochs": 30,
        "batch_size": 128,
        "augmentation": ("standard",),
    },
}


@dataclass(frozen=True)
class Cell:
    """One poison on one kind of network.

    Attributes:
        poison, pixels, mode, model: which.
        evaluations: trainings that the poison's search took.
        accuracies: clean test accuracy by search and victim. Those that failed are missing; of several searches so are
            the others of that victim, or of that search.
        trained, followed: means of poisoned training accuracy and pixel-follow rate (None without a perturbation).
        per_class: mean clean test accuracy of each class.
        failed: victims whose training failed.
        against: comparison with each rival of the same N_p on the same network.
    """

    poison: str
    pixels: int | None
    mode: str | None
    model: str
    evaluations: int
    accuracies: Grid
    trained: float | None
    followed: float | None
    per_class: list[float | None]
    failed: int
    against: dict[str, Comparison]

    @property
    def summary(self) -> Summary | None:
        """Of the accuracies; None if all victims failed."""
        return summarise_grid(self.accuracies) if self.accuracies.values else None

    @property
    def n(self) -> str:
        """How many accuracies: "5", or "3 x 5" of three searches on five networks."""
        found = spreads(self.accuracies)
        return f"{len(found.means)} x {found.networks}" if found else str(len(self.accuracies.values))


def run_transfer(bench: Bench, config: TransferConfig) -> Findings:
    """Train the victims of the study, or find them trained, and return what they say."""
    models = resolve_models(config.models, bench.dataset.train.shape[0])
    recipe = recipe_for(config, bench.dataset)
    rows = rows_on(bench, config)
    victims = [
        victim_of(row, model, recipe, config.seed, s, draw=draw)
        for row in rows
        for model in models
        for draw in (range(row.draws) if row.draws else (None,))
        for s in range(config.seeds)
    ]
    groups: dict[tuple[str, str], list[tuple[Victim, Record]]] = defaultdict(list)
    records = bench.train(victims)
    for victim, record in zip(victims, records, strict=True):
        groups[victim.labels["row"], victim.model].append((victim, record))
    cells = _compared([_cell(row, model, groups[row.label, model]) for row in rows for model in models])
    floor = levels(bench.dataset)
    return Findings(
        study="transfer",
        protocol=protocol_of("transfer", bench, recipe),
        rows=[_flat(cell, bench.dataset.name, floor) for cell in cells],
        tables={
            "Clean test accuracy": _table(cells, models),
            "Comparisons": _comparisons(cells),
            "Searches": _searches(cells),
        },
        sentences=_sentences(cells, bench.dataset, recipe, floor["majority"])
        + stuck([f"{victim.model}, {victim.labels['row']}" for victim in victims], records, bench.dataset)
        + failures(records),
    )


def victims_a_model(config: TransferConfig, _dataset: Dataset) -> tuple[int, int]:
    """Return how many victims of each kind a study will train, and how many plain trainings they cost."""
    searched = sum(name in SEARCHED for name in config.poisons) * len(config.pixels)
    victims = config.seeds * (poisons_of(config) + searched * (config.searches - 1))
    return victims, victims


def _cell(row: PoisonRow, model: str, trained: Sequence[tuple[Victim, Record]]) -> Cell:
    landed = {
        (victim.labels.get("draw", 0), victim.labels["victim"]): record
        for victim, record in trained
        if record["status"] == "done"
    }
    accuracies = {place: record["clean_test_accuracy"] for place, record in landed.items()}
    grid = whole(Grid(accuracies, row.draws))
    done = {place: landed[place] for place in grid.values}

    def mean(name: str) -> float | None:
        values = [record[name] for record in done.values() if record[name] is not None]
        return float(np.mean(values)) if values else None

    classes = [record["clean_test_accuracy_per_class"] for record in done.values()]
    per_class = [None if column[0] is None else float(np.mean(column)) for column in zip(*classes, strict=True)]
    return Cell(
        poison=row.name,
        pixels=row.pixels,
        mode=row.mode,
        model=model,
        evaluations=row.evaluations,
        accuracies=grid,
        trained=mean("poisoned_train_accuracy"),
        followed=mean("pixel_follow_rate"),
        per_class=per_class,
        failed=len(trained) - len(landed),
        against={},
    )


def _compared(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with their comparisons, all p-values of the table corrected together."""
    found: dict[tuple[int, str], Comparison] = {}
    for i, cell in enumerate(cells):
        for rival in cells:
            same = (rival.pixels, rival.model) == (cell.pixels, cell.model) and cell.pixels is not None
            if same and _is_tested(cell.poison, rival.poison):
                comparison = compare_grids(cell.accuracies, rival.accuracies)
                found |= {} if comparison is None else {(i, rival.poison): comparison}
    corrected = holm({f"{i} {rival}": c.p for (i, rival), c in found.items() if c.p is not None})
    return [
        dataclasses.replace(
            cell,
            against={
                rival: dataclasses.replace(comparison, p_holm=corrected.get(f"{j} {rival}"))
                for (j, rival), comparison in found.items()
                if j == i
            },
        )
        for i, cell in enumerate(cells)
    ]


def _is_tested(poison: str, rival: str) -> bool:
    """Return whether a poison is compared with another: a rival, not itself, and rivals with each other once."""
    if rival not in RIVALS or (rival == "random-search" and poison in CONSTRUCTED):
        return False
    return poison not in RIVALS or RIVALS.index(poison) > RIVALS.index(rival)


def _flat(cell: Cell, dataset: str, floor: dict[str, float]) -> dict[str, Any]:
    spread = limits(cell.summary)
    row: dict[str, Any] = {
        "dataset": dataset,
        "poison": cell.poison,
        "pixels": cell.pixels,
        "mode": cell.mode,
        "model": cell.model,
        "search_trainings": cell.evaluations,
        **{f"clean_test_accuracy_{name}" if name != "n" else "n": value for name, value in spread.items()},
        "failed": cell.failed,
        "searches": cell.accuracies.draws,
        "poisoned_train_accuracy": cell.trained,
        "pixel_follow_rate": cell.followed,
        **floor,
    }
    for rival in RIVALS:
        comparison = cell.against.get(rival)
        for name in ("difference", "low", "high", "p", "p_holm", "effect"):
            row[f"vs_{rival}_{name}"] = getattr(comparison, name) if comparison else None
    row |= {f"class_{k}": value for k, value in enumerate(cell.per_class)}
    return row | {"accuracies": list(cell.accuracies.values.values())}


def _table(cells: Sequence[Cell], models: Sequence[str]) -> list[dict[str, str]]:
    """Return Table 1's layout: a row for each poison, a column for each network."""
    table: dict[tuple[str, int | None], dict[str, str]] = {}
    for cell in cells:
        row = table.setdefault(
            (cell.poison, cell.pixels),
            {"N_p": "" if cell.pixels is None else str(cell.pixels), "poison": cell.poison, "mode": cell.mode or ""},
        )
        row["n"] = slashed(own.n for own in cells if (own.poison, own.pixels) == (cell.poison, cell.pixels))
        row[cell.model] = percent(cell.summary) + (f" (n = {cell.n})" if cell.failed and cell.summary else "")
        row["trainings of its search"] = str(cell.evaluations) if cell.evaluations else ""
        row[f"{cell.model} follows"] = "" if cell.followed is None else f"{100 * cell.followed:.0f}"
    order = ["N_p", "poison", "mode", "n", "trainings of its search", *models, *(f"{name} follows" for name in models)]
    return [{name: row.get(name, "") for name in order} for row in table.values()]


def _comparisons(cells: Sequence[Cell]) -> list[dict[str, str]]:
    rows = []
    for cell in cells:
        for rival, c in cell.against.items():
            interval = "" if c.low is None or c.high is None else f"{100 * c.low:+.1f} to {100 * c.high:+.1f}"
            rows.append(
                {
                    "model": cell.model,
                    "N_p": str(cell.pixels),
                    "poison": cell.poison,
                    "minus": rival,
                    "points": f"{100 * c.difference:+.1f}",
                    "95 % interval, uncorrected": interval,
                    "p (Holm)": "" if c.p_holm is None else f"{c.p_holm:.2g}",
                    "d_z": "" if c.effect is None else f"{c.effect:+.1f}",
                    "pairs": c.pairs,
                }
            )
    return rows


def _searches(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """Return what searches differ by, and networks within a search, for the rows that have several."""
    return [
        {
            "model": cell.model,
            "N_p": str(cell.pixels),
            "poison": cell.poison,
            "searches x networks": cell.n,
            "sd between searches": f"{100 * found.draws:.1f}",
            "sd within a search": "" if found.within is None else f"{100 * found.within:.1f}",
            "means": " ".join(f"{100 * mean:.1f}" for mean in found.means),
        }
        for cell in cells
        if (found := spreads(cell.accuracies))
    ]


def _counted(cell: Cell) -> str:
    """Return of how many networks, and of how many searches, a cell is."""
    if spreads(cell.accuracies):
        return f"{cell.n} searches x networks"
    return f"{cell.n} network{'s' * (cell.n != '1')}" + (", one search" if cell.evaluations else "")


def _sentences(cells: Sequence[Cell], dataset: Dataset, recipe: Recipe, majority: float) -> list[str]:
    """Return, for each network, which poison hurts it most, and whether that can be told from the rivals."""
    sentences = []
    for model in dict.fromkeys(cell.model for cell in cells):
        own = [cell for cell in cells if cell.model == model and cell.summary]
        clean = next((cell for cell in own if cell.poison == "clean"), None)
        poisoned = [cell for cell in own if cell.poison != "clean"]
        if not poisoned:
            continue
        worst = min(poisoned, key=lambda cell: cell.summary.mean if cell.summary else 1.0)
        text = f"{dataset.name}, {model}, {recipe.optimizer}: "
        text += f"{percent(clean.summary)} clean; " if clean else ""
        pixels = "" if worst.pixels is None else f" with N_p = {worst.pixels}"
        text += f"lowest under {worst.poison}{pixels}, {percent(worst.summary)}"
        for rival, c in worst.against.items():
            corrected = "no test" if c.p_holm is None else f"p = {c.p_holm:.2g} after Holm's correction"
            corrected += f", {c.pairs} searches x networks" if c.draws else ""
            text += f"; {verdict(c.difference, c.p_holm)} {rival} ({100 * c.difference:+.1f} points, {corrected})"
        text += f" (n = {_counted(worst)}, mean ± sd; the largest class is {100 * majority:.1f} %)."
        sentences.append(text)
    untested = dict.fromkeys(
        cell.poison if cell.pixels is None else f"{cell.poison} (N_p = {cell.pixels})"
        for cell in cells
        if cell.summary and not cell.against and cell.poison not in ("clean", *RIVALS)
    )
    if untested:
        sentences.append(
            f"Not tested: {', '.join(untested)}; poisons are compared with {' and '.join(RIVALS[:2])} of the same N_p, "
            "where these are rows (--pixels)."
        )
    return sentences

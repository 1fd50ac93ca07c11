"""Where a poisoned network looks: Fig. 2b of Chaudhury & Yamasaki (2020), with numbers and a null.

For every seed a clean and a poisoned network are trained from the same initial weights; their Grad-CAM maps of the same
test images, clean and poisoned copies, are measured: `measures/attention.py`. The unit of every mean, spread and test
is a seed.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mddes.data import Dataset, shared_arrays
from mddes.errors import InputError
from mddes.poison import Perturbation
from mddes.poison.peers import ENDINGS
from mddes.seeding import derive
from mddes.settings import Ranges
from mddes.studies.base import PoisonStudyConfig, poisons_of, protocol_of, rows_on
from mddes.studies.bench import Bench, failures
from mddes.studies.findings import Findings
from mddes.studies.gradcam_text import answer, comparison_table, look_table, same_place, sentences
from mddes.studies.poisons import PoisonRow
from mddes.studies.settings import PoisonSettings, recipe_for, resolve_models
from mddes.studies.statistics import compare_pairs, holm, summarise
from mddes.tasks import Record, Task
from mddes.training import Recipe

TASK = "mddes.measures.attention:compare_pair"
NUMBERS = ("near", "null", "border", "entropy")
NETWORKS = COPIES = ("clean", "poisoned")
Cell = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LookedAtPoisons(PoisonSettings):
    """Which poisons, and what is measured of the maps."""

    poisons: tuple[str, ...] = ("uniform", "one-pixel-shortcut", "mdd-es")
    """Rows, as for `mddes study transfer`, but for clean: a clean network is trained beside every poisoned one."""
    per_class: int = 100
    """The first so many test images of each class."""
    radius: float = 2.0
    """How near to a poison's pixel counts, in pixels."""
    border: int = 3
    """How many outermost rows and columns count as border."""
    places: int = 200
    """Random places of the null: how much of the maps lies near a pixel anywhere."""
    singles: tuple[int, ...] = ()
    """Indices of test images to show one by one."""


@dataclass(frozen=True, kw_only=True)
class GradcamConfig(LookedAtPoisons, PoisonStudyConfig):
    """The settings of a Grad-CAM study."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "clean" in self.poisons:
            raise InputError("poisons: leave clean out; a clean network is trained beside every poisoned one")
        if images := next((name for name in self.poisons if Path(name).suffix in ENDINGS), None):
            raise InputError(f"{images} holds images, and Grad-CAM is measured at the places of a perturbation (.json)")

    def ranges(self) -> Ranges:
        """Return what the numbers may be."""
        return Ranges(
            {**super().ranges().at_least, "per_class": 1, "radius": 0, "border": 1, "places": 1, "singles": 0}
        )


PRESETS: dict[str, dict[str, Any]] = {
    # Two poisons and three pairs of networks in a minute or two on two cores.
    "smoke": {"poisons": ("uniform", "one-pixel-shortcut"), "pixels": (4,), "per_class": 20},
    # Fig. 2b: MNIST, one pixel a class, 100 test images of each class.
    "paper": {"dataset": "mnist"},
}


def victims_a_model(config: GradcamConfig, dataset: Dataset) -> tuple[int, int]:
    """Return how many pairs of networks of each kind a study will train, and how many plain trainings they cost.

    Raises:
        InputError: what is asked for does not fit the images.
    """
    _, height, width = dataset.test.shape
    if 2 * config.border >= min(height, width):
        raise InputError(f"border must be less than half of the images' {height} x {width} pixels, not {config.border}")
    if not dataset.test.class_counts().all():
        rare = int(dataset.test.class_counts().argmin())
        raise InputError(f"class {rare} has no test images to look at: raise test_size ({len(dataset.test)})")
    if config.singles and max(config.singles) >= len(dataset.test):
        raise InputError(
            f"singles: there are {len(dataset.test)} test images, counted from 0; not {max(config.singles)}"
        )
    pairs = config.seeds * poisons_of(config)
    return pairs, 2 * pairs


def run_gradcam(bench: Bench, config: GradcamConfig) -> Findings:
    """Train the pairs of networks, or find them trained, and return what their maps say."""
    dataset = bench.dataset
    models = resolve_models(config.models, dataset.train.shape[0])
    recipe = recipe_for(config, dataset)
    rows = rows_on(bench, config)
    places = [(row, model, s) for row in rows for model in models for s in range(config.seeds)]
    records = bench.run(
        [_task(bench, config, recipe, *place) for place in places],
        shared_arrays(train=dataset.train, test=dataset.test),
    )
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for (row, model, _), record in zip(places, records, strict=True):
        groups[row.label, model].append(record)
    cells: list[Cell] = []
    pictures: list[Cell] = _mean_images(dataset, config.per_class)
    for row in rows:
        for model in models:
            own = [record for record in groups[row.label, model] if record["status"] == "done"]
            start = {
                "dataset": dataset.name,
                "poison": row.name,
                "pixels": row.pixels,
                "row": row.label,
                "model": model,
            }
            cells += [
                {**start, "kind": "look", **_measured(own, network, copy)} for network in NETWORKS for copy in COPIES
            ]
            pictures += _maps(start, own)
            pictures += _singles(start, own, dataset, config)
    comparisons = _compared(cells)
    return Findings(
        study="gradcam",
        protocol=protocol_of("gradcam", bench, recipe),
        rows=[*cells, *comparisons, *pictures],
        tables={"Where networks look": look_table(cells), "Comparisons": comparison_table(comparisons)},
        sentences=sentences(cells, comparisons, config.radius) + failures(records),
        answer=answer(cells, comparisons, config.radius),
    )


def _task(bench: Bench, config: GradcamConfig, recipe: Recipe, row: PoisonRow, model: str, s: int) -> Task:
    drawn = row.draw(s)
    assert drawn is not None, "clean and peers' images are refused"
    spec = {
        "model": model,
        "recipe": recipe.spec(),
        "num_classes": bench.dataset.train.num_classes,
        "seed": derive(config.seed, "victims", s),
        "perturbation": drawn.change(),
        **{name: getattr(config, name) for name in ("per_class", "radius", "border", "places")},
        "singles": list(config.singles) if s == 0 else [],
    }
    digest = bench.dataset.train.digest() + bench.dataset.test.digest()
    labels = {"row": row.label, "poison": row.name, "pixels": row.pixels, "model": model, "victim": s}
    return Task(TASK, spec, digest, {**labels, "seed": spec["seed"], "perturbation": spec["perturbation"]})


def _measured(records: Sequence[Record], network: str, copy: str) -> Cell:
    """Return the numbers of one kind of network on one copy of the images, over seeds."""
    cell: Cell = {"network": network, "images": copy, "n": len(records)}
    for name in NUMBERS:
        found = {r["victim"]: r[network][copy][name] for r in records if r[network][copy][name] is not None}
        summary = summarise(list(found.values())) if found else None
        cell |= {f"{name}_mean": summary.mean if summary else None, f"{name}_std": summary.std if summary else None}
        cell[f"{name}_values"] = found
    accuracies = [record[network][f"{copy}_test_accuracy"] for record in records]
    cell["accuracy"] = float(np.mean(accuracies)) if accuracies else None
    counts = {"zero": "zero", "compared": "compared", "maps": "images"}
    cell |= {name: sum(record[network][copy][key] for record in records) for name, key in counts.items()}
    return cell


def _compared(cells: Sequence[Cell]) -> list[Cell]:
    """Return the paired comparisons, corrected together: the poisoned network with the clean one, and with the null."""
    found: list[Cell] = []
    for cell in (cell for cell in cells if cell["network"] == "poisoned"):
        rival = next(c for c in cells if c["network"] == "clean" and same_place(c, cell))
        for name in ("near", "border", "entropy"):
            found += _comparison(cell, name, "the clean network", cell[f"{name}_values"], rival[f"{name}_values"])
        found += _comparison(cell, "near", "random places", cell["near_values"], cell["null_values"])
    corrected = holm({str(i): row["p"] for i, row in enumerate(found) if row["p"] is not None})
    return [{**row, "p_holm": corrected.get(str(i))} for i, row in enumerate(found)]


def _comparison(cell: Cell, name: str, rival: str, first: dict[int, float], second: dict[int, float]) -> list[Cell]:
    pairs = sorted(first.keys() & second.keys())
    if not pairs:
        return []
    c = compare_pairs([first[s] for s in pairs], [second[s] for s in pairs])
    start = {k: cell[k] for k in ("dataset", "poison", "pixels", "row", "model", "images")}
    numbers = {k: getattr(c, k) for k in ("n", "difference", "low", "high", "p", "effect")}
    return [{**start, "kind": "comparison", "what": name, "against": rival, **numbers}]


def _mean_images(dataset: Dataset, per_class: int) -> list[Cell]:
    test = dataset.test
    means = [test.images[np.flatnonzero(test.labels == k)[:per_class]].mean(axis=0) for k in range(test.num_classes)]
    return [{"kind": "image", "class": k, "picture": mean.round().astype(int).tolist()} for k, mean in enumerate(means)]


def _maps(start: Cell, records: Sequence[Record]) -> list[Cell]:
    """Return the mean maps of every class over all seeds; of the first alone if each has a poison of its own."""
    if not records:
        return []
    same = all(record["perturbation"] == records[0]["perturbation"] for record in records)
    shown = records if same else records[:1]
    places = [{"rows": rows, "cols": cols} for rows, cols in zip(*_places(shown[0]), strict=True)]
    where = {**start, "kind": "map", "pairs": len(shown)}
    return [
        {**where, "network": network, "images": copy, "class": k, "map": one, **places[k]}
        for network in NETWORKS
        for copy in COPIES
        for k, one in enumerate(_mean_maps([record[network][copy]["maps"] for record in shown]))
    ]


def _mean_maps(seeds: Sequence[Any]) -> list[Any]:
    """Return the mean maps (K, h, w) of several seeds; one that has no map of a class does not count for it."""
    maps = np.array(seeds)
    counts = maps.any(axis=(2, 3)).sum(axis=0)
    means: list[Any] = (maps.sum(axis=0) / np.maximum(1, counts)[:, None, None]).tolist()
    return means


def _singles(start: Cell, records: Sequence[Record], dataset: Dataset, config: GradcamConfig) -> list[Cell]:
    """Return the first seed's maps of single images, with the images."""
    first = next((record for record in records if record["victim"] == 0), None)
    if first is None or not config.singles:
        return []
    shown = dataset.test.subset(np.array(config.singles))
    poisoned = Perturbation.from_change(first["perturbation"]).apply(shown)
    places = [{"rows": rows, "cols": cols} for rows, cols in zip(*_places(first), strict=True)]
    found = []
    for copy, images in (("clean", shown), ("poisoned", poisoned)):
        for network in NETWORKS:
            for i, index in enumerate(config.singles):
                k = int(shown.labels[i])
                picture = {"picture": images.images[i].tolist(), "map": first[network]["singles"][copy][i], **places[k]}
                where = {"network": network, "images": copy, "index": index, "class": k}
                found.append({**start, "kind": "single", **where, **picture})
    return found


def _places(record: Record) -> tuple[list[list[int]], list[list[int]]]:
    change = Perturbation.from_change(record["perturbation"])
    return change.rows.tolist(), change.cols.tolist()

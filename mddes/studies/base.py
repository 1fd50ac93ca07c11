"""What studies of poisoned victims share: their settings, checked, and the rows of poisons made or found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mddes.compute import COMPUTE_AT_LEAST, COMPUTE_CHOICES, ComputeSettings, check_workers
from mddes.data import Dataset
from mddes.seeding import derive
from mddes.settings import Ranges, check_settings
from mddes.studies.bench import Bench, Victim
from mddes.studies.poisons import KNOWN, PoisonRow, check_names, poison_rows, searched_row
from mddes.studies.settings import (
    STUDY_RANGES,
    VICTIM_CHOICES,
    NetworkSettings,
    PoisonSettings,
    StudyData,
    VictimSettings,
    augmentation_for,
    check_models,
)
from mddes.training import Recipe


@dataclass(frozen=True, kw_only=True)
class PoisonedNetworks(ComputeSettings, PoisonSettings, NetworkSettings, StudyData):
    """The settings that every such study has, whatever it trains with.

    Raises:
        InputError: an unknown name, or a number out of range.
    """

    def __post_init__(self) -> None:
        ranges = self.ranges()
        check_settings(self, {**VICTIM_CHOICES, **COMPUTE_CHOICES}, ranges)
        check_workers(self.workers)
        check_names(self.poisons)
        check_models(self.models)
        augmentation_for(self.augmentation, self.dataset)

    def ranges(self) -> Ranges:
        """Return what the numbers may be."""
        return Ranges({**STUDY_RANGES.at_least, **COMPUTE_AT_LEAST})


@dataclass(frozen=True, kw_only=True)
class PoisonStudyConfig(VictimSettings, PoisonedNetworks):
    """The settings of a study in which all victims have one optimizer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Recipe(optimizer=self.optimizer, lr=self.lr, weight_decay=self.weight_decay)


def rows_on(bench: Bench, config: PoisonedNetworks) -> list[PoisonRow]:
    """Return the study's poisons, searched for where they must be; other people's images go to the bench."""
    train = bench.dataset.train
    rows = poison_rows(train, config, config.seed, lambda name, n: searched_row(bench, config, config.seed, name, n))
    bench.images |= {row.name: row.images for row in rows if row.images}
    return rows


def victim_of(
    row: PoisonRow,
    model: str,
    recipe: Recipe,
    root: int,
    s: int,
    more: Mapping[str, Any] | None = None,
    *,
    draw: int | None = None,
) -> Victim:
    """Return victim number s of a model under a row; `more` is added to its spec and to its labels.

    Its perturbation is that of the victim's number, or of another `draw` of the row.
    """
    drawn = row.draw(s if draw is None else draw)
    labels = {"row": row.label, "poison": row.name, "pixels": row.pixels, "model": model, "victim": s, **(more or {})}
    labels |= {} if draw is None else {"draw": draw}
    return Victim(
        model=model,
        recipe=recipe,
        seed=derive(root, "victims", s),
        labels=labels,
        perturbation=drawn.change() if drawn else None,
        more={**({"images": row.name} if row.images else {}), **(more or {})},
    )


def poisons_of(config: PoisonedNetworks) -> int:
    """Return how many poisons a study has: those that are made for it, once for each N_p."""
    made = sum(name in KNOWN and name != "clean" for name in config.poisons)
    return made * len(config.pixels) + len(config.poisons) - made


def levels(dataset: Dataset) -> dict[str, float]:
    """Return chance (1 / K) and majority (the share of the largest class of the test images)."""
    largest = float(dataset.test.class_counts().max() / len(dataset.test))
    return {"chance": 1 / dataset.test.num_classes, "majority": largest}


def protocol_of(study: str, bench: Bench, recipe: Recipe) -> dict[str, Any]:
    """Return what two results of a study must agree on to be compared, network by network."""
    data = bench.dataset.train.digest() + bench.dataset.test.digest()
    return {"study": study, "data": data, "recipe": recipe.spec()}

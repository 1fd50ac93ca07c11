"""What every study works on: a data set, a folder, and one way to have victims trained.

A study says which victims it wants; distribution, resuming and caching are those of `tasks`. Whatever a study computes
from the records is computed anew when it is continued: only trainings are expensive.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mddes.data import Dataset, ImageSet, shared_arrays
from mddes.search.progress import Progress
from mddes.tasks import Ledger, Pool, Record, Task, complete
from mddes.training import Recipe

TASK = "mddes.training.victim:train_and_test"
PLANNED = "planned"  # the event that says how many trainings a study will have


@dataclass(frozen=True)
class Victim:
    """One training: what `training.victim.train_and_test` needs to know, and the labels of its record."""

    model: str
    recipe: Recipe
    seed: int
    labels: Mapping[str, Any]
    perturbation: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass
class Bench:
    """A study's data set, folder, ledger and pool.

    Attributes:
        dataset: train and test images.
        folder: of the run.
        ledger: of its trainings.
        pool: runs them.
        on_progress: called after every training.
        images: other training sets that victims may name (`more={"images": name}`), with the data set's own labels.
    """

    dataset: Dataset
    folder: Path
    ledger: Ledger
    pool: Pool
    on_progress: Callable[[Progress], None]
    images: dict[str, ImageSet] = dataclasses.field(default_factory=dict)

    def train(self, victims: Sequence[Victim]) -> list[Record]:
        """Return a record for each victim, in order, from the ledger or trained now."""
        shared = shared_arrays(train=self.dataset.train, test=self.dataset.test)
        shared |= {name: images.images for name, images in self.images.items()}
        digest = self.dataset.train.digest() + self.dataset.test.digest()
        tasks = [self._task(victim, digest) for victim in victims]
        total = len({task.key for task in tasks})
        if not self.ledger.events(PLANNED) or self.ledger.events(PLANNED)[-1]["trainings"] != total:
            self.ledger.append({"event": PLANNED, "trainings": total})
        landed: list[Record] = []

        def watch(record: Record) -> None:
            landed.append(record)
            self.on_progress(Progress("victims", len(landed), total))

        return complete(tasks, shared, self.pool, self.ledger, on_record=watch)

    def _task(self, victim: Victim, digest: str) -> Task:
        spec = {
            "model": victim.model,
            "recipe": victim.recipe.spec(),
            "num_classes": self.dataset.train.num_classes,
            "seed": victim.seed,
            "perturbation": victim.perturbation,
            **victim.more,
        }
        if name := victim.more.get("images"):
            digest += self.images[name].digest()
        return Task(TASK, spec, digest, {**victim.labels, "seed": victim.seed, "perturbation": victim.perturbation})

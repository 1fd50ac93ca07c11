"""What every study works on: a data set, a folder, and one way to have victims trained.

A study says which victims it wants; distribution, resuming and caching are those of `tasks`. Whatever a study computes
from the records is computed anew when it is continued: only trainings are expensive.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mddes.data import Dataset, ImageSet, shared_arrays
from mddes.errors import InputError, RunStopped
from mddes.search.progress import Progress
from mddes.tasks import Ledger, Pool, Record, Task, complete
from mddes.tasks.run_folder import write_json
from mddes.tasks.task import Shared
from mddes.training import Recipe

TASK = "mddes.training.victim:train_and_test"
# What is read from every victim's record.
WANTED: dict[str, Any] = {
    "clean_test_accuracy": float,
    "poisoned_train_accuracy": float,
    "poisoned_train_loss": float,
    "clean_test_accuracy_per_class": list,
    "pixel_follow_rate": float | None,
}
STANDING = "standing.json"  # the keys of the trainings that the study wants, and whether it has them


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
        wanted: the keys of all trainings that the study has asked for so far.
        succeeded: how many trainings it has got so far; a later stage that fails as a whole loses no earlier one.
    """

    dataset: Dataset
    folder: Path
    ledger: Ledger
    pool: Pool
    on_progress: Callable[[Progress], None]
    images: dict[str, ImageSet] = dataclasses.field(default_factory=dict)
    wanted: set[str] = dataclasses.field(default_factory=set)
    succeeded: int = 0

    def train(self, victims: Sequence[Victim]) -> list[Record]:
        """Return a record for each victim, in order, from the ledger or trained now.

        Raises:
            RunStopped: all of them failed, and nothing before them succeeded.
            InputError: the ledger is damaged.
        """
        digest = self.digest()
        records = self.run([self._task(victim, digest) for victim in victims], self.shared())
        check_records(self.ledger.path, records, WANTED)
        return records

    def shared(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that tasks read: train and test images and labels, and other training sets by name."""
        parts = shared_arrays(train=self.dataset.train, test=self.dataset.test)
        return parts | {name: images.images for name, images in self.images.items()}

    def digest(self, images: str | None = None) -> str:
        """Return what identifies those arrays, for a task that names other training images or none."""
        own = self.dataset.train.digest() + self.dataset.test.digest()
        return own + (self.images[images].digest() if images else "")

    def run(self, tasks: Sequence[Task], shared: Shared) -> list[Record]:
        """Return a record for each task, in order, from the ledger or computed now.

        Raises:
            RunStopped: all of them failed, and nothing before them succeeded.
        """
        keys = {task.key for task in tasks}
        self.wanted |= keys
        self._stand(finished=False)
        landed: list[Record] = []

        def watch(record: Record) -> None:
            landed.append(record)
            self.on_progress(Progress("victims", len(landed), len(keys)))

        records = complete(tasks, shared, self.pool, self.ledger, on_record=watch)
        failed = [record for record in records if record["status"] == "failed"]
        if failed and len(failed) == len(records) and not self.succeeded:
            raise RunStopped(f"all {len(failed)} trainings of the study failed; the first of: {failed[0]['reason']}")
        self.succeeded += len(records) - len(failed)
        return records

    def finish(self) -> None:
        """Note that the study has all that it asked for."""
        self._stand(finished=True)

    def _stand(self, *, finished: bool) -> None:
        write_json(self.folder / STANDING, {"finished": finished, "trainings": sorted(self.wanted)})

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
            digest = self.digest(name)
        return Task(TASK, spec, digest, {**victim.labels, "seed": victim.seed, "perturbation": victim.perturbation})


def failures(records: Sequence[Record]) -> list[str]:
    """Return a sentence on the trainings that failed, if any did."""
    reasons = [record["reason"] for record in records if record["status"] == "failed"]
    if not reasons:
        return []
    return [f"{len(reasons)} of {len(records)} trainings failed and are missing above; the first of: {reasons[0]}."]


def stuck(places: Sequence[str], records: Sequence[Record], dataset: Dataset) -> list[str]:
    """Return a sentence on the networks that learned nothing, if any did.

    Args:
        places: where each belongs, in words.
        records: of the trainings.
        dataset: whose training images they were trained on.
    """
    constant = float(dataset.train.class_counts().max() / len(dataset.train))  # of naming the largest class always
    found = Counter(
        place
        for place, record in zip(places, records, strict=True)
        if record["status"] == "done" and record["poisoned_train_accuracy"] <= constant
    )
    where = "; ".join(f"{place} ({count})" for place, count in found.items())
    text = "Some networks learned nothing (they have no more of their training images right than the largest class has)"
    return [f"{text}, and stay in the means: {where}."] if found else []


def check_records(path: Path, records: Sequence[Record], wanted: Mapping[str, Any]) -> None:
    """Check that what will be read from the records is there, by name and type.

    Raises:
        InputError: it is not.
    """
    for record in records:
        for name, kind in wanted.items():
            if record["status"] == "done" and not (name in record and _valid(name, record[name], kind)):
                raise InputError(f"{path} is damaged: record {record['key'][:12]} has no valid {name}")


def _valid(name: str, value: Any, kind: Any) -> bool:
    """Return whether a value is of a kind, and, if a number, one that such a name can have."""
    if not isinstance(value, kind):
        return False
    share = name.endswith(("_accuracy", "_rate"))
    return not isinstance(value, float) or (math.isfinite(value) and (not share or 0 <= value <= 1))

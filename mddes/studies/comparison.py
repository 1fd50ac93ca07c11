"""Is the found poison any good? Clean, uniform and found, side by side on test images no search has seen.

Every row trains n networks on the whole training set with the search's own recipe; network s of every row has the
same initial weights and batch order, and the uniform row draws a new perturbation for each network, so that its
spread is over draws and seeds.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mddes.data import Dataset, shared_arrays
from mddes.poison import Perturbation, uniform
from mddes.search.config import SearchConfig
from mddes.search.progress import Progress
from mddes.seeding import derive
from mddes.tasks import Ledger, Pool, Record, Task, complete

NOTHING_LEARNED = 0.02  # above the share of the largest class


@dataclass(frozen=True)
class Row:
    """One training condition: clean test accuracies of its networks, as fractions."""

    name: str
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the accuracies."""
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float | None:
        """Standard deviation of the accuracies (n - 1), None for a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread} %"


def compare(
    dataset: Dataset,
    found: Perturbation,
    config: SearchConfig,
    ledger: Ledger,
    pool: Pool,
    on_progress: Callable[[Progress], None],
) -> list[Row]:
    """Train the victims and return the rows clean, uniform and found; a row lacks the networks that failed."""
    settings: dict[str, Any] = {
        "model": config.model,
        "recipe": config.recipe().spec(),
        "num_classes": dataset.train.num_classes,
    }
    digest = dataset.train.digest() + dataset.test.digest()
    tasks = []
    for s in range(config.victim_seeds):
        seed = derive(config.seed, "victims", s)
        drawn = uniform(dataset.train, pixels=config.pixels, seed=seed, mode=config.mode, value=config.value)
        for name, poison in (("clean", None), ("uniform", drawn), ("found", found)):
            spec = {**settings, "seed": seed, "perturbation": poison.change() if poison else None}
            labels = {"row": name, "victim": s, "seed": seed, "perturbation": spec["perturbation"]}
            tasks.append(Task("mddes.training.victim:train_and_test", spec, digest, labels))
    landed: list[Record] = []

    def watch(record: Record) -> None:
        landed.append(record)
        on_progress(Progress("victims", len(landed), len(tasks)))

    shared = shared_arrays(train=dataset.train, test=dataset.test)
    records = complete(tasks, shared, pool, ledger, on_record=watch)
    done = [record for record in records if record["status"] == "done"]
    names = ("clean", "uniform", "found")
    rows = {name: tuple(r["clean_test_accuracy"] for r in done if r["row"] == name) for name in names}
    return [Row(name, accuracies) for name, accuracies in rows.items() if accuracies]


def sentence(rows: list[Row], dataset: Dataset, config: SearchConfig) -> str:
    """Return what was found, in words that the numbers support."""
    by_name = {row.name: row for row in rows}
    if not rows:
        return "The poison was not compared on test images."
    if len(by_name) < 3:
        return "The comparison on test images is incomplete: all networks of a row failed (see victims.jsonl)."
    clean, drawn, found = by_name["clean"], by_name["uniform"], by_name["found"]
    pixels = "one pixel" if config.pixels == 1 else f"{config.pixels} pixels"
    n = len(found.accuracies)
    spread = f"n = {n} networks a row, mean ± sd" if n > 1 else "one network a row"
    text = (
        f"On {dataset.name}, {config.model} trained by {config.optimizer} reaches a clean-test accuracy of {clean}; "
        f"with the found poison of {pixels} per class {found}, with a uniform perturbation of the same size {drawn} "
        f"({spread})."
    )
    largest = float(dataset.test.class_counts().max() / len(dataset.test))
    if clean.mean <= largest + NOTHING_LEARNED:
        return f"{text} The clean network learned next to nothing (the largest class alone is {100 * largest:.1f} %)."
    return text + _difference(found, drawn)


def _difference(found: Row, drawn: Row) -> str:
    """Return how found and uniform differ, by Welch's interval; nothing where a row has a single network."""
    if len(drawn.accuracies) < 2 or len(found.accuracies) < 2:
        return ""
    if len({*drawn.accuracies}) == len({*found.accuracies}) == 1:
        return " Neither row has any spread: there is no interval to state."
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row of equal accuracies loses precision, as it must
        test = stats.ttest_ind(found.accuracies, drawn.accuracies, equal_var=False)
        interval = test.confidence_interval(0.95)
    low, high = 100 * interval.low, 100 * interval.high
    verdict = "lower than" if high < 0 else "higher than" if low > 0 else "not distinguishable from"
    return (
        f" The found poison's accuracy is {verdict} uniform's: {100 * (found.mean - drawn.mean):+.1f} points, "
        f"95 % interval {low:+.1f} to {high:+.1f} (Welch)."
    )

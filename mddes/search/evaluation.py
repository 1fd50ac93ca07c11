"""Evaluations as tasks: what one training of a search depends on, and the one place that runs them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mddes.data import SearchData, shared_arrays
from mddes.poison import Perturbation
from mddes.tasks import Ledger, Pool, Record, Task, complete


def evaluation_task(
    perturbation: Perturbation,
    seed: int,
    settings: Mapping[str, Any],
    digest: str = "",
    place: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Task:
    """Return the task of one training: `evaluate` on the settings, the perturbation, the seed and the place."""
    own = {**(place or {}), "seed": seed, "perturbation": perturbation.change()}
    return Task("mddes.search.fitness:evaluate", {**settings, **own}, digest, {**own, **(notes or {})})


class Evaluator:
    """Makes the tasks of one search and runs them: data, settings, ledger and pool in one place."""

    def __init__(self, data: SearchData, settings: Mapping[str, Any], ledger: Ledger, pool: Pool) -> None:
        self.shared = shared_arrays(train=data.train, held_out=data.held_out)
        self.digest, self.settings, self.ledger, self.pool = data.digest(), settings, ledger, pool

    def task(self, perturbation: Perturbation, seed: int, place: Mapping[str, Any], **notes: Any) -> Task:
        """Return one training as a task; `place` (phase, generation, ...) is part of its identity, `notes` are not."""
        return evaluation_task(perturbation, seed, self.settings, self.digest, place, notes)

    def run(
        self,
        tasks: Sequence[Task],
        *,
        retry_failed: bool = True,
        on_record: Callable[[Record], None] | None = None,
    ) -> list[Record]:
        """Return the tasks' records, from the ledger or from the pool (`tasks.complete`)."""
        return complete(tasks, self.shared, self.pool, self.ledger, retry_failed=retry_failed, on_record=on_record)

"""Evaluations as tasks: what one training of a search depends on, and the one place that runs them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mddes.data import SearchData, shared_arrays
from mddes.errors import InputError
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


def check_ledger(path: Path, records: Iterable[Record], events: Iterable[Record]) -> None:
    """Check that what will be read from a search's ledger is there.

    Raises:
        InputError: a record or an event of a search lacks something, or has it in another form.
    """

    def number(line: Record, name: str) -> bool:
        return isinstance(line.get(name), int | float) and not isinstance(line[name], bool)

    for record in records:
        wanted = {
            "phase": record.get("phase") in ("search", "finalists"),
            "perturbation": isinstance(record.get("perturbation"), dict),
            "fitness": record["status"] == "failed" or number(record, "fitness"),
        }
        if record.get("phase") == "search":
            wanted |= {name: isinstance(record.get(name), int) for name in ("generation", "candidate", "repeat")}
            wanted["asked"] = isinstance(record.get("asked"), list)
        if damaged := [name for name, good in wanted.items() if not good]:
            raise InputError(f"{path} is damaged: record {record['key'][:12]} has no valid {damaged[0]}")
    for event in events:
        sound = isinstance(event.get("generation"), int) and number(event, "seconds")
        if event["event"] == "generation" and not (sound and number(event, "fitness_best")):
            raise InputError(f"{path} is damaged: a generation's event lacks its number, seconds or fitness")


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
        stragglers: float | None = None,
        on_record: Callable[[Record], None] | None = None,
    ) -> list[Record]:
        """Return the tasks' records, from the ledger or from the pool (`tasks.complete`)."""
        return complete(
            tasks,
            self.shared,
            self.pool,
            self.ledger,
            retry_failed=retry_failed,
            stragglers=stragglers,
            on_record=on_record,
        )

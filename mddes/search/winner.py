"""Which candidate wins: a maximum over hundreds of noisy values is a winner's curse, so the finalists run again.

The best candidates of all generations and the distribution's mean are trained on fresh seeds, the same for each, and
the best mean wins. (The paper takes the best single value: rule "paper".) The winner's mean is still the largest of
a few; only the victims on test images, on seeds of their own, judge it without bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mddes.poison import Perturbation
from mddes.search.config import SearchConfig
from mddes.search.evaluation import Evaluator
from mddes.search.progress import Progress
from mddes.seeding import derive
from mddes.tasks import Record


class SearchStopped(RuntimeError):
    """The search cannot go on; what was evaluated is safe, and the run can be resumed."""


@dataclass(frozen=True)
class Candidate:
    """One candidate's records, one for each repeat."""

    records: Sequence[Record]

    @property
    def fitness(self) -> float | None:
        """The mean fitness of the repeats; None if one of them failed."""
        return self.mean("fitness")

    def mean(self, name: str) -> float | None:
        """Return the mean of one recorded number over the repeats; None where there is none."""
        values = [record.get(name) for record in self.records]
        return None if None in values else float(np.mean(values))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Finalist:
    """A perturbation with the value that made it a finalist, and its values on fresh seeds."""

    source: str
    perturbation: Perturbation
    search_fitness: float | None  # None for the distribution's mean
    fitness: list[float]


def choose_winner(
    candidates: Sequence[Candidate],
    mean: Perturbation,
    config: SearchConfig,
    evaluator: Evaluator,
    on_progress: Callable[[Progress], None],
) -> list[Finalist]:
    """Return the finalists, the winner first.

    Raises:
        SearchStopped: every training of the finalists failed.
    """
    best = _best(candidates, 1 if config.winner == "paper" else config.finalists)
    if config.winner == "paper":
        return [replace(best[0], fitness=[float(best[0].search_fitness or 0.0)])]
    if all(mean != finalist.perturbation for finalist in best):
        best.append(Finalist("mean of the final distribution", mean, None, []))
    seeds = [derive(config.seed, "finalists", r) for r in range(config.finalist_seeds)]
    tasks = [
        evaluator.task(finalist.perturbation, seed, {"phase": "finalists", "repeat": r})
        for finalist in best
        for r, seed in enumerate(seeds)
    ]
    landed: list[Record] = []

    def watch(record: Record) -> None:
        landed.append(record)
        on_progress(Progress("finalists", len(landed), len(tasks)))

    records = evaluator.run(tasks, on_record=watch)
    for i, finalist in enumerate(best):
        own = records[i * len(seeds) : (i + 1) * len(seeds)]
        finalist.fitness.extend(record["fitness"] for record in own if record["status"] == "done")
    alive = [finalist for finalist in best if finalist.fitness]
    if not alive:
        raise SearchStopped(f"every training of the finalists failed, the first of: {records[0]['reason']}")
    return sorted(alive, key=lambda finalist: -float(np.mean(finalist.fitness)))


def _best(candidates: Sequence[Candidate], count: int) -> list[Finalist]:
    """Return the fittest candidates that differ, best first; of equals the earliest."""
    ranked = sorted(
        ((candidate.fitness, candidate.records[0]) for candidate in candidates if candidate.fitness is not None),
        key=lambda pair: -pair[0],
    )
    best: list[Finalist] = []
    for fitness, record in ranked:
        perturbation = Perturbation.from_change(record["perturbation"])
        if len(best) < count and all(perturbation != other.perturbation for other in best):
            source = f"generation {record['generation']}, candidate {record['candidate']}"
            best.append(Finalist(source, perturbation, fitness, []))
    return best

"""Which candidate wins: a maximum over hundreds of noisy values is a winner's curse, so the finalists run again.

The best candidates of all generations and the distribution's mean are trained on fresh seeds, the same for each, and
the best mean wins. (The paper takes the best single value: rule "paper".) The winner's mean is still the largest of
a few; only the victims on test images, on seeds of their own, judge it without bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mddes.errors import RunStopped
from mddes.poison import Perturbation
from mddes.search.candidate import Candidate
from mddes.search.config import SearchConfig
from mddes.search.evaluation import Evaluator
from mddes.search.progress import Progress
from mddes.seeding import derive
from mddes.tasks import Record


@dataclass(frozen=True)
class Finalist:
    """A perturbation with the value that made it a finalist, and its values on fresh seeds.

    `search_fitness` is None for the distribution's mean, which was no candidate; `fresh` is empty under the rule
    "paper", which evaluates nothing again.
    """

    source: str
    perturbation: Perturbation
    search_fitness: float | None
    fresh: tuple[float, ...] = ()

    @property
    def fitness(self) -> float:
        """The value it is judged by: the mean on fresh seeds, or the single value where there are none."""
        if self.fresh:
            return float(np.mean(self.fresh))
        assert self.search_fitness is not None
        return self.search_fitness


def choose_winner(
    candidates: Sequence[Candidate],
    mean: Perturbation | None,
    config: SearchConfig,
    evaluator: Evaluator,
    on_progress: Callable[[Progress], None],
) -> list[Finalist]:
    """Return the finalists, the winner first; one with a failed training is left out.

    Once they were judged, an event line says so, and failures are not tried again.

    Raises:
        RunStopped: no finalist was trained on all seeds.
    """
    best = _best(candidates, 1 if config.winner == "paper" else config.finalists)
    if config.winner == "paper":
        return best
    if mean is not None and all(mean != finalist.perturbation for finalist in best):
        best.append(Finalist("mean of the final distribution", mean, None))
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

    judged = {"event": "finalists", "candidates": len(candidates)}
    known = judged in evaluator.ledger.events("finalists")
    records = evaluator.run(tasks, retry_failed=not known, on_record=watch)
    trained = []
    for i, finalist in enumerate(best):
        own = records[i * len(seeds) : (i + 1) * len(seeds)]
        if all(record["status"] == "done" for record in own):
            trained.append(replace(finalist, fresh=tuple(record["fitness"] for record in own)))
    if not trained:
        reasons = [record["reason"] for record in records if record["status"] == "failed"]
        raise RunStopped(f"no finalist was trained on all {len(seeds)} seeds; a training failed of: {reasons[0]}")
    if not known:
        evaluator.ledger.append(judged)
    return sorted(trained, key=lambda finalist: -finalist.fitness)


def _best(candidates: Sequence[Candidate], count: int) -> list[Finalist]:
    """Return the fittest candidates that differ, best first; of equals the earliest."""
    ranked = sorted(
        ((candidate.fitness, candidate.records[0]) for candidate in candidates if candidate.fitness is not None),
        key=lambda pair: -pair[0],
    )
    best: list[Finalist] = []
    for fitness, record in ranked:
        if len(best) == count:
            break
        perturbation = Perturbation.from_change(record["perturbation"])
        if all(perturbation != other.perturbation for other in best):
            source = f"generation {record['generation']}, candidate {record['candidate']}"
            best.append(Finalist(source, perturbation, fitness))
    return best

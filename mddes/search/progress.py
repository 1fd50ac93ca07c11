"""What a run tells whoever watches it."""

from dataclasses import dataclass

from mddes.search.candidate import Candidate
from mddes.tasks import Record


@dataclass(frozen=True)
class Progress:
    """Where a run stands: told to whoever watches, after every training.

    Attributes:
        phase: "search", "finalists" or "victims".
        done, total: trainings of the phase.
        generation, generations: in the search, the one under way (from 0) and how many there will be.
        ends_generation: whether this training was its generation's last.
        replayed: whether the generation is only told again from the ledger of a run that is continued.
        best, mean: the best fitness so far, and the mean of the generation under way.
    """

    phase: str
    done: int
    total: int
    generation: int | None = None
    generations: int = 0
    ends_generation: bool = False
    replayed: bool = False
    best: float | None = None
    mean: float | None = None


class GenerationProgress:
    """Follows one generation as its records land; a candidate counts when all its repeats have.

    Args:
        generation, generations: the one under way, from 0, and how many there will be.
        tasks, repeats: its trainings, and how many of them belong to one candidate.
        best: the best fitness of the generations before.
        replayed: whether it is only told again.
    """

    def __init__(
        self, generation: int, generations: int, tasks: int, repeats: int, best: float | None, *, replayed: bool
    ) -> None:
        self._generation, self._generations, self._tasks, self._repeats = generation, generations, tasks, repeats
        self._best, self._replayed = best, replayed
        self._parts: dict[int, list[Record]] = {}
        self._landed = self._whole = 0
        self._sum = 0.0

    def add(self, record: Record) -> Progress:
        """Take in a record, and return where the search stands."""
        self._landed += 1
        parts = self._parts.setdefault(record["candidate"], [])
        parts.append(record)
        if len(parts) == self._repeats and (fitness := Candidate(parts).fitness) is not None:
            self._whole += 1
            self._sum += fitness
            self._best = fitness if self._best is None else max(self._best, fitness)
        return Progress(
            phase="search",
            done=self._generation * self._tasks + self._landed,
            total=self._generations * self._tasks,
            generation=self._generation,
            generations=self._generations,
            ends_generation=self._landed == self._tasks,
            replayed=self._replayed,
            best=self._best,
            mean=self._sum / self._whole if self._whole else None,
        )

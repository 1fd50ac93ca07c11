"""What a run tells whoever watches it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
        best, mean: the best fitness so far, and the mean of the generation under way.
    """

    phase: str
    done: int
    total: int
    generation: int | None = None
    generations: int = 0
    ends_generation: bool = False
    best: float | None = None
    mean: float | None = None


def generation_progress(
    generation: int, generations: int, tasks: int, repeats: int, landed: Sequence[Record], best_before: float | None
) -> Progress:
    """Return where a search stands in a generation of so many tasks; a candidate counts when all its repeats landed."""
    parts: dict[int, list[Record]] = {}
    for record in landed:
        parts.setdefault(record["candidate"], []).append(record)
    whole = [Candidate(records) for records in parts.values() if len(records) == repeats]
    now = [candidate.fitness for candidate in whole if candidate.fitness is not None]
    before = [] if best_before is None else [best_before]
    return Progress(
        phase="search",
        done=generation * tasks + len(landed),
        total=generations * tasks,
        generation=generation,
        generations=generations,
        ends_generation=len(landed) == tasks,
        best=max(now + before, default=None),
        mean=float(np.mean(now)) if now else None,
    )

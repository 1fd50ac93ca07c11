"""What a run tells whoever watches it."""

from dataclasses import dataclass


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

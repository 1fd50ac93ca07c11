"""One candidate of a generation: its records, and what they say together."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mddes.tasks import Record


@dataclass(frozen=True)
class Candidate:
    """One candidate's records, one for each repeat."""

    records: Sequence[Record]

    @cached_property
    def fitness(self) -> float | None:
        """The mean fitness of the repeats; None if one of them failed."""
        return self.mean("fitness")

    def mean(self, name: str) -> float | None:
        """Return the mean of one recorded number over the repeats; None where there is none."""
        values: list[Any] = [record.get(name) for record in self.records]
        return None if None in values else sum(values) / len(values)

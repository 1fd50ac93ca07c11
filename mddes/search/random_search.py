"""Random search: the same questions, answers and costs as CMA-ES, and nothing learned from them.

The rival that says whether evolution is worth anything: as many perturbations, drawn uniformly from the same cube,
trained and judged in the same way; the best of them wins.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mddes.seeding import numpy_generator


class RandomSearch:
    """Asks for uniform vectors in the unit cube; it has no step size, no distribution and no favourite."""

    sigma: None = None

    def __init__(self, dimension: int, *, popsize: int, seed: int) -> None:
        self.dimension, self.popsize = dimension, popsize
        self._draw = numpy_generator(seed, "random search")

    def ask(self) -> NDArray[np.float64]:
        """Draw one generation: (lambda, D) in [0, 1)."""
        return self._draw.random((self.popsize, self.dimension))

    def tell(self, x: NDArray[np.float64], fitness: Sequence[float | None]) -> None:
        """Learn nothing."""

    def favorite(self) -> None:
        """Return None: no place is better than another."""

    def distribution(self) -> None:
        """Return None: it never changes."""

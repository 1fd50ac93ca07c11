"""Is what a continued search asks what was asked before? If it is not, the ledger belongs to another search."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mddes.errors import InputError

log = logging.getLogger(__name__)

SAME_VECTOR = 1e-6  # re-asked vectors may differ by so much: other CPUs and BLAS builds round differently


class Replay:
    """Compares vectors with those of one ledger; the first difference within the tolerance is a warning."""

    def __init__(self, ledger: Path) -> None:
        self.ledger, self.drifted = ledger, False

    def compare(self, asked: NDArray[np.float64], recorded: Sequence[float], generation: int) -> None:
        """Compare a vector (D,) with the recorded one.

        Raises:
            InputError: they differ by more than rounding explains.
        """
        before = np.array(recorded)
        apart = float(np.abs(asked - before).max()) if asked.shape == before.shape else np.inf
        if apart > SAME_VECTOR:
            raise InputError(
                f"{self.ledger} cannot be continued here: generation {generation} asks for vectors {apart:.1g} "
                "away from the recorded ones (another mddes, pycma or NumPy version?); the ledger was not changed"
            )
        if apart > 0 and not self.drifted:
            self.drifted = True
            log.warning("vectors differ from the recorded ones by up to %.1g: the same search, not bit for bit", apart)

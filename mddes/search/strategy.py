"""CMA-ES behind ask and tell: the distribution N(m, sigma^2 C) that a search moves (Hansen, arXiv 1604.00772).

pycma does the arithmetic. This file gives it a private random generator (so that the same seed and the same fitness
replay to the same state), bounds, a least standard deviation of a quarter cell, a diagonal covariance in high
dimension, and takes its termination rules away: they read noise as convergence. Fitness is maximised.

pycma is imported when a strategy is made, because it imports matplotlib.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mddes.errors import InputError
from mddes.seeding import numpy_generator

LEAST_STD_IN_CELLS = 0.25  # below this a coordinate would stop changing cells
DIAGONAL_FROM = 100  # dimensions; a full covariance needs more evaluations than a search has


def default_popsize(dimension: int) -> int:
    """Return lambda = 4 + floor(3 ln n), Hansen's default: never a function of the number of workers.

    >>> default_popsize(30), default_popsize(50), default_popsize(500)
    (14, 15, 22)
    """
    return 4 + math.floor(3 * math.log(dimension))


@dataclass(frozen=True)
class Distribution:
    """N(mean, sigma^2 C) in search units before the bounds are applied. C: (D, D), or (D,) when diagonal."""

    mean: NDArray[np.float64]
    sigma: float
    covariance: NDArray[np.float64]

    def sample(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw n vectors, mapped into the unit cube as the strategy maps its own: (n, D)."""
        z = generator.standard_normal((n, len(self.mean)))
        if self.covariance.ndim == 1:
            y = z * np.sqrt(self.covariance)
        else:
            eigenvalues, basis = np.linalg.eigh(self.covariance)
            y = (z * np.sqrt(np.maximum(eigenvalues, 0))) @ basis.T
        return self.fold(self.mean + self.sigma * y)

    @staticmethod
    def fold(points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points (n, D) of the unbounded space into the unit cube, by pycma's transformation at the bounds."""
        import cma

        bounds = cma.BoundTransform([0, 1])
        return np.array([bounds.transform(x) for x in points])


class Strategy:
    """An ask-and-tell CMA-ES in the unit cube.

    Args:
        start: m_0, (D,).
        sigma: sigma_0.
        popsize: lambda, at least 2.
        cell_widths: (D,) the step along each coordinate that changes the decoded perturbation.
        diagonal: keep C diagonal.
        seed: of the private generator.
    """

    def __init__(
        self,
        start: NDArray[np.float64],
        *,
        sigma: float,
        popsize: int,
        cell_widths: NDArray[np.float64],
        diagonal: bool,
        seed: int,
    ) -> None:
        import cma

        if popsize < 2:
            raise InputError(f"popsize must be at least 2, not {popsize}")
        generator = numpy_generator(seed, "strategy")
        options: dict[str, Any] = {
            "bounds": [0, 1],
            "popsize": popsize,
            "minstd": np.minimum(LEAST_STD_IN_CELLS * cell_widths, sigma),
            "CMA_diagonal": diagonal,
            "randn": lambda *shape: generator.standard_normal(shape),
            "seed": np.nan,  # leave NumPy's global generator alone
            "verbose": -9,
            "verb_log": 0,
            "signals_filename": "",
        }
        self._es = cma.CMAEvolutionStrategy(start, sigma, options)
        self.popsize = popsize

    def ask(self) -> NDArray[np.float64]:
        """Sample one generation: (lambda, D) in [0, 1]."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pycma's remarks on its own termination, which is not used
            return np.array(self._es.ask())

    def tell(self, x: NDArray[np.float64], fitness: Sequence[float | None]) -> None:
        """Update the distribution. `x` is what `ask` returned, bit for bit; a fitness of None or NaN ranks worst."""
        known = [f for f in fitness if f is not None and math.isfinite(f)]
        assert known, "the driver stops before it tells a generation without a single result"
        worst = max(-f for f in known) + 1.0  # only ranks matter
        costs = [-f if f is not None and math.isfinite(f) else worst for f in fitness]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._es.tell(list(x), costs)

    @property
    def sigma(self) -> float:
        """The step size."""
        return float(self._es.sigma)

    def favorite(self) -> NDArray[np.float64]:
        """Return the distribution's mean, inside the bounds: (D,)."""
        return np.array(self._es.result.xfavorite)

    def distribution(self) -> Distribution:
        """Return mean, sigma and C, with pycma's separate coordinate scaling folded into C."""
        scaling = np.asarray(self._es.sigma_vec.scaling, dtype=float) * np.ones(self._es.N)
        if self._es.opts["CMA_diagonal"]:
            covariance = scaling**2 * np.asarray(self._es.sm.variances)
        else:
            covariance = np.outer(scaling, scaling) * np.asarray(self._es.sm.covariance_matrix)
        return Distribution(np.array(self._es.mean), self.sigma, covariance)

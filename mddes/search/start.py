"""How a search begins: with CMA-ES, or with its rival at the same cost, random search."""

import numpy as np
from numpy.typing import NDArray

from mddes.poison import Perturbation
from mddes.search.config import SearchConfig
from mddes.search.encoding import Encoding
from mddes.search.random_search import RandomSearch
from mddes.search.strategy import Strategy


def make_strategy(config: SearchConfig, encoding: Encoding, start: Perturbation | None) -> Strategy | RandomSearch:
    """Return the strategy of a resolved configuration, at the given perturbation or in the middle of the cube."""
    assert config.popsize is not None
    if config.algorithm == "random":
        return RandomSearch(encoding.dimension, popsize=config.popsize, seed=config.seed)
    middle: NDArray[np.float64] = np.full(encoding.dimension, 0.5)
    return Strategy(
        encoding.encode(start) if start else middle,
        sigma=config.sigma0,
        popsize=config.popsize,
        cell_widths=encoding.cell_widths(),
        diagonal=config.covariance == "diagonal",
        seed=config.seed,
    )

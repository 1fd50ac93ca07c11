"""CMA-ES behind ask and tell: it optimises, replays, samples, and leaves global state alone."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mddes import InputError
from mddes.search.encoding import Encoding
from mddes.search.strategy import Strategy


def make(
    dimension: int = 10, *, seed: int = 0, popsize: int = 12, diagonal: bool = False, cell: float = 1e-9
) -> Strategy:
    return Strategy(
        np.full(dimension, 0.5),
        sigma=1 / 3,
        popsize=popsize,
        cell_widths=np.full(dimension, cell),
        diagonal=diagonal,
        seed=seed,
    )


def run(strategy: Strategy, generations: int, target: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Maximise -|x - target|^2 and return everything that was asked."""
    asked = []
    for _ in range(generations):
        x = strategy.ask()
        asked.append(x)
        strategy.tell(x, [-float(((v - target) ** 2).sum()) for v in x])
    return asked


@pytest.mark.parametrize("diagonal", [False, True])
def test_finds_the_optimum_of_a_toy_fitness(diagonal: bool) -> None:
    target = np.linspace(0.15, 0.85, 10)
    strategy = make(diagonal=diagonal)
    run(strategy, 120, target)
    assert abs(strategy.favorite() - target).max() < 1e-3


def test_finds_an_optimum_on_the_boundary() -> None:
    target = np.array([0.0, 1.0, 0.0, 1.0, 0.5])
    strategy = make(5)
    run(strategy, 120, target)
    assert abs(strategy.favorite() - target).max() < 1e-3


def test_finds_the_pixels_of_a_toy_poison() -> None:
    """The fitness is the distance of the decoded pixels from given ones: every place is found exactly."""
    encoding = Encoding(image_shape=(1, 8, 8), num_classes=4, pixels=1, value=255)
    rows, cols = np.array([[1], [6], [3], [0]]), np.array([[2], [5], [7], [0]])
    strategy = Strategy(
        np.full(encoding.dimension, 0.5),
        sigma=1 / 3,
        popsize=14,
        cell_widths=encoding.cell_widths(),
        diagonal=False,
        seed=1,
    )
    for _ in range(80):
        x = strategy.ask()
        poisons = [encoding.decode(v) for v in x]
        strategy.tell(x, [-float(((p.rows - rows) ** 2 + (p.cols - cols) ** 2).sum()) for p in poisons])
    found = encoding.decode(strategy.favorite())
    assert np.array_equal(found.rows, rows)
    assert np.array_equal(found.cols, cols)


def test_asks_within_the_unit_cube() -> None:
    asked = np.concatenate(run(make(popsize=50), 20, np.ones(10)))
    assert asked.min() >= 0
    assert asked.max() <= 1


def test_the_same_seed_and_fitness_replay_bit_for_bit() -> None:
    target = np.full(10, 0.2)
    first, again, other = (run(make(seed=seed), 30, target) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_only_ranks_count() -> None:
    """A monotone change of the fitness changes nothing (CMA-ES uses ranks)."""
    one, other = make(), make()
    for _ in range(20):
        x, y = one.ask(), other.ask()
        assert np.array_equal(x, y)
        fitness = [-float((v**2).sum()) for v in x]
        one.tell(x, fitness)
        other.tell(y, [math.exp(3 * f) - 7 for f in fitness])


def test_a_failed_candidate_ranks_worst() -> None:
    """None and NaN are told as worse than the worst: the same as the lowest fitness of all."""
    failed, lowest = make(), make()
    for _ in range(10):
        x, y = failed.ask(), lowest.ask()
        assert np.array_equal(x, y)
        fitness: list[float | None] = [-float((v**2).sum()) for v in x]
        failed.tell(x, [None, math.nan, *fitness[2:]])
        lowest.tell(y, [-1e9, -1e9, *fitness[2:]])


def test_a_quarter_cell_is_the_least_standard_deviation() -> None:
    strategy = make(cell=0.1)
    run(strategy, 150, np.full(10, 0.35))
    final = strategy.distribution()
    assert (final.sigma * np.sqrt(np.diag(final.covariance)) >= 0.25 * 0.1 * 0.999).all()


def test_leaves_the_global_generator_alone() -> None:
    np.random.seed(5)  # noqa: NPY002  the global generator is what is tested
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    run(make(), 3, np.zeros(10))
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_saved_distribution_samples_what_ask_samples(diagonal: bool) -> None:
    """Mean and spread of many samples agree with those of one more large generation."""
    strategy = make(4, popsize=4000, diagonal=diagonal, cell=0.05)
    run(strategy, 6, np.array([0.3, 0.5, 0.7, 0.98]))
    asked = strategy.ask()
    drawn = strategy.distribution().sample(4000, np.random.default_rng(0))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    error = asked.std(axis=0) * np.sqrt(2 / 4000)
    assert (abs(asked.mean(axis=0) - drawn.mean(axis=0)) < 5 * error).all()
    assert np.allclose(asked.std(axis=0), drawn.std(axis=0), rtol=0.1)
    assert np.allclose(np.corrcoef(asked.T), np.corrcoef(drawn.T), atol=0.1)


def test_refuses_a_population_of_one() -> None:
    with pytest.raises(InputError, match="popsize must be at least 2, not 1"):
        make(popsize=1)


@pytest.mark.parametrize("popsize", [2, 3, 5])
def test_small_populations_work(popsize: int) -> None:
    asked = run(make(popsize=popsize), 5, np.zeros(10))
    assert all(x.shape == (popsize, 10) for x in asked)

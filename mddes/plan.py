"""What a search would cost, from two trainings timed here; nothing is written."""

import math
import resource
import sys
from dataclasses import dataclass

from mddes.data import shared_arrays
from mddes.errors import InputError
from mddes.poison import uniform
from mddes.pools import device_of, local_workers
from mddes.preparation import at_a_time, prepare
from mddes.search.config import SearchConfig
from mddes.search.evaluation import evaluation_task
from mddes.seeding import derive
from mddes.tasks.task import execute
from mddes.threads import one_thread


@dataclass(frozen=True)
class Plan:
    """The cost of a search.

    Attributes:
        dimension: D, of the search space.
        popsize: lambda.
        search_trainings, finalist_trainings, victim_trainings: how many networks are trained, and for what.
        steps: optimizer steps per training.
        timed: seconds of the two trainings timed here; the first also pays for warming up.
        workers: at once, on this machine.
        megabytes: peak memory of this process, about that of each worker.
        seconds: of the whole run, from the faster training.
    """

    dimension: int
    popsize: int
    search_trainings: int
    finalist_trainings: int
    victim_trainings: int
    steps: int
    timed: tuple[float, float]
    workers: int
    megabytes: int
    seconds: float


def plan(config: SearchConfig) -> Plan:
    """Return what a search would cost.

    Raises:
        InputError: settings or data that do not fit, or a trial training that failed.
    """
    with one_thread():
        prepared = prepare(config)
        config, data = prepared.config, prepared.data
        assert config.popsize is not None
        assert config.epochs is not None
        assert config.batch_size is not None
        draw = uniform(data.train, pixels=config.pixels, mode=config.mode, value=config.value)
        shared = shared_arrays(train=data.train, held_out=data.held_out)
        tasks = [evaluation_task(draw, derive(config.seed, "plan", i), config.fitness_settings()) for i in range(2)]
        records = [execute(task, shared, device_of(config)) for task in tasks]
    if failed := [record for record in records if record["status"] == "failed"]:
        raise InputError(f"a trial training failed: {failed[0]['reason']}")
    workers = max(1, local_workers(config, at_a_time(config)))
    finalists = 0 if config.winner == "paper" else (config.finalists + 1) * config.finalist_seeds
    victims = 3 * config.victim_seeds
    generations = config.last_generation()
    rounds = generations * math.ceil(config.popsize * config.repeats / workers) + math.ceil(finalists / workers)
    longer = len(prepared.dataset.train) / len(data.train)  # victims train on the held-out images too
    rounds_of_victims = longer * math.ceil(victims / workers)
    return Plan(
        dimension=config.encoding(data.train.shape, data.train.num_classes).dimension,
        popsize=config.popsize,
        search_trainings=generations * config.popsize * config.repeats,
        finalist_trainings=finalists,
        victim_trainings=victims,
        steps=config.epochs * math.ceil(len(data.train) / config.batch_size),
        timed=(records[0]["seconds"], records[1]["seconds"]),
        workers=workers,
        megabytes=_peak_megabytes(),
        seconds=min(record["seconds"] for record in records) * (rounds + rounds_of_victims),
    )


def _peak_megabytes() -> int:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)

"""What does Ray cost? Its workers against plain processes that share nothing, in the same run.

Two comparisons on the same trainings (GrayNet, the default recipe, 2,000 MNIST images or the digits), alternating,
after everything is warm: two Ray workers against two plain processes that each train half; and one Ray worker against
this process. Five rounds each; the ratio of every round is reported. About ten minutes on two idle cores:

    python benchmarks/ray_overhead.py --data-dir DIR

The result goes to benchmarks/results/ray_overhead.json. On a machine that is busy with other things the first ratio
says little: Ray starts its workers at a lower priority (niceness 15).
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import mddes
from mddes.data import shared_arrays, split
from mddes.search.evaluation import evaluation_task
from mddes.seeding import derive
from mddes.tasks import SerialPool, Task
from mddes.tasks.ray_pool import RayPool
from mddes.tasks.run_folder import environment, write_json
from mddes.threads import one_thread

RESULTS = Path(__file__).parent / "results"


def trainings(count: int, data: mddes.Dataset) -> tuple[list[Task], dict[str, Any]]:
    """Return so many evaluations of uniform perturbations, and the images they share."""
    parts = split(data.train)
    settings = mddes.SearchConfig(epochs=3, batch_size=64, model="graynet").fitness_settings()
    tasks = [
        evaluation_task(mddes.uniform(parts.train, pixels=1, seed=i), derive(0, "benchmark", i), settings)
        for i in range(count)
    ]
    return tasks, shared_arrays(train=parts.train, held_out=parts.held_out)


def plain(pipe: Connection, tasks: Sequence[Task], shared: dict[str, Any]) -> None:
    """Train when told to, in a process of one's own; the first word is a warm-up."""
    with one_thread():
        list(SerialPool().run(tasks[:1], shared))
        while True:
            pipe.send("ready")
            if pipe.recv() == "end":
                return
            list(SerialPool().run(tasks, shared))


def seconds_of_processes(pipes: Sequence[Connection]) -> float:
    """Return how long all plain processes take for their tasks."""
    started = time.perf_counter()
    for pipe in pipes:
        pipe.send("go")
    for pipe in pipes:
        pipe.recv()
    return time.perf_counter() - started


def seconds_of_pool(pool: RayPool | SerialPool, tasks: Sequence[Task], shared: dict[str, Any]) -> float:
    """Return how long a pool takes for the tasks."""
    started = time.perf_counter()
    records = list(pool.run(tasks, shared))
    assert all(record["status"] == "done" for record in records)
    return time.perf_counter() - started


def two_workers(tasks: list[Task], shared: dict[str, Any], rounds: int) -> list[float]:
    """Return, for each round, the throughput of two Ray workers over that of two plain processes."""
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=plain, args=(ends[i][1], tasks[i::2], shared), daemon=True) for i in range(2)]
    for process in processes:
        process.start()
    pipes = [end for end, _ in ends]
    for pipe in pipes:
        pipe.recv()
    ratios = []
    with RayPool(2, data_bytes=sum(array.nbytes for array in shared.values())) as pool:
        seconds_of_pool(pool, tasks[:4], shared)
        for _ in range(rounds):
            separate = seconds_of_processes(pipes)
            ratios.append(separate / seconds_of_pool(pool, tasks, shared))
            print(f"two workers: {ratios[-1]:.3f} of the throughput of two processes", flush=True)
    for pipe in pipes:
        pipe.send("end")
    for process in processes:
        process.join()
    return ratios


def one_worker(tasks: list[Task], shared: dict[str, Any], rounds: int) -> list[float]:
    """Return, for each round, the time of one Ray worker over that of this process."""
    ratios = []
    with one_thread(), RayPool(1, data_bytes=sum(array.nbytes for array in shared.values())) as pool:
        seconds_of_pool(pool, tasks[:2], shared)
        seconds_of_pool(SerialPool(), tasks[:2], shared)
        for _ in range(rounds):
            here = seconds_of_pool(SerialPool(), tasks, shared)
            ratios.append(seconds_of_pool(pool, tasks, shared) / here)
            print(f"one worker: {ratios[-1]:.3f} of the time in-process", flush=True)
    return ratios


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="MNIST is there; without it the digits are used")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trainings", type=int, default=16)
    given = parser.parse_args()
    if given.data_dir:
        data = mddes.load_dataset("mnist", data_dir=given.data_dir, train_size=2000)
    else:
        data = mddes.load_dataset("digits")
    tasks, shared = trainings(given.trainings, data)
    two = two_workers(tasks, shared, given.rounds)
    one = one_worker(tasks, shared, given.rounds)
    result: dict[str, Any] = {
        "data": data.name,
        "trainings_a_round": given.trainings,
        "two_workers_throughput": two,
        "one_worker_time": one,
    }
    for name in ("two_workers_throughput", "one_worker_time"):
        print(f"{name}: median {statistics.median(result[name]):.3f} of {len(result[name])} rounds")
    where = {key: value for key, value in environment().items() if key != "command"}
    write_json(RESULTS / "ray_overhead.json", {"environment": where, **result})


if __name__ == "__main__":
    main()

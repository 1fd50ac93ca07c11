"""How far does the driver scale? The real driver, strategy, ledger and dispatcher with simulated trainings.

10, 100 and 1,000 workers, a population to match, log-normal durations with a median of 60 seconds, 1 % of the
trainings killing their worker. Time passes in the simulation; what is measured is the processor time that the driver
itself needs, for each generation and for a resume from a ledger of 100,000 evaluations, at n = 30 (one gray pixel per
class) and n = 500 (ten colour pixels). About eight minutes on one core; the longest ledger takes 1.3 GB of disk, and
8 GB of memory:

    python benchmarks/scale_simulation.py --work runs/scale

The result goes to benchmarks/results/scale_simulation.json, with its tables on standard output.
"""

import argparse
import math
import random
import shutil
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import mddes
from mddes.data import SearchData, split
from mddes.search.config import identity, resolve
from mddes.search.driver import run_search
from mddes.tasks import Ledger, Record, Task
from mddes.tasks.dispatch import Worker
from mddes.tasks.run_folder import environment, write_json
from mddes.tasks.simulation import Fate, SimulatedPool, SimulatedWorkers
from mddes.threads import one_thread

RESULTS = Path(__file__).parent / "results"
WORKERS = (10, 100, 1000)
SPACES = {30: ((1, 28, 28), 1), 500: ((3, 32, 32), 10)}  # n -> image shape, pixels per class
MEDIAN_SECONDS, SPREAD, FAILURES = 60.0, 0.3, 0.01
EVALUATIONS = 100_000


def images(shape: tuple[int, int, int]) -> SearchData:
    """Return a handful of images: nobody trains on them."""
    draw = np.random.default_rng(0)
    return split(mddes.ImageSet(draw.integers(0, 256, (100, *shape), dtype=np.uint8), np.arange(100) % 10, 10))


def pool(workers: int) -> SimulatedPool:
    """Return workers of which one training in a hundred, the first time, is the last."""

    def fate(task: Task, _worker: Worker, before: int) -> Fate:
        draw = random.Random(f"{task.key}{before}")
        seconds = MEDIAN_SECONDS * math.exp(SPREAD * draw.gauss(0, 1))
        return ("die" if before == 0 and draw.random() < FAILURES else "land", seconds)

    def answer(task: Task) -> Record:
        draw = random.Random(task.key)
        values = {"fitness": draw.gauss(1, 0.3), "semantic_mismatch": draw.gauss(0.5, 0.3), "domain_divergence": 0.9}
        values |= {"clean_accuracy": 0.8123, "poisoned_accuracy": 0.9876, "discriminator_error": 0.05}
        values |= {"clean_ce": 0.71234567890123, "poisoned_ce": 0.0212345678901234, "train_loss": 0.0312345678901234}
        return {"key": task.key, "status": "done", **task.labels, **values, "seconds": 60.0, "worker": "node:1234"}

    return SimulatedPool(
        SimulatedWorkers({f"node{i}": min(workers, 50) for i in range(-(-workers // 50))}, fate, answer)
    )


def generations(n: int, workers: int, work: Path) -> dict[str, Any]:
    """Run three generations of one candidate a worker, and return the driver's share of them."""
    config, data = settings(n, workers, 3)
    simulated = pool(workers)
    with one_thread(), Ledger(work / "evaluations.jsonl", identity(config, data, None)) as ledger:
        ends: list[tuple[float, float]] = [(time.perf_counter(), 0.0)]
        run_search(
            data,
            config,
            ledger,
            simulated,
            on_generation=lambda _: ends.append((time.perf_counter(), simulated.workers.now)),
        )
    driver = [after[0] - before[0] for before, after in pairwise(ends)]
    simulation = [after[1] - before[1] for before, after in pairwise(ends)]
    return {
        "n": n,
        "workers": workers,
        "popsize": workers,
        "driver_seconds_a_generation": float(np.mean(driver)),
        "simulated_seconds_a_generation": float(np.mean(simulation)),
        "driver_share": float(np.sum(driver) / np.sum(simulation)),
        "utilisation": simulated.workers.busy_seconds / (workers * simulated.workers.now),
        "ledger_bytes_a_training": (work / "evaluations.jsonl").stat().st_size / (3 * workers),
    }


def settings(n: int, popsize: int, count: int) -> tuple[mddes.SearchConfig, SearchData]:
    """Return the configuration of a search in n dimensions, and its images."""
    shape, pixels = SPACES[n]
    data = images(shape)
    config = mddes.SearchConfig(pixels=pixels, popsize=popsize, generations=count, winner="paper", victim_seeds=0)
    return resolve(config, data), data


def resume(n: int, work: Path) -> dict[str, Any]:
    """Fill a ledger with 100,000 evaluations of 1,000 workers; return what it costs to go on from it."""
    config, data = settings(n, 1000, EVALUATIONS // 1000)
    path = work / "evaluations.jsonl"
    with one_thread():
        started = time.perf_counter()
        with Ledger(path, identity(config, data, None)) as ledger:
            run_search(data, config, ledger, pool(1000))
        filled = time.perf_counter() - started
        started = time.perf_counter()
        with Ledger(path, identity(config, data, None)) as ledger:
            run_search(data, config, ledger, pool(1000))
        took = time.perf_counter() - started
    size = path.stat().st_size
    return {"n": n, "evaluations": EVALUATIONS, "resume_seconds": took, "ledger_bytes": size, "fill_seconds": filled}


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/scale"))
    parser.add_argument("--spaces", type=int, nargs="+", default=list(SPACES), choices=list(SPACES))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    rows, resumes = [], []
    for n in given.spaces:
        for workers in WORKERS:
            with tempfile.TemporaryDirectory(dir=given.work) as folder:
                rows.append(generations(n, workers, Path(folder)))
            row = rows[-1]
            print(
                f"n = {n:3}, {workers:4} workers: driver {row['driver_seconds_a_generation']:.2f} s of "
                f"{row['simulated_seconds_a_generation']:.0f} s a generation ({100 * row['driver_share']:.1f} %), "
                f"workers busy {100 * row['utilisation']:.0f} %, {row['ledger_bytes_a_training']:.0f} bytes a training",
                flush=True,
            )
        folder = given.work / f"resume-{n}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        resumes.append(resume(n, folder))
        shutil.rmtree(folder)
        one = resumes[-1]
        print(
            f"n = {n:3}: resume from {one['evaluations']} evaluations ({one['ledger_bytes'] / 2**20:.0f} MiB) takes "
            f"{one['resume_seconds']:.1f} s; they were written in {one['fill_seconds']:.0f} s",
            flush=True,
        )
    where = {key: value for key, value in environment().items() if key != "command"}
    write_json(RESULTS / "scale_simulation.json", {"environment": where, "generations": rows, "resume": resumes})


if __name__ == "__main__":
    main()

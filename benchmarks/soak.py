"""Fifty times kill -9, of the driver or of a worker, over one search: is the result that of a quiet run?

A search of small trainings on two Ray workers. Every few seconds one process, drawn at random, is killed: a worker in
the middle of whatever it does, or the driver with all that hangs on it, which is then started again with
`mddes resume`. At the end every record, the distribution and the winner are compared with those of the same search
in-process and undisturbed, and the starts of every training are counted: only those that were in flight when
something was killed may have been started twice. About fifteen minutes on two cores:

    python benchmarks/soak.py --kills 50

The result goes to benchmarks/results/soak.json.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import mddes
from mddes.tasks.run_folder import environment, write_json

RESULTS = Path(__file__).parent / "results"
WORKERS = 2
SETTINGS: dict[str, Any] = {
    "train_size": 600,
    "pixels": 2,
    "popsize": 10,
    "epochs": 20,
    "batch_size": 16,
    "finalists": 3,
    "finalist_seeds": 2,
    "victim_seeds": 2,
    "device": "cpu",
}
# The driver, which also writes down what it hands to which worker.
DRIVER = """
import sys
from mddes.tasks.ray_workers import RayWorkers
submit = RayWorkers.submit
def noted(self, worker, task):
    submit(self, worker, task)
    with open(sys.argv[1], "a") as starts:
        starts.write(task.key + "\\n")
RayWorkers.submit = noted
from mddes.cli import main
sys.exit(main(sys.argv[2:]))
"""


def comparable(folder: Path) -> dict[str, Any]:
    """Return what must not depend on what happened on the way."""
    loose = {"began", "seconds", "worker", "lost"}
    content: dict[str, Any] = {"perturbation": (folder / "perturbation.json").read_text()}
    for name in ("evaluations", "victims"):
        lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        content[name] = {
            line["key"]: {k: v for k, v in line.items() if k not in loose} for line in lines if "key" in line
        }
    return content


def descendants(process: int) -> list[tuple[int, str]]:
    """Return (process, command line) of all that a process has started, directly or not."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [process]
    while todo:
        for child in parents.get(todo.pop(), []):
            todo.append(child)
            try:
                found.append((child, (Path("/proc") / str(child) / "cmdline").read_text().replace("\0", " ")))
            except OSError:
                continue
    return found


def disturb(driver: subprocess.Popen[bytes], draw: random.Random) -> str | None:
    """Kill the driver (one time in three) or one of its workers, and say what; None if there is nothing to kill yet."""
    workers = [process for process, command in descendants(driver.pid) if "RayWorker" in command]
    if not workers or driver.poll() is not None:
        return None
    if draw.random() < 1 / 3:
        driver.kill()
        driver.wait()
        return "driver"
    try:
        os.kill(draw.choice(workers), signal.SIGKILL)
    except ProcessLookupError:
        return None
    return "worker"


def soak(work: Path, kills: int, seed: int, generations: int) -> dict[str, Any]:
    """Run the search under kills, and compare."""
    draw = random.Random(seed)
    quiet = mddes.search(mddes.SearchConfig(**SETTINGS, generations=generations, workers=0, out=str(work / "quiet")))
    starts, log = work / "starts", work / "driver.log"
    options = {**SETTINGS, "generations": generations, "workers": WORKERS, "out": work / "soaked"}
    arguments = ["search", *(part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v)))]
    killed: Counter[str] = Counter()
    drivers = 0
    while True:
        drivers += 1
        with log.open("ab") as file:
            driver = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(starts), *arguments],
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        while driver.poll() is None and killed.total() < kills:
            time.sleep(draw.uniform(0.5, 5.0))
            what = disturb(driver, draw)
            killed += Counter([what] if what else [])
            print(f"\rkilled {dict(killed)}", end="", file=sys.stderr, flush=True)
        if driver.wait() == 0:
            break
        (folder,) = (work / "soaked").iterdir()
        if driver.returncode > 0:
            raise SystemExit(f"the driver gave up with {driver.returncode}: see {log}")
        arguments = ["resume", str(folder)]
    begun = Counter(starts.read_text().split())
    there = comparable(folder)
    records = [*there["evaluations"], *there["victims"]]
    return {
        "kills": dict(killed),
        "drivers": drivers,
        "identical": there == comparable(quiet.run_dir),
        "tasks": len(records),
        "tasks_without_a_record": len(begun.keys() - {*records}),
        "tasks_started_more_than_once": sum(count > 1 for count in begun.values()),
        "starts_beyond_the_first": sum(count - 1 for count in begun.values()),
        "at_most_in_flight_when_something_was_killed": killed["worker"] + WORKERS * killed["driver"],
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--generations", type=int, default=20, help="enough, so that it is not over before the kills are"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = soak(Path(work), given.kills, given.seed, given.generations)
    where = {key: value for key, value in environment().items() if key != "command"}
    write_json(RESULTS / "soak.json", {"environment": where, **result})
    print("\n" + json.dumps(result, indent=1))
    if not result["identical"] or result["tasks_without_a_record"]:
        raise SystemExit("the result is not that of a quiet run")
    if result["starts_beyond_the_first"] > result["at_most_in_flight_when_something_was_killed"]:
        raise SystemExit("something was trained twice that was not in flight")
    if sum(result["kills"].values()) < given.kills:
        raise SystemExit("the search was over before the kills were: give it more --generations")


if __name__ == "__main__":
    main()

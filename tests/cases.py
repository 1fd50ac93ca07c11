"""Tiny images, configurations and task functions that many tests share."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mddes import ImageSet, SearchConfig
from mddes.tasks.task import Record, Shared

# A whole search in about a second: nothing is learned, everything is exercised.
TINY_SEARCH: dict[str, Any] = {
    "dataset": "digits",
    "train_size": 150,
    "pixels": 2,
    "popsize": 4,
    "generations": 3,
    "epochs": 1,
    "batch_size": 50,
    "finalists": 2,
    "finalist_seeds": 2,
    "victim_seeds": 2,
    "workers": 0,
    "device": "cpu",
}


def tiny_config(out: Path, **changes: Any) -> SearchConfig:
    """Return the tiny search, changed."""
    return SearchConfig(**{**TINY_SEARCH, "out": str(out), **changes})


def tiny_arguments(out: Path, **changes: Any) -> list[str]:
    """Return the tiny search as arguments of `mddes search`."""
    settings = {**TINY_SEARCH, "out": str(out), **changes}
    return ["search", *(part for k, v in settings.items() for part in (f"--{k.replace('_', '-')}", str(v)))]


def random_images(
    n: int = 40, shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 4, seed: int = 0
) -> ImageSet:
    """Return random images in which every class occurs."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % num_classes
    return ImageSet(draw.integers(0, 256, (n, *shape), dtype=np.uint8), labels, num_classes)


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def outcome(run_dir: Path) -> dict[str, Any]:
    """Return everything in a run's folder that must not depend on how the run was carried out.

    Records are compared by key: workers finish in any order. Times and workers are left out.
    """
    evaluations = [line for line in lines(run_dir / "evaluations.jsonl") if "key" in line]
    victims = [line for line in lines(run_dir / "victims.jsonl") if "key" in line]
    events = [line for line in lines(run_dir / "evaluations.jsonl") if line.get("event") == "generation"]
    with np.load(run_dir / "distribution.npz") as distribution:
        arrays = {name: distribution[name].tobytes() for name in distribution.files}
    return {
        "evaluations": {line["key"]: _timeless(line) for line in evaluations},
        "victims": {line["key"]: _timeless(line) for line in victims},
        "generations": [_timeless(event) for event in events],
        "perturbation": (run_dir / "perturbation.json").read_text(),
        "distribution": arrays,
    }


TIMES = {"began", "seconds", "worker", "lost"}


def _timeless(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in TIMES}


# Task functions, named "cases:..." by the tests. Workers import them too.


def double(spec: Mapping[str, Any], shared: Shared, device: str) -> Record:
    """Return twice the number, plus the sum of what is shared."""
    return {"twice": 2 * spec["number"] + int(sum(array.sum() for array in shared.values())), "device": device}


def fail(spec: Mapping[str, Any], shared: Shared, device: str) -> Record:
    """Raise."""
    raise ValueError("no\nluck")


def not_finite(spec: Mapping[str, Any], shared: Shared, device: str) -> Record:
    """Return a number that JSON does not have."""
    return {"fitness": float("nan")}


def die(spec: Mapping[str, Any], shared: Shared, device: str) -> Record:
    """Kill the worker until the file `spec["lives"]` has been written to `spec["times"]` times."""
    path = Path(spec["lives"])
    with path.open("a") as file:
        file.write(".")
    if len(path.read_text()) <= spec["times"]:
        os._exit(1)
    return {"survived": True}


def slow(spec: Mapping[str, Any], shared: Shared, device: str) -> Record:
    """Sleep, and say on which process."""
    time.sleep(spec["seconds"])
    return {"pid": os.getpid()}


def look(spec: Mapping[str, Any], shared: Shared, device: str) -> Record:
    """Report how a worker computes."""
    return {
        "torch_threads": torch.get_num_threads(),
        "writeable": any(array.flags.writeable for array in shared.values()),
    }


def look_together(spec: Mapping[str, Any], shared: Shared, device: str) -> Record:
    """Wait until as many workers as named are there, and report how one computes, and on which process."""
    folder = Path(spec["folder"])
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 120
    while len([*folder.iterdir()]) < spec["workers"] and time.monotonic() < deadline:
        time.sleep(0.05)
    return {"pid": os.getpid(), **look(spec, shared, device)}

"""Where trainings run: the settings that every search and study has in common. They never change what is computed."""

from dataclasses import dataclass
from typing import Any, Literal

from mddes.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """Where it runs. Of this the device changes the result, in its last digits; and what is given up for being late."""

    workers: Literal["auto"] | int = "auto"
    """Worker processes (Ray); auto is one per core, or per GPU. 0 runs in this process, without Ray."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks are trained; auto is cuda when there is one."""
    ray_address: str | None = None
    """A running Ray cluster: auto, or host:port; local (the default) is Ray on this machine only."""
    cpus_per_worker: float = 1.0
    """Cores that Ray reserves for a worker (which computes on one thread)."""
    gpus_per_worker: float | None = None
    """Share of a GPU that Ray reserves for a worker; default 1 on cuda, else 0."""
    placement: Literal["spread", "pack"] = "spread"
    """Spread the workers over a cluster's nodes, or pack them on few."""
    object_store: int | None = None
    """MB of shared memory for the images, when Ray is started here; default what they need."""
    time_limit: float = 7200.0
    """Seconds after which a training's worker is taken for hung and replaced (not with --workers 0); 0 is never."""
    out: str = "runs"
    """Folder in which the run's folder is made."""


COMPUTE_CHOICES: dict[str, dict[str, Any]] = {
    "device": dict.fromkeys(("auto", "cpu", "cuda")),
    "placement": dict.fromkeys(("spread", "pack")),
}
COMPUTE_AT_LEAST = {"cpus_per_worker": 0, "gpus_per_worker": 0, "object_store": 80, "time_limit": 0}


def check_workers(workers: Literal["auto"] | int) -> None:
    """Raise an `InputError` unless that is a number of workers."""
    if workers != "auto" and workers < 0:
        raise InputError(f"workers must be auto, or 0 or more, not {workers}")

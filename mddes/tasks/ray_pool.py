"""Run tasks on Ray: this machine's, or a cluster's. It is imported only when such a pool is made.

The arrays are put into the object store once, travel once to each node that works on them, and are read there
without a copy. The workers are `ray_workers.py`'s business; who gets which task when is `dispatch.py`'s.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

# Before ray is imported: no usage statistics, and no upload of the working directory under `uv run`.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from mddes.errors import InputError
from mddes.tasks.dispatch import Limits, dispatch
from mddes.tasks.ray_workers import RayWorker, RayWorkers, nodes
from mddes.tasks.task import Record, Shared, Task

STORE_BYTES = 100 * 2**20  # beside twice the data
PATIENCE_HERE, PATIENCE_CLUSTER = 300.0, 1800.0  # seconds without a single worker; a cluster may have to start nodes
PLACEMENTS: dict[str, Literal["SPREAD", "DEFAULT"]] = {"spread": "SPREAD", "pack": "DEFAULT"}


class RayPool:
    """Workers on this machine, or on a cluster. Ray is started by the first task.

    Args:
        workers: how many; None takes one per `cpus_per_worker` (or `gpus_per_worker` on a GPU) of what Ray has, and
            more as nodes join.
        useful: how many can be busy at a time: None never takes more.
        device: "cpu" or "cuda".
        address: of a running cluster ("auto", "host:port"); None starts Ray on this machine and stops it at the end.
        cpus_per_worker, gpus_per_worker: what Ray reserves for each.
        placement: "spread" workers over the nodes, or "pack" them on few.
        store_bytes: object store of a Ray started here; None takes what the data need.
        data_bytes: size of the arrays that will be shared.
        time_limit: seconds after which a task's worker is taken for hung; None never.
        logs: folder for the logs of workers that were lost; None keeps none.

    Raises (when run):
        InputError: no cluster at the address, too few resources for a single worker, or an object store that is too
            small for the data.
        RunStopped: no worker could be started.
    """

    def __init__(
        self,
        workers: int | None,
        *,
        useful: int | None = None,
        device: str = "cpu",
        address: str | None = None,
        cpus_per_worker: float = 1,
        gpus_per_worker: float | None = None,
        placement: str = "spread",
        store_bytes: int | None = None,
        data_bytes: int = 0,
        time_limit: float | None = None,
        logs: Path | None = None,
    ) -> None:
        gpus = (1 if device == "cuda" else 0) if gpus_per_worker is None else gpus_per_worker
        self._wanted, self._useful, self._address, self._time_limit, self._logs = (
            workers,
            useful,
            address,
            time_limit,
            logs,
        )
        self._device, self._cpus, self._gpus, self._placement = device, cpus_per_worker, gpus, placement
        self._store_bytes = STORE_BYTES + 2 * data_bytes if store_bytes is None else store_bytes
        self._owns_ray = False
        self._workers: RayWorkers | None = None
        self._put: dict[str, tuple[Any, Any]] = {}  # name -> (array, reference)

    def run(self, tasks: Sequence[Task], shared: Shared, *, stragglers: float | None = None) -> Iterator[Record]:
        """Yield one record per task as they land."""
        if not tasks:
            return iter(())
        if self._workers is None:
            self._workers = self._start()
        self._workers.references = self._references(shared)
        return dispatch(tasks, self._workers, Limits(self._time_limit, stragglers))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._workers is not None:
                self._workers.close()
        finally:
            if self._owns_ray:
                ray.shutdown()

    def _start(self) -> RayWorkers:
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _start_ray(self._wanted, self._address, self._cpus, self._store_bytes)
        here = self._address is None
        if here and self._room() < 1:  # a cluster may grow
            have = ", ".join(f"{sum(n.get(kind, 0) for n in nodes().values()):g} {kind}s" for kind in ("CPU", "GPU"))
            raise InputError(f"a worker takes {self._cpus:g} CPUs and {self._gpus:g} GPUs, but Ray has {have}")
        actor = ray.remote(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            scheduling_strategy=PLACEMENTS[self._placement],
        )(RayWorker)
        patience = PATIENCE_HERE if here else PATIENCE_CLUSTER
        return RayWorkers(actor, self._device, self._target, patience=patience, logs=self._logs)

    def _target(self) -> int:
        """Return how many workers there should be now."""
        if self._wanted is not None:
            return self._wanted
        return max(1, min(self._room(), self._useful or sys.maxsize))

    def _room(self) -> int:
        """Return how many workers fit on the nodes that are there."""
        needs = [(kind, n) for kind, n in (("CPU", self._cpus), ("GPU", self._gpus)) if n]
        return sum(int(min((have.get(kind, 0.0) / n for kind, n in needs), default=1)) for have in nodes().values())

    def _references(self, shared: Shared) -> dict[str, Any]:
        new = {
            name: array for name, array in shared.items() if name not in self._put or self._put[name][0] is not array
        }
        self._check_store(sum(array.nbytes for array in new.values()))
        self._put |= {name: (array, ray.put(array)) for name, array in new.items()}
        return {name: self._put[name][1] for name in shared}

    def _check_store(self, new_bytes: int) -> None:
        """Refuse images for which a node's object store has no room: Ray would wait for it for ever."""
        needed = new_bytes + sum(array.nbytes for array, _ in self._put.values())
        room = min(node.get("object_store_memory", float("inf")) for node in nodes().values())
        if needed > room:
            raise InputError(
                f"the images ({needed / 2**20:.0f} MB) do not fit into Ray's object store ({room / 2**20:.0f} MB): use "
                "--object-store, or start the cluster's nodes with a larger --object-store-memory"
            )


def _start_ray(workers: int | None, address: str | None, cpus_per_worker: float, store_bytes: int) -> None:
    """Start or join Ray; a signal handler that it replaces is put back."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if in_main else None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            cpus = None if workers is None else max(1, int(-(-workers * cpus_per_worker // 1)))
            ray.init("local", num_cpus=cpus, object_store_memory=store_bytes, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        if address is None:
            raise InputError(f"Ray does not start here: {reason}") from error
        hint = "does it run, and is RAY_AUTH_MODE (token or disabled) here what it is there?"
        raise InputError(f"no Ray cluster answers at {address!r}: {reason}; {hint}") from error
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)

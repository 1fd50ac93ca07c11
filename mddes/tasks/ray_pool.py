"""Run tasks on Ray actors: the only file that imports ray, and only when such a pool is made.

One actor per worker, on one thread each. One that died is replaced by a new one, not restarted by Ray: calls to an
actor that is restarting fail at once, and would be taken for more deaths; calls to a new one wait for it. The arrays
are put into the object store once and read from there without a copy. Who gets which task when is `dispatch.py`'s
business.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

# Before ray is imported: no usage statistics, and no upload of the working directory under `uv run`.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayError

from mddes.errors import InputError
from mddes.tasks.dispatch import Landing, dispatch
from mddes.tasks.task import Record, Shared, Task, execute
from mddes.threads import one_thread

STORE_BYTES = 100 * 2**20  # beside twice the data


class RayPool:
    """Workers on this machine, or on a cluster.

    Args:
        workers: how many; None takes one per `cpus_per_worker` (or `gpus_per_worker` on a GPU) of what Ray has.
        device: "cpu" or "cuda".
        address: of a running cluster ("auto", "host:port"); None starts Ray on this machine and stops it at the end.
        cpus_per_worker, gpus_per_worker: what Ray reserves for each.
        data_bytes: size of the arrays that will be shared.

    Raises:
        InputError: no cluster at the address, or too few resources for a single worker.
    """

    def __init__(
        self,
        workers: int | None,
        *,
        device: str = "cpu",
        address: str | None = None,
        cpus_per_worker: float = 1,
        gpus_per_worker: float | None = None,
        data_bytes: int = 0,
    ) -> None:
        gpus = (1 if device == "cuda" else 0) if gpus_per_worker is None else gpus_per_worker
        self._wanted, self._address, self._data_bytes = workers, address, data_bytes
        self._device, self._cpus, self._gpus = device, cpus_per_worker, gpus
        self._owns_ray = False
        self._actors: list[Any] = []
        self._put: dict[str, tuple[Any, Any]] = {}  # name -> (array, reference)

    def run(self, tasks: Sequence[Task], shared: Shared) -> Iterator[Record]:
        """Yield one record per task as they land. Ray is started by the first task."""
        if not tasks:
            return iter(())
        if not self._actors:
            self._start()
        return dispatch(tasks, _RayTransport(self._actors, self._new_actor, self._references(shared)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            ray.kill(actor)
        if self._owns_ray:
            ray.shutdown()

    def _start(self) -> None:
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _start_ray(self._wanted, self._address, self._cpus, self._data_bytes)
        self._actors = [self._new_actor() for _ in range(self._wanted or _room(self._cpus, self._gpus))]

    def _new_actor(self) -> Any:
        return ray.remote(num_cpus=self._cpus, num_gpus=self._gpus)(_Worker).remote(self._device)

    def _references(self, shared: Shared) -> dict[str, Any]:
        for name, array in shared.items():
            if name not in self._put or self._put[name][0] is not array:
                self._put[name] = (array, ray.put(array))
        return {name: self._put[name][1] for name in shared}


class _Worker:
    """Lives in a worker process; its one thread lasts as long as it does."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._threads = one_thread()
        self._threads.__enter__()

    def run(self, task: Task, references: dict[str, Any]) -> Record:
        shared = {name: ray.get(reference) for name, reference in references.items()}
        return execute(task, shared, self._device)


class _RayTransport:
    def __init__(self, actors: list[Any], new_actor: Callable[[], Any], references: dict[str, Any]) -> None:
        self.workers = len(actors)
        self._actors, self._new_actor, self._references = actors, new_actor, references
        self._in_flight: dict[Any, int] = {}

    def submit(self, worker: int, task: Task) -> None:
        self._in_flight[self._actors[worker].run.remote(task, self._references)] = worker

    def wait(self) -> list[Landing]:
        ready, _ = ray.wait(list(self._in_flight), num_returns=1)
        landings = []
        for reference in ready:
            worker = self._in_flight.pop(reference)
            try:
                landings.append(Landing(worker, ray.get(reference)))
            except RayError as error:
                ray.kill(self._actors[worker])
                self._actors[worker] = self._new_actor()
                landings.append(Landing(worker, None, " ".join(str(error).split())[:500]))
        return landings


def _start_ray(workers: int | None, address: str | None, cpus_per_worker: float, data_bytes: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cpus = None if workers is None else max(1, int(-(-workers * cpus_per_worker // 1)))
        store = STORE_BYTES + 2 * data_bytes
        ray.init("local", num_cpus=cpus, object_store_memory=store, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"no Ray cluster answers at {address!r}: {reason}") from error


def _room(cpus_per_worker: float, gpus_per_worker: float) -> int:
    """Return how many workers fit into what Ray has."""
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    rooms = [have.get("CPU", 0) / cpus_per_worker] if cpus_per_worker else []
    rooms += [have.get("GPU", 0) / gpus_per_worker] if gpus_per_worker else []
    count = int(min(rooms, default=1))
    if count < 1:
        raise InputError(f"Ray has {have.get('CPU', 0)} CPUs and {have.get('GPU', 0)} GPUs: too few for one worker")
    return count

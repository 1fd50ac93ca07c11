"""Run tasks on Ray actors: the only file that imports ray, and only when such a pool is made.

One actor per worker, on one thread each. One that died is replaced by a new one, not restarted by Ray: calls to an
actor that is restarting fail at once, and would be taken for more deaths. An actor gets work when it has answered a
first call, so one for which the cluster has no room (yet) holds nothing up. The arrays are put into the object store
once and read from there without a copy. Who gets which task when is `dispatch.py`'s business.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

# Before ray is imported: no usage statistics, and no upload of the working directory under `uv run`.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayError

from mddes.errors import InputError, RunStopped
from mddes.tasks.dispatch import Died, Event, Joined, Landed, dispatch
from mddes.tasks.task import Record, Shared, Task, execute
from mddes.threads import one_thread

STORE_BYTES = 100 * 2**20  # beside twice the data
START_SECONDS = 300.0  # without a single worker for so long, the run stops
START_FAILURES = 3  # workers in a row that died before they were there


class RayPool:
    """Workers on this machine, or on a cluster. Ray is started by the first task.

    Args:
        workers: how many; None takes one per `cpus_per_worker` (or `gpus_per_worker` on a GPU) of what Ray has.
        device: "cpu" or "cuda".
        address: of a running cluster ("auto", "host:port"); None starts Ray on this machine and stops it at the end.
        cpus_per_worker, gpus_per_worker: what Ray reserves for each.
        data_bytes: size of the arrays that will be shared.

    Raises (when run):
        InputError: no cluster at the address, or too few resources for a single worker.
        RunStopped: no worker could be started.
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
        self._transport: _RayTransport | None = None
        self._put: dict[str, tuple[Any, Any]] = {}  # name -> (array, reference)

    def run(self, tasks: Sequence[Task], shared: Shared) -> Iterator[Record]:
        """Yield one record per task as they land."""
        if not tasks:
            return iter(())
        if self._transport is None:
            self._transport = self._start()
        self._transport.references = self._references(shared)
        return dispatch(tasks, self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._owns_ray:
            ray.shutdown()

    def _start(self) -> "_RayTransport":
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _start_ray(self._wanted, self._address, self._cpus, self._data_bytes)
        room = _room(self._cpus, self._gpus)
        if room < 1 and self._address is None:  # a cluster may grow
            have = ", ".join(f"{count:g} {kind}s" for kind, count in sorted(_resources().items()))
            raise InputError(f"a worker takes {self._cpus:g} CPUs and {self._gpus:g} GPUs, but Ray has {have}")
        actor = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus)(_Worker)
        return _RayTransport(actor, self._device, self._wanted or max(1, room))

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

    def ready(self) -> bool:
        return True

    def run(self, task: Task, references: dict[str, Any]) -> Record:
        shared = {name: ray.get(reference) for name, reference in references.items()}
        return execute(task, shared, self._device)


class _RayTransport:
    """Keeps a number of actors alive, and turns what Ray says of them into events."""

    def __init__(self, actor: Any, device: str, workers: int) -> None:
        self.references: dict[str, Any] = {}
        self._actor, self._device = actor, device
        self._actors: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}  # reference of the first answer -> worker
        self._in_flight: dict[Any, int] = {}  # reference of a record -> worker
        self._born = self._failed_starts = 0
        self._alone_since = time.monotonic()
        for _ in range(workers):
            self._hire()

    def idle(self) -> list[int]:
        busy = {*self._starting.values(), *self._in_flight.values()}
        return [worker for worker in self._actors if worker not in busy]

    def submit(self, worker: int, task: Task) -> None:
        self._in_flight[self._actors[worker].run.remote(task, self.references)] = worker

    def wait(self) -> list[Event]:
        while True:
            references = [*self._in_flight, *self._starting]
            ready, _ = ray.wait(references, num_returns=1, timeout=5.0)
            if events := [self._event(reference) for reference in ready]:
                return events
            if len(self._actors) > len(self._starting):
                self._alone_since = time.monotonic()
            elif time.monotonic() - self._alone_since > START_SECONDS:
                raise RunStopped(f"Ray has had no room for a worker for {START_SECONDS:.0f} s")

    def close(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)

    def _hire(self) -> None:
        self._born += 1
        actor = self._actor.remote(self._device)
        self._actors[self._born] = actor
        self._starting[actor.ready.remote()] = self._born

    def _event(self, reference: Any) -> Event:
        starting = reference in self._starting
        worker = (self._starting if starting else self._in_flight).pop(reference)
        try:
            answer = ray.get(reference)
        except RayError as error:
            reason = " ".join(str(error).split())[:500]
            ray.kill(self._actors.pop(worker))
            self._failed_starts += starting
            if self._failed_starts >= START_FAILURES:
                raise RunStopped(f"{START_FAILURES} workers in a row died as they started: {reason}") from error
            self._hire()
            return Died(worker, reason)
        self._failed_starts = 0
        return Joined(worker) if starting else Landed(worker, answer)


def _start_ray(workers: int | None, address: str | None, cpus_per_worker: float, data_bytes: int) -> None:
    """Start or join Ray; a signal handler that it replaces is put back."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if in_main else None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            cpus = None if workers is None else max(1, int(-(-workers * cpus_per_worker // 1)))
            store = STORE_BYTES + 2 * data_bytes
            ray.init("local", num_cpus=cpus, object_store_memory=store, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        where = "Ray does not start here" if address is None else f"no Ray cluster answers at {address!r}"
        raise InputError(f"{where}: {reason}") from error
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _resources() -> dict[str, float]:
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return {kind: have.get(kind, 0.0) for kind in ("CPU", "GPU")}


def _room(cpus_per_worker: float, gpus_per_worker: float) -> int:
    """Return how many workers fit into what Ray has."""
    have = _resources()
    rooms = [have["CPU"] / cpus_per_worker] if cpus_per_worker else []
    rooms += [have["GPU"] / gpus_per_worker] if gpus_per_worker else []
    return int(min(rooms, default=1))

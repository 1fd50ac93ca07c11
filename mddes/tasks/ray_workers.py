"""Ray actors as workers: started, watched, replaced, and their last words kept.

One actor per worker, on one thread each. One that died is replaced by a new one, not restarted by Ray: calls to an
actor that is restarting fail at once, and would be taken for more deaths. An actor gets work when it has answered a
first call, so one for which the cluster has no room (yet) holds nothing up. What a worker that was lost had written
to its standard error is copied from its node into the run's folder.
"""

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mddes.errors import RunStopped
from mddes.tasks.dispatch import Died, Event, Joined, Landed, Worker
from mddes.tasks.task import Record, Task, execute
from mddes.threads import one_thread
from mddes.writing import replace_file

TICK_SECONDS = 5.0  # how often the cluster is asked whether it has grown
START_FAILURES = 3  # workers in a row that died before they were there, while there is no other
LOG_BYTES = 20_000
LOG_SECONDS = 10.0  # how long the end of a run waits for logs


@dataclass(frozen=True)
class Place:
    """Where a worker is: its node's id, host and process, and the file of its standard error, if it is known."""

    node: str
    host: str
    process: int
    log: str | None


class RayWorker:
    """Lives in a worker process; its one thread lasts as long as it does."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._threads = one_thread()
        self._threads.__enter__()

    def place(self) -> Place:
        """Say where this is; the first call, after which the worker gets work."""
        try:
            log = str(Path("/proc/self/fd/2").readlink())
        except OSError:  # no /proc: macOS
            log = None
        return Place(ray.get_runtime_context().get_node_id(), socket.gethostname(), os.getpid(), log)

    def run(self, task: Task, references: dict[str, Any]) -> Record:
        """Run a task on the arrays of the object store."""
        shared = {name: ray.get(reference) for name, reference in references.items()}
        return execute(task, shared, self._device)


class RayWorkers:
    """The dispatcher's transport: keeps as many actors as are wanted, and turns what Ray says of them into events.

    Args:
        actor: the remote class of `RayWorker`.
        device: "cpu" or "cuda".
        wanted: how many there should be; asked again every few seconds, since a cluster may grow.
        patience: seconds without a single worker after which the run stops.
        logs: folder for the logs of workers that were lost; None keeps none.
    """

    def __init__(
        self, actor: Any, device: str, wanted: Callable[[], int], *, patience: float, logs: Path | None = None
    ) -> None:
        self.references: dict[str, Any] = {}
        self._actor, self._device, self._wanted, self._patience, self._logs = actor, device, wanted, patience, logs
        self._actors: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}  # reference of the first answer -> number
        self._places: dict[Worker, Place] = {}  # of those that have answered
        self._busy: dict[Any, Worker] = {}  # reference of a record -> worker
        self._reading: dict[Any, Place] = {}  # reference of a lost worker's last words -> where it was
        self._born = self._failed_starts = 0
        self._alone_since, self._look_next = time.monotonic(), 0.0
        self._fill()

    def idle(self) -> list[Worker]:
        """Return the workers that are there and have nothing to do."""
        return [worker for worker in self._places if worker not in self._busy.values()]

    def submit(self, worker: Worker, task: Task) -> None:
        """Start a task on an idle worker."""
        self._busy[self._actors[worker.number].run.remote(task, self.references)] = worker

    def dismiss(self, worker: Worker, reason: str) -> None:
        """End a busy worker and start another."""
        for reference in [reference for reference, busy in self._busy.items() if busy == worker]:
            del self._busy[reference]
        self._bury(worker, reason, hung=True)

    def wait(self, seconds: float | None) -> list[Event]:
        """Return what is new, after at most so many seconds; see `Transport.wait`."""
        until = time.monotonic() + (float("inf") if seconds is None else seconds)
        while True:
            self._look_around()
            tick = max(0.0, min(TICK_SECONDS, until - time.monotonic()))
            ready = self._ready(tick)
            events = [event for reference in ready for event in self._events(reference)]
            if events or time.monotonic() >= until:
                return events

    def _ready(self, seconds: float) -> list[Any]:
        """Wait for the first answer, and return all that are there."""
        references = [*self._starting, *self._reading, *self._busy]
        if not references:  # all that were starting have died; others are started at the next look around
            time.sleep(seconds)
            return []
        ready, waiting = ray.wait(references, num_returns=1, timeout=seconds)
        if ready and waiting:
            more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            ready += more
        return ready

    def _look_around(self) -> None:
        """Every few seconds: has the cluster grown, and is anybody there?"""
        now = time.monotonic()
        if now < self._look_next:
            return
        self._look_next = now + TICK_SECONDS
        self._fill()
        if self._places:
            self._alone_since = now
        elif now - self._alone_since > self._patience:
            raise RunStopped(f"no worker has come up for {self._patience:.0f} s: is there room for one?")

    def close(self) -> None:
        """End all workers; wait a little for the logs of lost ones."""
        for actor in self._actors.values():
            ray.kill(actor)
        if self._reading:
            ready, _ = ray.wait([*self._reading], num_returns=len(self._reading), timeout=LOG_SECONDS)
            for reference in ready:
                with suppress(OSError):  # a full disk has been told of already
                    self._save_log(reference)

    def _fill(self) -> None:
        for _ in range(self._wanted() - len(self._actors)):
            self._born += 1
            actor = self._actor.remote(self._device)
            self._actors[self._born] = actor
            self._starting[actor.place.remote()] = self._born

    def _events(self, reference: Any) -> list[Event]:
        if reference in self._reading:
            self._save_log(reference)
            return []
        return [self._joined(reference)] if reference in self._starting else [self._landed(reference)]

    def _joined(self, reference: Any) -> Event:
        number = self._starting.pop(reference)
        try:
            place: Place = ray.get(reference)
        except RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= START_FAILURES and not self._places:
                message = f"{self._failed_starts} workers in a row died as they started: {_one_line(error)}"
                raise RunStopped(message) from error
            ray.kill(self._actors.pop(number))  # another is started at the next look around
            return Died(Worker(number), _one_line(error))
        self._failed_starts = 0
        worker = Worker(number, place.node)
        self._places[worker] = place
        return Joined(worker)

    def _landed(self, reference: Any) -> Event:
        worker = self._busy.pop(reference)
        try:
            return Landed(worker, ray.get(reference))
        except RayError as error:
            gone = isinstance(error, ActorUnavailableError) or worker.node not in nodes()
            reason = f"its node left: {_one_line(error)}" if gone else _one_line(error)
            self._bury(worker, reason)
            return Died(worker, reason, with_its_node=gone)

    def _bury(self, worker: Worker, reason: str, *, hung: bool = False) -> None:
        """Forget a worker, see to its last words, and start another."""
        ray.kill(self._actors.pop(worker.number))
        place = self._places.pop(worker)
        head = f"worker {worker.number}, process {place.process} on {place.host}\n{reason}\n\n"
        there = NodeAffinitySchedulingStrategy(place.node, soft=False)
        last_words = ray.remote(num_cpus=0, max_retries=0)(_last_words).options(scheduling_strategy=there)
        self._reading[last_words.remote(place, head, hung)] = place
        self._fill()

    def _save_log(self, reference: Any) -> None:
        place = self._reading.pop(reference)
        try:
            text = ray.get(reference)
        except RayError:  # the log has gone with its node
            return
        if self._logs and text:
            self._logs.mkdir(exist_ok=True)
            replace_file(self._logs / f"{place.host}-{place.process}.log", text)


def _last_words(place: Place, head: str, hung: bool) -> str:
    """Runs on the node where a worker was lost: end it if it hangs, return the end of its standard error.

    Ray asks a process to end itself; one that is stopped, or stuck in a system call, does not.
    """
    if hung:
        with suppress(ProcessLookupError):
            os.kill(place.process, signal.SIGKILL)
    if place.log is None:
        return ""
    with Path(place.log).open("rb") as file:
        file.seek(max(0, Path(place.log).stat().st_size - LOG_BYTES))
        return head + file.read().decode(errors="replace")


def nodes() -> dict[str, dict[str, float]]:
    """Return the resources of every node that is there, by its id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def _one_line(error: BaseException) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:500]  # without Ray's colours

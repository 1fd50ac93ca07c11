"""Hand tasks to workers that come, die, hang and are replaced.

It knows no ray: transport and clock are injected, and a test or a simulation can be either. One task is in flight per
worker, and only a worker that has said it is there gets one. A task whose worker died, or that ran past its limit,
goes to another worker, on another node if there is one; after three workers the task itself is blamed and recorded as
failed. A node that left is no fault of the task, unless it happens again and again. Once most tasks have landed,
stragglers may be cancelled.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mddes.tasks.task import Record, Task

MAX_LOSSES = 3  # so many workers a task may take with it
MAX_DEPARTURES = 10  # so many times it may be lost at all, with nodes that left too: it may be what takes them down
MOST = 0.75  # the share of tasks that must have landed before a straggler is one


@dataclass(frozen=True)
class Worker:
    """One worker: a number that no other has, and the node it is on."""

    number: int
    node: str = ""


@dataclass(frozen=True)
class Joined:
    """A new worker is there and idle."""

    worker: Worker


@dataclass(frozen=True)
class Landed:
    """A worker has finished its task."""

    worker: Worker
    record: Record


@dataclass(frozen=True)
class Died:
    """A worker is gone, with the task it had. Another one, of another number, may join in its place.

    `with_its_node` says that the node has left: nothing that the task could have done.
    """

    worker: Worker
    reason: str
    with_its_node: bool = False


Event = Joined | Landed | Died


class Transport(Protocol):
    """The way to the workers."""

    def idle(self) -> list[Worker]:
        """Return the workers that are there and have nothing to do."""

    def submit(self, worker: Worker, task: Task) -> None:
        """Start a task on an idle worker."""

    def dismiss(self, worker: Worker, reason: str) -> None:
        """End a busy worker, whatever it is doing; another one may join in its place. No event tells of it."""

    def wait(self, seconds: float | None) -> list[Event]:
        """Block until there is news, at most so long. Raises `RunStopped` if there is no worker and none will come."""


@dataclass(frozen=True)
class Limits:
    """When a task is taken from its worker.

    Attributes:
        seconds: a task may run so long; its worker is taken for hung after that. None: for ever.
        stragglers: once three quarters of all tasks have been done, cancel one that runs longer than so many times the
            median of those that landed, and record it as failed. None: never.
    """

    seconds: float | None = None
    stragglers: float | None = None


def dispatch(
    tasks: Sequence[Task],
    transport: Transport,
    limits: Limits,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Record]:
    """Yield one record per task as they land; `lost` in a record names what became of earlier attempts."""
    return _Dispatch(tasks, transport, limits, clock).run()


@dataclass(frozen=True)
class _Running:
    task: Task
    since: float


@dataclass(frozen=True)
class _Loss:
    reason: str
    node: str
    counts: bool


class _Dispatch:
    """The state of one dispatch. `running` is in the order in which the tasks were started."""

    def __init__(self, tasks: Sequence[Task], transport: Transport, limits: Limits, clock: Callable[[], float]) -> None:
        self.transport, self.limits, self.clock = transport, limits, clock
        self.waiting, self.idle = deque(tasks), deque(transport.idle())
        self.running: dict[Worker, _Running] = {}
        self.losses: dict[str, list[_Loss]] = {}
        self.durations: list[float] = []
        self.most = MOST * len(tasks)

    def run(self) -> Iterator[Record]:
        while self.waiting or self.running:
            self._assign()
            events = self.transport.wait(self._patience())
            for event in events:
                yield from self._handle(event)
            if not events:  # what has landed, and is only to be fetched, is not late
                yield from self._dismiss_late()

    def _assign(self) -> None:
        held: list[Task] = []
        while self.waiting and self.idle:
            task = self.waiting.popleft()
            worker = self._worker_for(task)
            if worker is None:
                held.append(task)
            else:
                self.idle.remove(worker)
                self.running[worker] = _Running(task, self.clock())
                self.transport.submit(worker, task)
        self.waiting.extendleft(reversed(held))

    def _worker_for(self, task: Task) -> Worker | None:
        """Return an idle worker, for a task that was lost on some node one elsewhere; None: better wait for one."""
        been = {loss.node for loss in self.losses.get(task.key, [])}
        elsewhere = next((worker for worker in self.idle if worker.node not in been), None)
        if elsewhere is None and any(worker.node not in been for worker in self.running):
            return None
        return elsewhere or self.idle[0]

    def _handle(self, event: Event) -> Iterator[Record]:
        worker = event.worker
        run = self.running.pop(worker, None)  # None also for what an earlier dispatch left running
        if isinstance(event, Died):
            if run:
                yield from self._lost(run.task, _Loss(event.reason, worker.node, not event.with_its_node))
            elif worker in self.idle:
                self.idle.remove(worker)
            return
        self.idle.append(worker)
        if isinstance(event, Landed) and run:
            if event.record["status"] == "done":
                self.durations.append(self.clock() - run.since)
            yield self._noted(run.task, event.record)

    def _limit(self) -> tuple[float, bool]:
        """Return how long a task may run by now, and whether it would be a straggler after that."""
        hard = float("inf") if self.limits.seconds is None else self.limits.seconds
        if self.limits.stragglers is None or not self.durations or len(self.durations) < self.most:
            return hard, False
        late = self.limits.stragglers * statistics.median(self.durations)
        return min(hard, late), late < hard

    def _patience(self) -> float | None:
        limit, _ = self._limit()
        if not self.running or limit == float("inf"):
            return None
        oldest = next(iter(self.running.values()))
        return max(0.0, oldest.since + limit - self.clock())

    def _dismiss_late(self) -> Iterator[Record]:
        limit, straggling = self._limit()
        while self.running:
            worker, run = next(iter(self.running.items()))
            now = self.clock()
            if now < run.since + limit:  # the very sum of `_patience`: rounded otherwise, both would wait for ever
                return
            del self.running[worker]
            reason = f"it ran past its limit of {limit:.3g} s"
            if straggling:
                median = statistics.median(self.durations)
                ran = now - run.since
                reason = f"cancelled as a straggler after {ran:.3g} s: the median of the others is {median:.3g} s"
            self.transport.dismiss(worker, reason)
            if straggling:
                yield self._noted(run.task, run.task.failed(reason) | {"cancelled": True})
            else:
                yield from self._lost(run.task, _Loss(reason, worker.node, counts=True))

    def _lost(self, task: Task, loss: _Loss) -> Iterator[Record]:
        losses = self.losses.setdefault(task.key, [])
        losses.append(loss)
        if sum(each.counts for each in losses) < MAX_LOSSES and len(losses) < MAX_DEPARTURES:
            self.waiting.appendleft(task)
        else:
            yield self._noted(task, task.failed(f"lost with {len(losses)} workers, the last time: {loss.reason}"))

    def _noted(self, task: Task, record: Record) -> Record:
        losses = self.losses.get(task.key)
        return record | {"lost": [loss.reason for loss in losses]} if losses else record

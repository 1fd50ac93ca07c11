"""Workers on a simulated clock: the real dispatcher, driver and ledger at any scale, in seconds.

What a cluster of a thousand workers does to a search can be tried without one: `SimulatedPool` takes the place of
`RayPool`, hours pass at once, and only the tasks are made up.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from mddes.errors import RunStopped
from mddes.tasks.dispatch import Died, Event, Joined, Landed, Limits, Worker, dispatch
from mddes.tasks.task import Record, Shared, Task

Fate = tuple[Literal["land", "die", "hang"], float]  # and after how many seconds


class SimulatedWorkers:
    """A transport to workers that exist only here.

    Args:
        nodes: workers on each node at time 0.
        fate: what becomes of a task, given the worker it runs on and how often it was started before.
        answer: the record of a task that lands.
        start_seconds: how long a worker takes until it is there.

    Attributes:
        now: simulated seconds.
        started: how often each task, by key, was started.
        busy_seconds: the sum over all workers of seconds that ended in a landed record.
    """

    def __init__(
        self,
        nodes: Mapping[str, int],
        fate: Callable[[Task, Worker, int], Fate],
        answer: Callable[[Task], Record],
        *,
        start_seconds: float = 0.0,
    ) -> None:
        self.now = self.busy_seconds = 0.0
        self.started: Counter[str] = Counter()
        self._fate, self._answer, self._start_seconds = fate, answer, start_seconds
        self._numbers, self._order = itertools.count(1), itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], list[Event]]]] = []
        self._there: dict[Worker, Task | None] = {}
        self._nodes: dict[str, int] = {}  # name -> which of its stays this is
        for node, workers in nodes.items():
            self.join(node, workers, at=0.0)

    def join(self, node: str, workers: int, *, at: float) -> None:
        """Let a node with so many workers join at some time."""

        def happen() -> list[Event]:
            self._nodes[node] = next(self._numbers)
            for _ in range(workers):
                self._hire(node)
            return []

        self._plan(at, happen)

    def leave(self, node: str, *, at: float) -> None:
        """Let a node leave at some time, with its workers."""

        def happen() -> list[Event]:
            self._nodes.pop(node, None)
            gone = [worker for worker in self._there if worker.node == node]
            for worker in gone:
                del self._there[worker]
            return [Died(worker, "its node left", with_its_node=True) for worker in gone]

        self._plan(at, happen)

    def clock(self) -> float:
        """Return the simulated time."""
        return self.now

    def idle(self) -> list[Worker]:
        """Return the workers that are there and have nothing to do."""
        return [worker for worker, task in self._there.items() if task is None]

    def submit(self, worker: Worker, task: Task) -> None:
        """Start a task on an idle worker."""
        assert self._there[worker] is None, "one task in flight per worker"
        self._there[worker] = task
        what, seconds = self._fate(task, worker, self.started[task.key])
        self.started[task.key] += 1

        def happen() -> list[Event]:
            if self._there.get(worker) is not task:
                return []  # dismissed, or gone with its node
            if what == "die":
                self._replace(worker)
                return [Died(worker, "killed")]
            self._there[worker] = None
            self.busy_seconds += seconds
            return [Landed(worker, self._answer(task))]

        if what != "hang":
            self._plan(self.now + seconds, happen)

    def dismiss(self, worker: Worker, reason: str) -> None:  # noqa: ARG002
        """End a busy worker and start another."""
        self._replace(worker)

    def wait(self, seconds: float | None) -> list[Event]:
        """Let time pass until there is news, at most so long."""
        until = float("inf") if seconds is None else self.now + seconds
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, happen = heapq.heappop(self._agenda)
            if events := happen():
                return events
        if until == float("inf"):
            raise RunStopped("nothing will ever happen: no worker is there, or all hang")
        self.now = until
        return []

    def _plan(self, at: float, happen: Callable[[], list[Event]]) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), happen))

    def _replace(self, worker: Worker) -> None:
        del self._there[worker]
        if worker.node in self._nodes:
            self._hire(worker.node)

    def _hire(self, node: str) -> None:
        worker, stay = Worker(next(self._numbers), node), self._nodes[node]

        def happen() -> list[Event]:
            if self._nodes.get(node) != stay:
                return []
            self._there[worker] = None
            return [Joined(worker)]

        self._plan(self.now + self._start_seconds, happen)


class SimulatedPool:
    """A pool whose workers are simulated."""

    def __init__(self, workers: SimulatedWorkers, time_limit: float | None = None) -> None:
        self.workers, self._time_limit = workers, time_limit

    def run(self, tasks: Sequence[Task], shared: Shared, *, stragglers: float | None = None) -> Iterator[Record]:  # noqa: ARG002
        """Yield one record per task as they land."""
        return dispatch(tasks, self.workers, Limits(self._time_limit, stragglers), self.workers.clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

"""Hand tasks to workers that come, die and are replaced.

It knows no ray: a transport is injected, and a test or a simulation can be one. One task is in flight per worker, and
only a worker that has said it is there gets one. A task whose worker died goes to the next free one; after
`max_attempts` deaths, of as many workers, the task itself is blamed and recorded as failed.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mddes.tasks.task import Record, Task


@dataclass(frozen=True)
class Joined:
    """A new worker is there and idle. Every worker has a number of its own."""

    worker: int


@dataclass(frozen=True)
class Landed:
    """A worker has finished its task."""

    worker: int
    record: Record


@dataclass(frozen=True)
class Died:
    """A worker is gone, with the task it had. Another one, of another number, may join in its place."""

    worker: int
    reason: str


Event = Joined | Landed | Died


class Transport(Protocol):
    """The way to the workers."""

    def idle(self) -> list[int]:
        """Return the workers that are there and have nothing to do."""

    def submit(self, worker: int, task: Task) -> None:
        """Start a task on an idle worker."""

    def wait(self) -> list[Event]:
        """Block until there is news. Raises `RunStopped` if there is no worker and none will come."""


def dispatch(tasks: Sequence[Task], transport: Transport, *, max_attempts: int = 3) -> Iterator[Record]:
    """Yield one record per task as they land."""
    waiting, idle = deque(tasks), deque(transport.idle())
    running: dict[int, Task] = {}
    deaths: Counter[str] = Counter()
    while waiting or running:
        while waiting and idle:
            worker, task = idle.popleft(), waiting.popleft()
            running[worker] = task
            transport.submit(worker, task)
        for event in transport.wait():
            if isinstance(event, Joined):
                idle.append(event.worker)
            elif isinstance(event, Landed):
                idle.append(event.worker)
                if running.pop(event.worker, None):  # else of an earlier dispatch that was given up
                    yield event.record
            elif lost := running.pop(event.worker, None):
                deaths[lost.key] += 1
                if deaths[lost.key] < max_attempts:
                    waiting.appendleft(lost)
                else:
                    yield lost.failed(f"its worker died {max_attempts} times, the last time of: {event.reason}")
            elif event.worker in idle:
                idle.remove(event.worker)

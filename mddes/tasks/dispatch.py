"""Hand tasks to workers that may die. It knows no ray: a transport is injected, and a test or a simulation can be one.

One task is in flight per worker. A task whose worker died goes to the next free one; after `max_attempts` deaths the
task itself is blamed and recorded as failed.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mddes.tasks.task import Record, Task


@dataclass(frozen=True)
class Landing:
    """What came back from a worker: its task's record, or the reason of its death. A dead worker is replaced."""

    worker: int
    record: Record | None
    reason: str = ""


class Transport(Protocol):
    """The way to a fixed number of workers."""

    workers: int

    def submit(self, worker: int, task: Task) -> None:
        """Start a task on an idle worker, 0 .. workers - 1."""

    def wait(self) -> list[Landing]:
        """Block until at least one worker has something to say."""


def dispatch(tasks: Sequence[Task], transport: Transport, *, max_attempts: int = 3) -> Iterator[Record]:
    """Yield one record per task as they land."""
    waiting, idle = deque(tasks), deque(range(transport.workers))
    running: dict[int, Task] = {}
    deaths: Counter[str] = Counter()
    while waiting or running:
        while waiting and idle:
            worker, task = idle.popleft(), waiting.popleft()
            running[worker] = task
            transport.submit(worker, task)
        for landing in transport.wait():
            task = running.pop(landing.worker)
            idle.append(landing.worker)
            if landing.record is not None:
                yield landing.record
                continue
            deaths[task.key] += 1
            if deaths[task.key] < max_attempts:
                waiting.appendleft(task)
            else:
                yield task.failed(f"its worker died {max_attempts} times, the last time of: {landing.reason}")

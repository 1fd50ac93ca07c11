"""Run tasks in this process, and the one way in which tasks, a pool and a ledger come together."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from mddes.tasks.ledger import Ledger
from mddes.tasks.task import Record, Shared, Task, execute


class Pool(Protocol):
    """Something that runs tasks; their records come in the order in which they land."""

    def run(self, tasks: Sequence[Task], shared: Shared, *, stragglers: float | None = None) -> Iterator[Record]:
        """Yield one record per task; `stragglers` as in `dispatch.Limits`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SerialPool:
    """One task after the other, here: none is cancelled, a hung one hangs. It never imports ray."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def run(self, tasks: Sequence[Task], shared: Shared, *, stragglers: float | None = None) -> Iterator[Record]:  # noqa: ARG002
        """Yield one record per task, in order."""
        for task in tasks:
            yield execute(task, shared, self.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def complete(
    tasks: Sequence[Task],
    shared: Shared,
    pool: Pool,
    ledger: Ledger,
    *,
    retry_failed: bool = True,
    stragglers: float | None = None,
    on_record: Callable[[Record], None] | None = None,
) -> list[Record]:
    """Return the records of the tasks, in their order: those in the ledger as they stand, the others run and recorded.

    Args:
        tasks: equal keys are run once.
        shared: arrays that the tasks read.
        pool: runs what is missing.
        ledger: gets each new record as it lands.
        retry_failed: run tasks again that the ledger has as failed.
        stragglers: cancel the last tasks when they take so many times the median (`dispatch.Limits`).
        on_record: called with every record that is new or found.
    """
    missing: dict[str, Task] = {}
    for task in tasks:
        record = ledger.records.get(task.key)
        if record is None or (retry_failed and record["status"] == "failed"):
            missing[task.key] = task
        elif on_record:
            on_record(record)
    for record in pool.run(list(missing.values()), shared, stragglers=stragglers):
        ledger.append(record)
        if on_record:
            on_record(record)
    return [ledger.records[task.key] for task in tasks]

"""The dispatcher on a simulated clock: workers die, hang, lag, leave and join; every task lands once."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mddes import RunStopped
from mddes.tasks import Record, Task
from mddes.tasks.dispatch import MAX_LOSSES, Event, Limits, Worker, dispatch
from mddes.tasks.simulation import Fate, SimulatedWorkers

Behaviour = Callable[[int, Worker, int], Fate]  # number of the task, worker, how often it was started before


def numbered(count: int) -> list[Task]:
    return [Task("cases:double", {"number": i}, labels={"place": i}) for i in range(count)]


def answer(task: Task) -> Record:
    return {"key": task.key, "status": "done", **task.labels}


def quiet(number: int, worker: Worker, before: int) -> Fate:
    return ("land", 10.0)


class Watched(SimulatedWorkers):
    """Remembers which worker got which task."""

    def __init__(self, nodes: dict[str, int], behave: Behaviour, **rest: Any) -> None:
        super().__init__(nodes, lambda task, worker, n: behave(task.spec["number"], worker, n), answer, **rest)
        self.history: list[tuple[int, Worker]] = []

    def submit(self, worker: Worker, task: Task) -> None:
        self.history.append((task.spec["number"], worker))
        super().submit(worker, task)

    def tries(self, number: int) -> list[Worker]:
        return [worker for n, worker in self.history if n == number]


NONE = Limits()


def run(workers: Watched, tasks: Sequence[Task], limits: Limits = NONE) -> dict[int, Record]:
    """Dispatch, and return the records by number; every task has exactly one."""
    records = list(dispatch(tasks, workers, limits, workers.clock))
    assert sorted(record["place"] for record in records) == sorted(task.spec["number"] for task in tasks)
    return {record["place"]: record for record in records}


fates = st.tuples(st.sampled_from(["land", "die", "hang"]), st.floats(0.1, 100.0))


@given(
    nodes=st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), min_size=1),
    count=st.integers(0, 12),
    early=st.dictionaries(st.tuples(st.integers(0, 11), st.integers(0, 3)), fates),
)
def test_every_task_lands_once_whatever_happens_to_its_workers(
    nodes: dict[str, int], count: int, early: dict[tuple[int, int], Fate]
) -> None:
    def behave(number: int, worker: Worker, before: int) -> Fate:
        return early.get((number, before), ("land", 10.0))

    workers = Watched(nodes, behave, start_seconds=1.0)
    records = run(workers, numbered(count), Limits(seconds=150.0))
    for number, record in records.items():
        lost = next((n for n in range(4) if behave(number, Worker(0), n)[0] == "land"), 4)
        assert record["status"] == ("done" if lost < MAX_LOSSES else "failed")
        assert len(record.get("lost", [])) == min(lost, MAX_LOSSES)
        tries = workers.tries(number)
        assert len(tries) == min(lost + 1, MAX_LOSSES)
        assert len(set(tries)) == len(tries), "every attempt is on another worker"


def test_a_task_that_kills_its_workers_is_blamed() -> None:
    workers = Watched({"a": 2}, lambda number, worker, n: ("die", 1.0) if number == 1 else ("land", 1.0))
    records = run(workers, numbered(4))
    assert records[1]["status"] == "failed"
    assert records[1]["reason"] == "lost with 3 workers, the last time: killed"
    assert records[1]["lost"] == ["killed"] * 3
    assert all(records[i]["status"] == "done" for i in (0, 2, 3))


def test_a_hung_task_is_taken_from_its_worker_and_runs_again() -> None:
    workers = Watched({"a": 1}, lambda number, worker, n: ("hang", 0.0) if n == 0 else ("land", 10.0))
    records = run(workers, numbered(1), Limits(seconds=60.0))
    assert records[0]["status"] == "done"
    assert records[0]["lost"] == ["it ran past its limit of 60 s"]
    assert workers.now == 70.0


def test_a_task_that_always_hangs_is_a_failure() -> None:
    workers = Watched({"a": 2}, lambda number, worker, n: ("hang", 0.0) if number == 0 else ("land", 10.0))
    records = run(workers, numbered(3), Limits(seconds=60.0))
    assert records[0]["reason"] == "lost with 3 workers, the last time: it ran past its limit of 60 s"
    assert workers.now == 180.0
    assert [records[i]["status"] for i in (1, 2)] == ["done", "done"]


def test_a_slow_task_within_its_limit_is_left_alone() -> None:
    workers = Watched({"a": 3}, lambda number, worker, n: ("land", 59.9 if number == 0 else 1.0))
    assert "lost" not in run(workers, numbered(20), Limits(seconds=60.0))[0]


def test_a_task_that_was_lost_runs_elsewhere() -> None:
    """A bad node may kill all that it is given: no task is blamed for it while there is another node."""
    workers = Watched({"bad": 3, "good": 1}, lambda number, worker, n: ("die" if worker.node == "bad" else "land", 5.0))
    records = run(workers, numbered(12))
    assert all(record["status"] == "done" for record in records.values())
    for number in range(12):
        assert [worker.node for worker in workers.tries(number)].count("bad") <= 1


def test_with_one_node_elsewhere_is_another_worker() -> None:
    workers = Watched({"only": 1}, lambda number, worker, n: ("die", 1.0) if n < 2 else ("land", 1.0))
    assert run(workers, numbered(1))[0]["status"] == "done"
    assert len(set(workers.tries(0))) == 3


def test_a_node_that_leaves_costs_no_task_an_attempt() -> None:
    workers = Watched({"a": 2, "stays": 1}, lambda number, worker, n: ("land", 10.0))
    for i in range(5):  # it leaves in the middle of a task, and comes again, five times
        workers.leave("a", at=5.0 + 20 * i)
        workers.join("a", 2, at=6.0 + 20 * i)
    records = run(workers, numbered(40))
    assert all(record["status"] == "done" for record in records.values())
    assert sum(len(record.get("lost", [])) for record in records.values()) >= 5


def test_a_task_that_takes_its_node_with_it_every_time_is_a_failure() -> None:
    """A training that brings the whole machine down looks like a node that leaves; it must not go on for ever."""
    workers = Watched({"a": 1}, lambda number, worker, n: ("land", 1000.0))
    for i in range(50):
        workers.leave("a", at=5.0 + 20 * i)
        workers.join("a", 1, at=6.0 + 20 * i)
    records = run(workers, numbered(1))
    assert records[0]["reason"] == "lost with 10 workers, the last time: its node left"


def test_a_node_that_joins_gets_work_at_once() -> None:
    workers = Watched({"a": 1}, quiet)
    workers.join("b", 3, at=25.0)
    run(workers, numbered(20))
    assert workers.now == 75.0, "2 tasks in the first 25 s, then four at a time (by one worker it would be 200 s)"


def test_without_any_worker_the_run_stops() -> None:
    workers = Watched({"a": 1}, quiet)
    workers.leave("a", at=5.0)
    with pytest.raises(RunStopped, match="nothing will ever happen"):
        run(workers, numbered(3))


def test_stragglers_are_left_alone_unless_asked() -> None:
    workers = Watched({"a": 8}, lambda number, worker, n: ("land", 1000.0 if number == 3 else 10.0))
    assert all(record["status"] == "done" for record in run(workers, numbered(8)).values())
    assert workers.now == 1000.0


def test_a_straggler_is_cancelled_after_k_medians() -> None:
    workers = Watched({"a": 8}, lambda number, worker, n: ("land", 1000.0 if number == 3 else 10.0))
    records = run(workers, numbered(8), Limits(stragglers=4.0))
    assert workers.now == 40.0
    assert records[3]["status"] == "failed"
    assert records[3]["cancelled"] is True
    assert records[3]["reason"] == "cancelled as a straggler after 40 s: the median of the others is 10 s"
    assert sum(record["status"] == "failed" for record in records.values()) == 1


def test_failures_do_not_make_others_late() -> None:
    """Fifteen fail at once; the five that train are no stragglers for it."""

    def behave(number: int, worker: Worker, before: int) -> Fate:
        return ("land", 0.1 if number < 15 else 30.0)

    workers = Watched({"a": 20}, behave)
    workers._answer = lambda task: (
        task.failed("diverged") if task.spec["number"] < 15 else {"key": task.key, "status": "done", **task.labels}
    )
    records = run(workers, numbered(20), Limits(stragglers=2.0))
    assert [records[i]["status"] for i in range(20)] == ["failed"] * 15 + ["done"] * 5


def test_what_has_landed_and_waits_to_be_fetched_is_not_late() -> None:
    """A driver that falls behind, one event at a time, dismisses no worker that has finished in time."""

    class Lagging(Watched):
        def wait(self, seconds: float | None) -> list[Event]:
            events = super().wait(seconds)
            self.now += 1.0  # the driver is busy with each
            return events

    workers = Lagging({"a": 100}, lambda number, worker, n: ("land", 10.0))
    records = run(workers, numbered(100), Limits(seconds=35.0))
    assert not any("lost" in record for record in records.values())


def test_no_straggler_before_three_quarters_have_landed() -> None:
    """With three of eight late nothing is a straggler until the first of them has landed."""
    workers = Watched({"a": 8}, lambda number, worker, n: ("land", 100.0 + number if number < 3 else 10.0))
    records = run(workers, numbered(8), Limits(stragglers=2.0))
    assert workers.now == 100.0
    assert [records[i]["status"] for i in range(4)] == ["done", "failed", "failed", "done"]


def test_a_worker_that_is_ten_times_slower_costs_at_most_its_share() -> None:
    """With --stragglers 3, the last tasks are taken from the slow node; the others carry the rest."""

    def behave(number: int, worker: Worker, before: int) -> Fate:
        return ("land", 100.0 if worker.node == "slow" else 10.0)

    patient, impatient = Watched({"fast": 7, "slow": 1}, behave), Watched({"fast": 7, "slow": 1}, behave)
    run(patient, numbered(16))
    records = run(impatient, numbered(16), Limits(stragglers=3.0))
    assert patient.now == 100.0
    assert impatient.now == 30.0
    assert sum(record.get("cancelled", False) for record in records.values()) == 1


def test_the_same_limit_counts_for_a_task_s_second_start() -> None:
    starts: list[float] = []

    def behave(number: int, worker: Worker, before: int) -> Fate:
        starts.append(workers.now)
        return ("hang", 0.0) if before == 0 else ("land", 50.0)

    workers = Watched({"a": 1}, behave, start_seconds=2.0)
    records = run(workers, numbered(2), Limits(seconds=60.0))
    assert all(record["status"] == "done" for record in records.values())
    assert starts == [2.0, 64.0, 114.0, 176.0]


def test_workers_are_kept_from_one_dispatch_to_the_next() -> None:
    workers = Watched({"a": 2}, quiet)
    run(workers, numbered(4))
    run(workers, numbered(4))
    assert len({worker for _, worker in workers.history}) == 2


def test_what_an_abandoned_dispatch_left_running_is_not_taken_for_another_s() -> None:
    workers = Watched({"a": 2}, lambda number, worker, n: ("land", float(1 + number)))
    first = dispatch([Task("cases:double", {"number": i}) for i in (100, 101, 102)], workers, NONE, workers.clock)
    next(first)
    first.close()  # type: ignore[attr-defined]
    records = run(workers, numbered(3))
    assert [records[i]["key"] for i in range(3)] == [task.key for task in numbered(3)]


def test_equal_runs_are_equal() -> None:
    """The simulation and the dispatcher have no order of their own."""

    def history() -> list[tuple[int, Worker]]:
        workers = Watched(
            {"a": 3, "b": 2},
            lambda number, worker, n: ("die" if (number + n) % 5 == 0 else "land", 1.0 + number % 3),
        )
        run(workers, numbered(50))
        return workers.history

    assert history() == history()

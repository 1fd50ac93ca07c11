"""Tasks, ledger and serial pool: nothing is lost, nothing is computed twice."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mddes import InputError
from mddes.tasks import Ledger, Record, SerialPool, Task, complete
from mddes.tasks.ledger import read
from mddes.tasks.task import Shared, execute

SHARED = {"numbers": np.array([1, 2, 3])}


def doubles(count: int) -> list[Task]:
    return [Task("cases:double", {"number": i}, labels={"place": i}) for i in range(count)]


def test_a_record_says_what_was_computed_and_where() -> None:
    record = execute(doubles(3)[2], SHARED, "cpu")
    assert record["status"] == "done"
    assert (record["twice"], record["device"], record["place"]) == (10, "cpu", 2)
    assert record["key"] == doubles(3)[2].key
    assert record["seconds"] >= 0
    assert str(os.getpid()) in record["worker"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("fail", "ValueError: no luck"),
        ("not_finite", "ArithmeticError: fitness is not finite, or no JSON"),
        ("nope", "AttributeErr"),
    ],
)
def test_a_failure_is_a_record_with_one_line_of_reason(function: str, reason: str) -> None:
    record = execute(Task(f"cases:{function}", {}, labels={"place": 1}), {}, "cpu")
    assert record["status"] == "failed"
    assert record["reason"].startswith(reason)
    assert "\n" not in record["reason"]
    assert record["place"] == 1
    assert "Traceback" in record["traceback"]
    json.dumps(record, allow_nan=False)


def test_a_key_is_the_identity_of_a_result() -> None:
    key = Task("cases:double", {"a": 1, "b": 2}, "data").key
    assert Task("cases:double", {"b": 2, "a": 1}, "data", {"label": "any"}).key == key
    others = [
        Task("cases:fail", {"a": 1, "b": 2}, "data"),
        Task("cases:double", {"a": 1, "b": 3}, "data"),
        Task("cases:double", {"a": 1, "b": 2}, "other data"),
    ]
    assert len({key, *(task.key for task in others)}) == 4


def test_a_ledger_keeps_records_and_events(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, {"seed": 1}) as ledger:
        ledger.append({"key": "a", "status": "done", "x": 0.1})
        ledger.append({"event": "generation", "generation": 0})
        ledger.append({"key": "b", "status": "failed", "reason": "no luck"})
        ledger.append({"key": "b", "status": "done"})
    with Ledger(path, {"seed": 1}) as again:
        assert again.records == {"a": {"key": "a", "status": "done", "x": 0.1}, "b": {"key": "b", "status": "done"}}
        assert again.events("generation") == [{"event": "generation", "generation": 0}]
    assert path.read_text().count("\n") == 5
    assert not path.with_suffix(".torn").exists()


def test_floats_survive_the_ledger_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(1000).tolist()
    with Ledger(tmp_path / "l.jsonl", {}) as ledger:
        ledger.append({"key": "a", "status": "done", "asked": values})
    assert read(tmp_path / "l.jsonl").records["a"]["asked"] == values


@given(cut=st.integers(1, 400))
def test_a_torn_tail_costs_at_most_its_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Cut anywhere: every whole line survives, the torn bytes are kept aside, and the ledger goes on."""
    path = tmp_path_factory.mktemp("ledger") / "l.jsonl"
    with Ledger(path, {"seed": 1}) as ledger:
        for i in range(8):
            ledger.append({"key": str(i), "status": "done", "text": "x" * i})
    whole = path.read_bytes()
    torn = whole[: max(1, len(whole) - cut)]
    path.write_bytes(torn)
    good, _, tail = torn.rpartition(b"\n")
    with Ledger(path, {"seed": 1}) as again:
        assert list(again.records) == [str(i) for i in range(max(0, good.count(b"\n")))]
        again.append({"key": "new", "status": "done"})
    side = path.with_suffix(".torn")
    assert (side.read_bytes() == tail + b"\n") if tail else not side.exists()
    assert "new" in read(path).records
    assert [json.loads(line) for line in path.read_text().splitlines()]


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(b'{"event": "run", "identity": {}}\n{"key": "a", "status": "done"}\n{"key": ')
    before = path.read_bytes()
    content = read(path)
    assert list(content.records) == ["a"]
    assert content.torn == b'{"key": '
    assert path.read_bytes() == before


def test_damage_in_the_middle_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(b'{"event": "run", "identity": {}}\nrubbish\n{"key": "a"}\n')
    before = path.read_bytes()
    with pytest.raises(InputError, match="damaged at line 2"):
        Ledger(path, {})
    assert path.read_bytes() == before


def test_a_ledger_of_another_run_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    with Ledger(path, {"seed": 1, "pixels": 1}):
        pass
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"another configuration \(pixels 1 -> 2\)"):
        Ledger(path, {"seed": 1, "pixels": 2})
    assert path.read_bytes() == before


def test_a_missing_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Ledger(tmp_path / "nowhere" / "l.jsonl", {})


FULL_DISK = """
import resource, sys
from pathlib import Path
from mddes.tasks import Ledger
path = Path(sys.argv[1])
ledger = Ledger(path, {})
ledger.append({"key": "a", "status": "done"})
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, resource.RLIM_INFINITY))
try:
    ledger.append({"key": "b", "status": "done", "text": "x" * 100})
except OSError as error:
    print(error.errno, error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.append({"key": "c", "status": "done"})
"""


def test_a_full_disk_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    """A real limit on the file's size, met in the middle of a line: the partial line is taken back."""
    assert resource.RLIM_INFINITY
    path = tmp_path / "l.jsonl"
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{errno.EFBIG} ")
    assert "what was recorded before is safe" in done.stdout
    content = read(path)
    assert list(content.records) == ["a", "c"]
    assert content.torn == b""


class CountingPool(SerialPool):
    """Counts what it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[Task] = []

    def run(self, tasks: Sequence[Task], shared: Shared, *, stragglers: float | None = None) -> Iterator[Record]:
        self.ran += tasks
        return super().run(tasks, shared)


def test_complete_runs_only_what_is_missing(tmp_path: Path) -> None:
    pool = CountingPool()
    with Ledger(tmp_path / "l.jsonl", {}) as ledger:
        first = complete(doubles(3), SHARED, pool, ledger)
        seen: list[Record] = []
        records = complete(doubles(5)[::-1], SHARED, pool, ledger, on_record=seen.append)
        assert [task.spec["number"] for task in pool.ran] == [0, 1, 2, 4, 3]
        assert [record["twice"] for record in records] == [14, 12, 10, 8, 6], "in the order of the tasks"
        assert records[-1] == first[0]
        assert len(seen) == 5, "found ones are reported too"


def test_equal_tasks_are_run_once(tmp_path: Path) -> None:
    pool = CountingPool()
    with Ledger(tmp_path / "l.jsonl", {}) as ledger:
        records = complete([*doubles(2), *doubles(2)], SHARED, pool, ledger)
        assert len(pool.ran) == 2
        assert records[0] == records[2]


def test_a_failed_task_is_tried_again_only_if_asked_to(tmp_path: Path) -> None:
    pool = CountingPool()
    with Ledger(tmp_path / "l.jsonl", {}) as ledger:
        task = Task("cases:fail", {})
        complete([task], {}, pool, ledger)
        complete([task], {}, pool, ledger, retry_failed=False)
        assert len(pool.ran) == 1
        complete([task], {}, pool, ledger)
        assert len(pool.ran) == 2

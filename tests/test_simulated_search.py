"""The real driver and ledger with simulated workers: what happens to workers does not change what is found."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import TIMES, lines, random_images

from mddes import InputError, SearchConfig
from mddes.data import SearchData, split
from mddes.search import config
from mddes.search.config import identity, resolve
from mddes.search.driver import Outcome, run_search
from mddes.tasks import Ledger, Record, Task
from mddes.tasks.dispatch import Worker
from mddes.tasks.simulation import Fate, SimulatedPool, SimulatedWorkers

DATA: SearchData = split(random_images(n=80))
CONFIG = resolve(SearchConfig(pixels=1, popsize=8, generations=4, finalists=2, finalist_seeds=2, repeats=2), DATA)


def answer(task: Task) -> Record:
    """Return a fitness that depends on the task alone."""
    names = ("fitness", "semantic_mismatch", "domain_divergence", "clean_accuracy", "poisoned_accuracy")
    draw = random.Random(task.key)
    return {"key": task.key, "status": "done", **task.labels, **{name: draw.random() for name in names}}


def search(
    path: Path, fate: Callable[[Task, Worker, int], Fate], *, workers: int = 4, **changes: Any
) -> tuple[Outcome, SimulatedWorkers]:
    asked = resolve(SearchConfig(**{**vars(CONFIG), **changes}), DATA)
    simulated = SimulatedWorkers({"a": workers, "b": 1}, fate, answer)
    with Ledger(path, identity(asked, DATA, None)) as ledger:
        return run_search(DATA, asked, ledger, SimulatedPool(simulated, time_limit=1000.0)), simulated


def records(path: Path) -> dict[str, Any]:
    loose = {*TIMES, "traceback"}
    return {line["key"]: {k: v for k, v in line.items() if k not in loose} for line in lines(path) if "key" in line}


def quiet(_task: Task, _worker: Worker, _before: int) -> Fate:
    return ("land", 10.0)


def rough(task: Task, worker: Worker, before: int) -> Fate:
    draw = random.Random(f"{task.key}{before}")
    what = "land" if before == 2 else draw.choice(["land", "land", "die", "hang"])
    return (what, draw.uniform(1.0, 100.0))  # type: ignore[return-value]


def test_deaths_and_hangs_change_nothing(tmp_path: Path) -> None:
    first, _ = search(tmp_path / "quiet.jsonl", quiet)
    second, workers = search(tmp_path / "rough.jsonl", rough, workers=7)
    assert sum(workers.started.values()) > len(workers.started), "something was lost and run again"
    assert records(tmp_path / "rough.jsonl") == records(tmp_path / "quiet.jsonl")
    assert second.finalists == first.finalists


def slow_sixth(task: Task, _worker: Worker, _before: int) -> Fate:
    """In the second generation both trainings of the sixth candidate are late."""
    late = (task.labels.get("generation"), task.labels.get("candidate")) == (1, 5)
    return ("land", 500.0 if late else 10.0)


def test_stragglers_are_waited_for_unless_asked_otherwise(tmp_path: Path) -> None:
    _, workers = search(tmp_path / "l.jsonl", slow_sixth)
    assert workers.now > 500.0
    assert all(record["status"] == "done" for record in records(tmp_path / "l.jsonl").values())


def test_a_cancelled_straggler_is_ranked_worst_and_recorded(tmp_path: Path) -> None:
    outcome, workers = search(tmp_path / "l.jsonl", slow_sixth, stragglers=3.0, workers=15)
    assert workers.now < 200.0
    cancelled = [record for record in records(tmp_path / "l.jsonl").values() if record.get("cancelled")]
    assert [(record["generation"], record["candidate"]) for record in cancelled] == [(1, 5)] * 2
    events = [line for line in lines(tmp_path / "l.jsonl") if line.get("event") == "generation"]
    assert [event["failed"] for event in events] == [0, 1, 0, 0]
    assert outcome.generations == 4


@pytest.mark.parametrize("after", ["cancelled", "event"])
def test_what_the_clock_decided_is_not_decided_again(tmp_path: Path, after: str) -> None:
    """The driver dies between the cancellation and the generation's event, or after it; nobody is late any more."""
    whole, _ = search(tmp_path / "whole.jsonl", slow_sixth, stragglers=3.0, workers=15)
    text = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    at = max(i for i, line in enumerate(text) if '"cancelled": true' in line)
    (tmp_path / "cut.jsonl").write_text("".join(text[: at + 1 + (after == "event")]))
    resumed, _ = search(tmp_path / "cut.jsonl", quiet, stragglers=3.0, workers=15)
    assert resumed.finalists == whole.finalists
    assert records(tmp_path / "cut.jsonl") == records(tmp_path / "whole.jsonl")


def test_repeats_of_one_candidate_have_one_perturbation(tmp_path: Path) -> None:
    """Also where the vectors of another machine differ in their last digits, and decode to another pixel."""
    search(tmp_path / "l.jsonl", quiet, generations=1)
    text = (tmp_path / "l.jsonl").read_text().splitlines()
    first = next(line for line in lines(tmp_path / "l.jsonl") if line.get("repeat") == 0 and line["candidate"] == 3)
    moved = [[(row + 1) % 8 for row in rows] for rows in first["perturbation"]["rows"]]
    other = first["perturbation"] | {"rows": moved}
    (tmp_path / "l.jsonl").write_text(f"{text[0]}\n{json.dumps(first | {'perturbation': other})}\n")
    search(tmp_path / "l.jsonl", quiet, generations=1)
    repeats = [line for line in lines(tmp_path / "l.jsonl") if line.get("candidate") == 3 and line["phase"] == "search"]
    assert [line["perturbation"] for line in repeats] == [other] * 2


def test_a_ledger_of_another_protocol_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(tmp_path / "l.jsonl", quiet, generations=1)
    monkeypatch.setattr(config, "PROTOCOL", 99)
    with pytest.raises(InputError, match=r"belongs to another configuration \(protocol"):
        search(tmp_path / "l.jsonl", quiet, generations=1)

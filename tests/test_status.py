"""How far a run is, who did what, and what TensorBoard gets: read from folders in every state."""

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from cases import lines, tiny_config

import mddes
from mddes import InputError, SearchResult
from mddes.cli import main
from mddes.report.scalars import scalars
from mddes.tasks.accounts import Share, account
from mddes.tasks.run_folder import LEASE


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return mddes.search(tiny_config(tmp_path_factory.mktemp("runs")))


def cut(finished: SearchResult, tmp_path: Path, count: int) -> Path:
    """Return a copy of the run as it was after so many lines of its ledger."""
    folder = tmp_path / "run"
    shutil.copytree(finished.run_dir, folder)
    for name in ("summary.json", "perturbation.json", "victims.jsonl"):
        (folder / name).unlink()
    text = (folder / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "evaluations.jsonl").write_bytes(b"".join(text[:count]))
    return folder


def test_a_finished_run(finished: SearchResult) -> None:
    now = mddes.status(finished.run_dir)
    assert (now.state, now.driver, now.seconds_left) == ("finished", None, None)
    assert (now.generation, now.generations, now.landed) == (3, 3, 0)
    assert (now.finalists, now.victims) == (6, 6)
    assert now.accounts.done == 3 * 4 + 6 + 6
    events = [line for line in lines(finished.run_dir / "evaluations.jsonl") if line.get("event") == "generation"]
    assert now.best == max(event["fitness_best"] for event in events)
    assert now.mean == events[-1]["fitness_mean"]
    assert now.last_landed is not None
    assert "3 of 3 generations" in str(now)
    assert "24 done by 1 worker on 1 machine" in str(now)


def test_a_run_in_the_middle_of_a_generation(finished: SearchResult, tmp_path: Path) -> None:
    folder = cut(finished, tmp_path, 1 + 4 + 1 + 3)  # the run, a generation and its event, three of the next
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    now = mddes.status(folder)
    assert (now.state, now.generation, now.landed, now.trainings) == ("stopped", 1, 3, 4)
    assert "1 of 3 generations, 3 of 4 trainings of the next" in str(now)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_run_that_is_running(finished: SearchResult, tmp_path: Path) -> None:
    folder = cut(finished, tmp_path, 1 + 5 + 2)
    holder = {"host": socket.gethostname(), "pid": os.getpid()}
    (folder / LEASE).write_text(json.dumps(holder))
    now = mddes.status(folder)
    assert now.state == "running"
    assert now.driver == f"{holder['host']}, process {holder['pid']}"
    assert now.seconds_left is not None
    (folder / LEASE).write_text(json.dumps(holder | {"pid": 2**22 + 1}))
    assert mddes.status(folder).state == "stopped", "its driver is dead"
    (folder / LEASE).write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert mddes.status(folder).state == "running", "elsewhere, and its heart beats"
    os.utime(folder / LEASE, (0, 0))
    assert mddes.status(folder).state == "stopped"


def test_a_run_that_is_to_be_extended_is_not_finished(finished: SearchResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.run_dir, folder)
    config = (folder / "config.toml").read_text().replace("generations = 3", "generations = 9")
    (folder / "config.toml").write_text(config)
    now = mddes.status(folder)
    assert (now.state, now.generation, now.generations) == ("stopped", 3, 9)


def test_a_budget_of_time(finished: SearchResult, tmp_path: Path) -> None:
    """It bounds the time left; a run that it ended is finished, and no more so when it was given more time."""
    folder = cut(finished, tmp_path, 1 + 5 + 2)
    (folder / LEASE).write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    config = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(config + "wall_clock = 0.001\n")
    assert mddes.status(folder).seconds_left == 0.0
    (folder / LEASE).unlink()
    (folder / "summary.json").write_text(json.dumps({"generations": 1, "stopped_by": "wall_clock"}))
    assert mddes.status(folder).state == "finished"
    (folder / "config.toml").write_text(config + "wall_clock = 1000000.0\n")
    assert mddes.status(folder).state == "stopped"


def test_a_damaged_ledger_is_one_clear_error(finished: SearchResult, tmp_path: Path) -> None:
    folder = cut(finished, tmp_path, 3)
    with (folder / "evaluations.jsonl").open("a") as ledger:
        ledger.write('{"key": "abc", "status": "done"}\n')
    with pytest.raises(InputError, match="record abc has no valid phase"):
        mddes.status(folder)


def test_a_run_that_has_only_just_begun(finished: SearchResult, tmp_path: Path) -> None:
    folder = cut(finished, tmp_path, 1)
    now = mddes.status(folder)
    assert (now.generation, now.landed, now.best, now.last_landed) == (0, 0, None, None)
    (folder / "evaluations.jsonl").unlink()
    assert mddes.status(folder).generation == 0


def test_failures_are_counted_by_reason(finished: SearchResult, tmp_path: Path) -> None:
    folder = cut(finished, tmp_path, 9)
    text = (folder / "evaluations.jsonl").read_text().splitlines()
    record = json.loads(text[-1])
    failed = {**record, "status": "failed", "reason": "ArithmeticError: diverged", "lost": ["killed", "killed"]}
    (folder / "evaluations.jsonl").write_text("\n".join([*text[:-1], json.dumps(failed)]) + "\n")
    now = mddes.status(folder)
    assert (now.accounts.failed, now.accounts.lost) == (1, 2)
    assert "failed 1 x  ArithmeticError: diverged" in str(now)
    assert "2 attempts lost with their workers" in str(now)


def test_on_the_command_line(finished: SearchResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished.run_dir)]) == 0
    assert "state         finished" in capsys.readouterr().out
    assert main(["status", str(finished.run_dir), "--json"]) == 0
    now = json.loads(capsys.readouterr().out)
    assert now["state"] == "finished"
    assert now["accounts"]["done"] == 24


def test_the_summary_says_who_did_what(finished: SearchResult) -> None:
    trainings = json.loads((finished.run_dir / "summary.json").read_text())["trainings"]
    assert (trainings["done"], trainings["failed"], trainings["lost"]) == (24, 0, 0)
    ((worker, share),) = trainings["workers"].items()
    assert worker == f"{socket.gethostname()}:{os.getpid()}"
    assert share["done"] == 24
    assert share["seconds"] > 0


def test_accounts_add_up() -> None:
    records: list[dict[str, Any]] = [
        {"status": "done", "worker": "a:1", "seconds": 2.0},
        {"status": "done", "worker": "a:2", "seconds": 1.5, "lost": ["killed"]},
        {"status": "failed", "worker": "b:1", "seconds": 1.0, "reason": "x"},
        {"status": "failed", "reason": "lost with 3 workers", "lost": ["killed"] * 3},
    ]
    accounts = account(records)
    assert (accounts.done, accounts.failed, accounts.lost) == (2, 2, 4)
    assert accounts.reasons == {"x": 1, "lost with 3 workers": 1}
    assert accounts.workers == {"a:1": Share(1, 0, 2.0), "a:2": Share(1, 0, 1.5), "b:1": Share(0, 1, 1.0)}
    assert str(accounts) == "2 done by 3 workers on 2 machines, 2 failed, 4 attempts lost with their workers"


def test_tensorboard_gets_every_generation_once(tmp_path: Path) -> None:
    """Also when the run was begun without it, and when it is resumed: the curves are whole, and not doubled."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = mddes.search(tiny_config(tmp_path, victim_seeds=0))
    assert not (result.run_dir / "tensorboard").exists()
    mddes.resume(result.run_dir, tensorboard=True)
    mddes.resume(result.run_dir, generations=4)
    events = accumulator.EventAccumulator(str(result.run_dir / "tensorboard"))
    events.Reload()
    told = [line for line in lines(result.run_dir / "evaluations.jsonl") if line.get("event") == "generation"]
    curve = events.Scalars("fitness_mean")
    assert [point.step for point in curve] == [0, 1, 2, 3]
    assert [point.value for point in curve] == pytest.approx([event["fitness_mean"] for event in told])
    assert {"fitness_best", "clean_accuracy_mean", "sigma", "failed"} <= {*events.Tags()["scalars"]}


def test_without_tensorboard_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'mddes\[tensorboard\]'"):
        mddes.search(tiny_config(tmp_path, tensorboard=True))
    assert list(tmp_path.iterdir()) == [], "before anything is written"
    with scalars(tmp_path, wanted=False) as tell:
        tell({"event": "generation", "generation": 0})
    assert list(tmp_path.iterdir()) == []

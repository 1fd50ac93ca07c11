"""Ray workers: the same results as in-process, whatever their number, and deaths survived."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import TIMES, lines, outcome, tiny_arguments, tiny_config
from test_cli import CATCHABLE, start, wait_for_lines

import mddes
from mddes import InputError, RunStopped
from mddes.tasks import SerialPool, Task

pytestmark = pytest.mark.ray

SHARED = {"numbers": np.arange(1000, dtype=np.int64)}


def timeless(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [{k: v for k, v in r.items() if k not in TIMES | {"traceback"}} for r in records]
    return sorted(kept, key=lambda record: str(record["key"]))


def test_records_equal_those_of_the_serial_pool(ray_session: None) -> None:
    from mddes.tasks.ray_pool import RayPool

    tasks = [Task("cases:double", {"number": i}, labels={"place": i}) for i in range(20)]
    tasks += [Task("cases:fail", {}), Task("cases:not_finite", {})]
    with RayPool(2) as pool:
        there = list(pool.run(tasks, SHARED))
        again = list(pool.run(tasks[:3], SHARED))
    here = list(SerialPool().run(tasks, SHARED))
    assert timeless(there) == timeless(here)
    assert timeless(again) == timeless(here[:3])


def test_two_workers_work_at_the_same_time(ray_session: None) -> None:
    from mddes.tasks.ray_pool import RayPool

    with RayPool(2) as pool:
        records = list(pool.run([Task("cases:slow", {"seconds": 5, "number": i}) for i in range(2)], {}))
    assert len({record["pid"] for record in records}) == 2


def test_workers_for_which_there_is_no_room_hold_nothing_up(ray_session: None) -> None:
    from mddes.tasks.ray_pool import RayPool

    with RayPool(5) as pool:
        records = list(pool.run([Task("cases:double", {"number": i}) for i in range(9)], SHARED))
    assert len(records) == 9


def test_a_worker_for_which_there_can_be_no_room_is_refused(ray_session: None) -> None:
    from mddes.tasks.ray_pool import RayPool

    for asked in ({"gpus_per_worker": 1.0}, {"cpus_per_worker": 3}):
        with RayPool(1, **asked) as pool, pytest.raises(InputError, match=r"a worker takes .* but Ray has 2 CPU"):
            pool.run([Task("cases:double", {"number": 1})], SHARED)


def test_workers_that_fail_as_they_start_stop_the_run(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from mddes.tasks import ray_pool

    class Stillborn:
        def __init__(self, device: str) -> None:
            raise RuntimeError("no such module here")

        def place(self) -> None:
            """Never reached."""

    monkeypatch.setattr(ray_pool, "RayWorker", Stillborn)
    with (
        ray_pool.RayPool(2) as pool,
        pytest.raises(RunStopped, match=r"3 workers in a row died .*no such module here"),
    ):
        list(pool.run([Task("cases:double", {"number": 1})], SHARED))


def test_a_worker_that_dies_is_replaced_and_its_task_runs_again(ray_session: None, tmp_path: Path) -> None:
    from mddes.tasks.ray_pool import RayPool

    lives = {"lives": str(tmp_path / "lives"), "times": 2}
    tasks = [Task("cases:die", lives), *(Task("cases:double", {"number": i}) for i in range(6))]
    with RayPool(2) as pool:
        records = list(pool.run(tasks, SHARED))
    assert all(record["status"] == "done" for record in records)
    assert (tmp_path / "lives").read_text() == "..."


def test_a_killed_worker_costs_its_task_one_attempt(ray_session: None, tmp_path: Path) -> None:
    """With a single worker the task meets the replacement at once: it waits for it, and no attempt is wasted."""
    from mddes.tasks.ray_pool import RayPool

    lives = {"lives": str(tmp_path / "lives"), "times": 2}
    with RayPool(1) as pool:
        records = list(pool.run([Task("cases:die", lives), Task("cases:double", {"number": 1})], SHARED))
    assert [record["status"] for record in records] == ["done", "done"]
    assert (tmp_path / "lives").read_text() == "...", "died twice, ran the third time"


def test_a_task_that_kills_its_worker_every_time_is_a_recorded_failure(ray_session: None, tmp_path: Path) -> None:
    from mddes.tasks.ray_pool import RayPool

    deadly = Task("cases:die", {"lives": str(tmp_path / "lives"), "times": 99}, labels={"place": 7})
    with RayPool(2) as pool:
        records = list(pool.run([deadly, Task("cases:double", {"number": 1})], SHARED))
    by_status = {record["status"]: record for record in records}
    assert by_status["failed"]["place"] == 7
    assert by_status["failed"]["reason"].startswith("lost with 3 workers, the last time: ")
    assert by_status["done"]["twice"] == 2 + SHARED["numbers"].sum()
    assert (tmp_path / "lives").read_text() == "..."


def test_workers_compute_on_one_thread_and_read_shared_memory(ray_session: None) -> None:
    from mddes.tasks.ray_pool import RayPool

    with RayPool(1) as pool:
        (record,) = pool.run([Task("cases:look", {})], SHARED)
    assert record["torch_threads"] == 1
    assert record["writeable"] is False, "the arrays are mapped from the object store, not copied"


def test_no_task_starts_no_ray() -> None:
    """A finished run is resumed without waiting for workers."""
    code = (
        "from mddes.tasks.ray_pool import RayPool, ray\n"
        "with RayPool(2) as pool: print(list(pool.run([], {})), ray.is_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_on_ray_equals_one_in_process(ray_session: None, tmp_path: Path, workers: int) -> None:
    here = mddes.search(tiny_config(tmp_path / "here"))
    there = mddes.search(tiny_config(tmp_path / "there", workers=workers))
    assert outcome(there.run_dir) == outcome(here.run_dir)


def test_a_search_begun_on_ray_goes_on_in_process(ray_session: None, tmp_path: Path) -> None:
    here = mddes.search(tiny_config(tmp_path / "here"))
    there = mddes.search(tiny_config(tmp_path / "there", workers=2, generations=1, finalists=1, finalist_seeds=2))
    assert here.run_dir != there.run_dir
    moved = mddes.search(tiny_config(tmp_path / "moved", workers=2, generations=1))
    mddes.resume(moved.run_dir, generations=3, workers=0)
    assert outcome(moved.run_dir)["perturbation"] == outcome(here.run_dir)["perturbation"]
    assert outcome(moved.run_dir)["generations"] == outcome(here.run_dir)["generations"]


@pytest.mark.slow
def test_ctrl_c_of_a_terminal_stops_driver_and_workers(tmp_path: Path) -> None:
    """A terminal sends SIGINT to the whole group of processes; the run stops cleanly, and nothing stays behind."""
    process = start(tiny_arguments(tmp_path, **CATCHABLE, workers=2), process_group=0)
    folder = wait_for_lines(tmp_path, 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert f"to go on: mddes resume {folder}" in err
    records = [line for line in lines(folder / "evaluations.jsonl") if "key" in line]
    assert all(record["status"] == "done" for record in records), "an interrupted training is no failure"
    assert mddes.resume(folder, workers=0).generations == 3


@pytest.mark.slow
def test_the_whole_command_with_ray_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """`mddes search` starts its own Ray; the driver is killed, its workers go with it, and resume finishes the run."""
    quiet = mddes.search(tiny_config(tmp_path / "quiet", **CATCHABLE))
    out = tmp_path / "ray"
    process = start(tiny_arguments(out, **CATCHABLE, workers=2))
    folder = wait_for_lines(out, 6, process)
    process.kill()
    process.communicate()
    process = start(["resume", str(folder), "--workers", "2"])
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert outcome(folder) == outcome(quiet.run_dir)

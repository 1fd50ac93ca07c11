"""Real Ray clusters of several nodes, on this machine: nodes leave and join, workers are killed and hang.

The driver is the command line in a process of its own; whatever happens, its result is that of a quiet run.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import lines, outcome, tiny_arguments, tiny_config
from test_cli import start, wait_for_lines

import mddes

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Long enough to be caught in the middle of a generation.
CAUGHT: dict[str, Any] = {"generations": 8, "popsize": 6, "epochs": 30, "victim_seeds": 0, "finalists": 1}


class Nodes:
    """A cluster whose head does no work."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        memory: dict[str, Any] = {"object_store_memory": 100 * 2**20}
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
        self.address: str = self.cluster.address
        self._memory = memory

    def add(self, cpus: int = 1) -> Any:
        return self.cluster.add_node(num_cpus=cpus, **self._memory)

    def remove(self, node: Any) -> None:
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # workers know the tests' own task functions
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the outcome of the same search, in-process and undisturbed."""
    return outcome(mddes.search(tiny_config(tmp_path_factory.mktemp("quiet"), **CAUGHT)).run_dir)


@pytest.fixture(scope="module")
def longest(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return how long one training takes here, about."""
    result = mddes.search(tiny_config(tmp_path_factory.mktemp("timed"), **CAUGHT | {"generations": 1}))
    return max(float(line["seconds"]) for line in lines(result.run_dir / "evaluations.jsonl") if "key" in line)


def search_on(nodes: Nodes, out: Path, **changes: Any) -> "subprocess.Popen[str]":
    return start(tiny_arguments(out, **CAUGHT, **{"workers": "auto", "ray_address": nodes.address, **changes}))


def finish(process: "subprocess.Popen[str]", folder: Path) -> dict[str, Any]:
    """Wait for the driver, and return the summary's account of its trainings."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    trainings: dict[str, Any] = json.loads((folder / "summary.json").read_text())["trainings"]
    return trainings


def lost(folder: Path) -> list[str]:
    """Return why attempts were lost."""
    return [reason for line in lines(folder / "evaluations.jsonl") for reason in line.get("lost", [])]


def worker_of_last_line(folder: Path) -> int:
    return int(lines(folder / "evaluations.jsonl")[-1]["worker"].rpartition(":")[2])


def test_a_node_leaves_and_another_joins_in_the_middle_of_a_generation(
    nodes: Nodes, tmp_path: Path, quiet: dict[str, Any]
) -> None:
    nodes.add()
    leaves = nodes.add()
    process = search_on(nodes, tmp_path)
    folder = wait_for_lines(tmp_path, 5, process)
    nodes.remove(leaves)
    wait_for_lines(tmp_path, 9, process)
    nodes.add()
    trainings = finish(process, folder)
    assert outcome(folder) == quiet
    assert trainings["failed"] == 0
    assert len(trainings["workers"]) == 3, "the worker of the node that joined has worked too"
    assert all(reason.startswith("its node left: ") for reason in lost(folder))


def test_the_only_node_leaves_and_the_search_waits_for_another(
    nodes: Nodes, tmp_path: Path, quiet: dict[str, Any]
) -> None:
    only = nodes.add()
    process = search_on(nodes, tmp_path)
    folder = wait_for_lines(tmp_path, 4, process)
    nodes.remove(only)
    nodes.add(cpus=2)
    trainings = finish(process, folder)
    assert outcome(folder) == quiet
    assert trainings["lost"] == 1
    assert lost(folder)[0].startswith("its node left: "), "which is no fault of the training"


def test_a_killed_and_a_stopped_worker(nodes: Nodes, tmp_path: Path, quiet: dict[str, Any], longest: float) -> None:
    """kill -9 of one worker, and one that is stopped: it hangs for ever, and is replaced when its time is up."""
    nodes.add(cpus=2)
    limit = round(20 + 20 * longest)
    process = search_on(nodes, tmp_path, time_limit=float(limit))
    folder = wait_for_lines(tmp_path, 4, process)
    os.kill(worker_of_last_line(folder), signal.SIGKILL)
    wait_for_lines(tmp_path, 9, process)
    stopped = worker_of_last_line(folder)
    os.kill(stopped, signal.SIGSTOP)
    trainings = finish(process, folder)
    assert outcome(folder) == quiet
    assert trainings["lost"] == len(lost(folder)) == 2
    assert f"it ran past its limit of {limit} s" in lost(folder)
    assert not Path(f"/proc/{stopped}").exists(), "nothing stays behind"
    logs = {path.name for path in (folder / "logs").iterdir()}
    assert len(logs) == 2, "what both wrote to their standard error"
    assert f"process {stopped}" in next((folder / "logs").glob(f"*-{stopped}.log")).read_text()


def test_a_network_that_ends_its_worker_and_one_that_hangs(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """os._exit in the 40th step of one training, and 10,000 s of sleep in that of another, on two nodes."""
    faults = tmp_path / "faults"
    faults.mkdir()
    changes: dict[str, Any] = {**CAUGHT, "model": "own_code:Small"}
    quiet = outcome(mddes.search(tiny_config(tmp_path / "quiet", **changes)).run_dir)
    monkeypatch.setenv("OWN_CODE_FAULTS", str(faults))
    nodes.add()
    nodes.add()
    (faults / "1-exit").touch()
    (faults / "2-hang").touch()
    process = start(
        tiny_arguments(tmp_path, **changes, workers="auto", ray_address=nodes.address, time_limit=20.0),
    )
    folder = wait_for_lines(tmp_path, 1, process)
    trainings = finish(process, folder)
    assert not [*faults.iterdir()], "both have happened"
    assert outcome(folder) == quiet
    assert trainings["failed"] == 0
    reasons = lost(folder)
    assert len(reasons) == 2
    assert "it ran past its limit of 20 s" in reasons
    again = [line for line in lines(folder / "evaluations.jsonl") if "lost" in line]
    assert again, "one training, or two, were begun again, and have landed"
    assert all(line["status"] == "done" for line in again)


def test_the_driver_is_killed_and_the_run_goes_on_elsewhere(
    nodes: Nodes, tmp_path: Path, quiet: dict[str, Any]
) -> None:
    """The driver dies with -9; its workers end with it, and another driver, without the cluster, finishes."""
    nodes.add(cpus=2)
    process = search_on(nodes, tmp_path)
    folder = wait_for_lines(tmp_path, 7, process)
    workers = {
        int(line["worker"].rpartition(":")[2]) for line in lines(folder / "evaluations.jsonl")[1:] if "key" in line
    }
    process.kill()
    process.communicate()
    mddes.resume(folder, workers=0, ray_address="local")
    assert outcome(folder) == quiet
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.1)


ONE_COPY = """
import sys, numpy, ray, ray.experimental
from mddes.tasks import Task
from mddes.tasks.ray_pool import RayPool
images = numpy.zeros(30 * 2**20, dtype=numpy.uint8)
with RayPool(4, address=sys.argv[1]) as pool:
    together = {"folder": sys.argv[2], "workers": 4}
    tasks = [Task("cases:look_together", {**together, "number": i}) for i in range(4)]
    records = list(pool.run(tasks, {"images": images}))
    (_, reference), = pool._put.values()
    print(len(ray.experimental.get_object_locations([reference])[reference]["node_ids"]))
    print(len({record["pid"] for record in records}), any(record["writeable"] for record in records))
"""


def test_the_images_travel_once_to_each_node(nodes: Nodes, tmp_path: Path) -> None:
    """Four workers on two nodes: a copy on each, and one where the driver is if that is a third; none is private."""
    nodes.add(cpus=2)
    nodes.add(cpus=2)
    done = subprocess.run(
        [sys.executable, "-c", ONE_COPY, nodes.address, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout in ("2\n4 False\n", "3\n4 False\n")


def test_images_that_do_not_fit_the_cluster_s_store(nodes: Nodes, tmp_path: Path) -> None:
    code = ONE_COPY.replace("30 * 2**20", "300 * 2**20")
    command = [sys.executable, "-c", code, nodes.address, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert "InputError: the images (300 MB) do not fit into Ray's object store (100 MB)" in done.stderr

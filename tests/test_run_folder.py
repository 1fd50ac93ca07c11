"""A run's folder: unique, one driver at a time, and what it ran on."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mddes import InputError
from mddes.tasks.run_folder import LEASE, create, environment, lease
from mddes.writing import replace_file


def test_runs_of_the_same_second_get_their_own_folders(tmp_path: Path) -> None:
    folders = [create(tmp_path / "deep" / "runs", "digits-np1", seed=3) for _ in range(4)]
    assert len(set(folders)) == 4
    assert all(folder.is_dir() for folder in folders)
    assert all(folder.name.startswith("digits-np1-20") and "-s3" in folder.name for folder in folders)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        create(tmp_path / "file", "digits-np1", seed=0)


HOLD = """
import sys, time
from pathlib import Path
from mddes.tasks.run_folder import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """The first driver is another process; kill -9 releases its lease."""
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"is being run by .*, process {first.pid}: wait for it"), lease(tmp_path):
            pass
    finally:
        first.kill()
        first.communicate()
    with lease(tmp_path):
        assert json.loads((tmp_path / LEASE).read_text())["pid"] == os.getpid()
    assert (tmp_path / LEASE).read_text() == ""


def test_a_driver_on_another_machine_counts_while_its_heart_beats(tmp_path: Path) -> None:
    path = tmp_path / LEASE
    path.write_text(json.dumps({"host": f"not-{socket.gethostname()}", "pid": 1}))
    with pytest.raises(InputError, match="is being run by"), lease(tmp_path):
        pass
    os.utime(path, (time.time() - 100, time.time() - 100))
    with lease(tmp_path):
        pass


def test_environment_names_what_results_depend_on() -> None:
    now = environment()
    assert now["libraries"]["torch"]
    assert now["libraries"]["cma"]
    assert now["cpus"] == os.cpu_count()
    json.dumps(now)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    replace_file(path, "first")
    replace_file(path, "second")
    with pytest.raises(TypeError):
        replace_file(path, 3)  # type: ignore[arg-type]
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]

"""A disk that fills up in the middle of a search: one clear line, nothing lost, and it goes on where there is room.

The ledger's own part is in test_tasks.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cases import outcome, tiny_arguments, tiny_config

import mddes
from mddes.cli import main

pytestmark = pytest.mark.slow

FULL_DISK = """
import resource, sys
from mddes.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [300, 2_000, 10_000, 17_000])
def test_a_disk_that_fills_up_stops_the_search_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    """A real limit, met while the configuration, the first generation or a later one is written."""
    quiet = mddes.search(tiny_config(tmp_path / "quiet"))
    assert (quiet.run_dir / "evaluations.jsonl").stat().st_size > 17_000
    command = [sys.executable, "-c", FULL_DISK, str(limit), *tiny_arguments(tmp_path / "full")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "mddes: error: " in done.stderr
    assert "File too large" in done.stderr
    (folder,) = (tmp_path / "full").iterdir()
    if limit > 300:  # else there is not even a configuration
        assert f"to go on: mddes resume {folder}" in done.stderr
        assert outcome(mddes.resume(folder).run_dir) == outcome(quiet.run_dir)


def test_a_small_disk_of_its_own(tmp_path: Path) -> None:
    """A file system that is really full, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    try:
        status = main(tiny_arguments(disk, generations=40, finalists=1, victim_seeds=0))
        assert status == 2
        (folder,) = disk.iterdir()
        moved = tmp_path / "moved"
        shutil.copytree(folder, moved)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    quiet = mddes.search(tiny_config(tmp_path / "quiet", generations=40, finalists=1, victim_seeds=0))
    assert outcome(mddes.resume(moved).run_dir) == outcome(quiet.run_dir)

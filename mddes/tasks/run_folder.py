"""A run's folder: made once, written by one driver at a time, and what it ran on."""

import importlib.metadata
import json
import logging
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

import torch

from mddes.errors import InputError
from mddes.writing import replace_file

log = logging.getLogger(__name__)

LEASE = ".driver.lease"
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0  # a driver on another machine that has been silent for so long is taken for dead
LIBRARIES = ("mddes", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "cma", "ray")


def create(parent: Path, name: str, seed: int) -> Path:
    """Make and return `parent/name-YYYYMMDD-HHMMSS-s<seed>`; a second run in the same second gets a suffix.

    Raises:
        OSError: the folder cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}-s{seed}"
    for suffix in ["", *(f"-{i}" for i in range(2, 1000))]:
        folder = parent / f"{stem}{suffix}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise InputError(f"{parent} holds a thousand runs of this second already")


@contextmanager
def lease(folder: Path) -> Iterator[None]:
    """Hold the folder for this driver: a second one is refused while this one lives.

    On one machine a lock that dies with its process decides; across machines that share the folder, a heartbeat.

    Raises:
        InputError: another driver runs it.
    """
    path = folder / LEASE
    with path.open("a+") as file:
        holder, locked = _holder(path), True
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being run by {_named(holder)}: wait for it, or stop it first") from None
        except OSError:
            locked = False
            log.warning("%s: this file system has no locks; a second driver is noticed by its heartbeat", folder)
        if holder and _beats(path, holder, locked=locked):
            raise InputError(f"{folder} is being run by {_named(holder)}: wait a minute after it has ended")
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        done = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, done), daemon=True)
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()
            file.truncate(0)


def driver(folder: Path) -> str | None:
    """Return host and process of the driver that runs a folder now, None if there is none; nothing is locked."""
    path = folder / LEASE
    holder = _holder(path)
    if holder is None or time.time() - path.stat().st_mtime >= STALE_SECONDS:
        return None
    if holder["host"] == socket.gethostname() and not _exists(holder["pid"]):
        return None
    return _named(holder)


def environment() -> dict[str, Any]:
    """Return versions, hardware and threads: what a result may depend on beside its configuration."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "libraries": {name: _version(name) for name in LIBRARIES},
        "threads": {"torch": torch.get_num_threads()},
        "command": sys.argv,
    }


def save_environment(folder: Path, device: str) -> None:
    """Add this session's environment to a run's environment.json; warn where bit-identity ends."""
    path = folder / "environment.json"
    sessions = read_json(path) or []
    now = {**environment(), "device": device}
    if sessions and any(sessions[0].get(key) != now[key] for key in ("cpu", "libraries", "gpus", "device")):
        log.warning("other libraries or hardware than at the start of this run: the same procedure, not bit for bit")
    write_json(path, [*sessions, now])


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    replace_file(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; None when there is no such file or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _beats(path: Path, holder: dict[str, Any], *, locked: bool) -> bool:
    """Return whether the named holder is alive where the lock does not say so: elsewhere, or here without locks."""
    if locked and holder["host"] == socket.gethostname():
        return False
    return time.time() - path.stat().st_mtime < STALE_SECONDS


def _named(holder: dict[str, Any] | None) -> str:
    return f"{holder['host']}, process {holder['pid']}" if holder else "another process"


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # a file system that is away for a moment; a record that cannot be written says so
            os.utime(path)


def _holder(path: Path) -> dict[str, Any] | None:
    holder = read_json(path)
    return holder if isinstance(holder, dict) and {"host", "pid"} <= holder.keys() else None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

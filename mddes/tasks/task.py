"""A task: a pure function of a JSON spec and shared arrays, and the record it leaves."""

import hashlib
import importlib
import json
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

PROTOCOL = 1  # raised when the same spec would give another result than before

# Flat JSON: key, status "done" or "failed", the task's labels and results; began (Unix time), seconds, worker
# ("host:process"); of a failed one reason and traceback; `lost`, if earlier attempts were lost with their workers.
Record = dict[str, Any]
Shared = Mapping[str, NDArray[Any]]
TaskFunction = Callable[[Mapping[str, Any], Shared, str], Record]


@dataclass(frozen=True)
class Task:
    """What to compute.

    Attributes:
        function: "module:name" of a `TaskFunction`, called with (spec, shared arrays, device).
        spec: JSON; together with the data all that the result depends on.
        data: SHA-256 of the shared arrays.
        labels: JSON that the record repeats (generation, candidate, ...); no part of the identity.
    """

    function: str
    spec: Mapping[str, Any]
    data: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """SHA-256 of function, spec, data and protocol version: equal keys mean equal results."""
        identity = [PROTOCOL, self.function, self.spec, self.data]
        return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def failed(self, reason: str) -> Record:
        """Return the record of a task that could not be finished."""
        return {"key": self.key, "status": "failed", "reason": reason, **self.labels}


def checked_record(line: Record) -> Record:
    """Return the line if it is a record as `execute` and `Task.failed` make them.

    Raises:
        ValueError: it is not.
    """
    known = isinstance(line["key"], str) and line.get("status") in ("done", "failed")
    if not known or (line["status"] == "failed" and not isinstance(line.get("reason"), str)):
        raise ValueError("no record of a task")
    return line


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def execute(task: Task, shared: Shared, device: str) -> Record:
    """Run a task here and return its record. Whatever the task raises or returns, the caller goes on.

    An exception, or a number that is not finite, makes a record of status "failed" with the reason.
    """
    began, started = time.time(), time.perf_counter()
    module, _, name = task.function.partition(":")
    try:
        function: TaskFunction = getattr(importlib.import_module(module), name)
        began, started = time.time(), time.perf_counter()  # without the import, which a worker pays for once
        result = function(task.spec, shared, device)
        for key, value in result.items():
            if not _is_json(value):
                raise ArithmeticError(f"{key} is not finite, or no JSON")
        record = {"key": task.key, "status": "done", **task.labels, **result}
    except Exception as error:  # noqa: BLE001  a candidate's failure is a result: recorded, ranked worst, never raised
        record = task.failed(f"{type(error).__name__}: {' '.join(str(error).split())}")
        record["traceback"] = traceback.format_exc()
    record["began"] = round(began, 3)
    record["seconds"] = round(time.perf_counter() - started, 3)
    record["worker"] = f"{socket.gethostname()}:{os.getpid()}"
    return record

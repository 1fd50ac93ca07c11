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

Record = dict[str, Any]  # flat JSON: key, status "done" or "failed", seconds, worker, the task's labels, its results
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
    started = time.perf_counter()
    module, _, name = task.function.partition(":")
    try:
        result = getattr(importlib.import_module(module), name)(task.spec, shared, device)
        for key, value in result.items():
            if not _is_json(value):
                raise ArithmeticError(f"{key} is not finite, or no JSON")
        record = {"key": task.key, "status": "done", **task.labels, **result}
    except Exception as error:  # noqa: BLE001  a candidate's failure is a result: recorded, ranked worst, never raised
        record = task.failed(f"{type(error).__name__}: {' '.join(str(error).split())}")
        record["traceback"] = traceback.format_exc()
    record["seconds"] = round(time.perf_counter() - started, 3)
    record["worker"] = f"{socket.gethostname()}:{os.getpid()}"
    return record

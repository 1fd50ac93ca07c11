"""The ledger: every finished task and every decision, once, append-only. It is the checkpoint.

One JSON object a line. The first line names the run's identity; lines with a "key" are records of tasks, lines with
an "event" are what a clock or a fault decided. A line is on the disk before `append` returns. A crash can only tear
the last line: its bytes are moved to a side file when the ledger is next opened for writing. To resume a search its
driver asks again and finds the answers here (`search/driver.py`).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mddes.errors import InputError
from mddes.tasks.task import Record, checked_record


@dataclass
class Content:
    """What a ledger file holds: its identity, records by key, events in order, and where a torn tail begins."""

    identity: dict[str, Any] | None = None
    records: dict[str, Record] = field(default_factory=dict)
    events: list[Record] = field(default_factory=list)
    good_bytes: int = 0
    torn: bytes = b""

    def add(self, line: Record) -> None:
        """Take in one line."""
        if self.identity is None:
            self.identity = dict(line["identity"])
        elif "key" in line:
            self.records[line["key"]] = checked_record(line)
        else:
            self.events.append(line | {"event": str(line["event"])})


def read(path: Path) -> Content:
    """Read a ledger without changing it.

    Raises:
        InputError: unreadable, or damaged before its last line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the ledger {path}: {error.strerror}") from error
    content = Content()
    lines = raw.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            parsed = json.loads(line)
            if not isinstance(parsed, dict):
                raise ValueError("no object")
            content.add(parsed)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines) - 1 and not lines[-1]:  # a tear can also leave a newline behind, on some disks
                content.torn = line + b"\n"
                return content
            raise InputError(f"{path} is damaged at line {number}: restore it from a copy, or start anew") from error
        content.good_bytes += len(line) + 1
    content.torn = lines[-1]
    return content


class Ledger:
    """A ledger open for writing, by one driver at a time (`run_folder.Lease`).

    Args:
        path: the file; made when it is not there.
        identity: JSON that defines the run. A ledger of another identity is refused.

    Raises:
        InputError: the ledger belongs to another run, or is damaged.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._content = read(path) if path.exists() else Content()
        _check_same(path, self._content.identity, dict(identity))
        self._file = path.open("ab", buffering=0)
        if self._content.torn:
            with path.with_suffix(".torn").open("ab") as side:
                side.write(self._content.torn + b"\n")
            self._file.truncate(self._content.good_bytes)
        self._size = self._content.good_bytes
        if self._content.identity is None:
            self.append({"event": "run", "identity": dict(identity)})

    @property
    def records(self) -> Mapping[str, Record]:
        """Records of tasks by key; of a task run twice, the later."""
        return self._content.records

    def events(self, name: str) -> list[Record]:
        """Return the events of that name, in order."""
        return [event for event in self._content.events if event.get("event") == name]

    def append(self, line: Record) -> None:
        """Add one line and flush it to the disk; on failure the file ends where it ended before."""
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._size)
            reason = f"{error.strerror}; what was recorded before is safe: make room, then resume"
            raise OSError(error.errno, reason, str(self.path)) from error
        self._size += len(data)
        self._content.add(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _said(identity: Mapping[str, Any], key: str) -> str:
    return repr(identity[key]) if key in identity else "default"


def _check_same(path: Path, recorded: dict[str, Any] | None, asked: dict[str, Any]) -> None:
    if recorded is None or recorded == asked:
        return
    keys = sorted(k for k in recorded.keys() | asked.keys() if recorded.get(k) != asked.get(k))
    changes = ", ".join(f"{k} {_said(recorded, k)} -> {_said(asked, k)}" for k in keys[:5])
    raise InputError(f"{path} belongs to another configuration ({changes}): nothing was changed; start a new run")

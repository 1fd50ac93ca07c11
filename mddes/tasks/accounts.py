"""Who did how much: a run's records added up by worker."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from mddes.tasks.task import Record


@dataclass
class Share:
    """What one worker did: tasks done and failed, and the seconds they took."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass
class Accounts:
    """A run's tasks.

    Attributes:
        done, failed: tasks with a record, by how it ended.
        lost: attempts that were lost with their workers (of tasks that another one finished, or that were given up).
        reasons: why tasks failed, with how often.
        workers: by worker ("host:process"); tasks that were given up belong to none.
    """

    done: int = 0
    failed: int = 0
    lost: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    workers: dict[str, Share] = field(default_factory=dict)

    def __str__(self) -> str:
        hosts = len({name.rpartition(":")[0] for name in self.workers})
        text = f"{self.done} done by {_count(len(self.workers), 'worker')} on {_count(hosts, 'machine')}"
        text += f", {self.failed} failed" if self.failed else ""
        return text + (f", {_count(self.lost, 'attempt')} lost with their workers" if self.lost else "")


def account(records: Iterable[Record]) -> Accounts:
    """Add up the records of a run.

    >>> print(account([{"status": "done", "worker": "host:1", "seconds": 2.0, "lost": ["killed"]}]))
    1 done by 1 worker on 1 machine, 1 attempt lost with their workers
    """
    accounts, reasons = Accounts(), Counter[str]()
    for record in records:
        failed = record["status"] == "failed"
        accounts.done += not failed
        accounts.failed += failed
        accounts.lost += len(record.get("lost", []))
        if failed:
            reasons[record["reason"]] += 1
        if "worker" in record:
            share = accounts.workers.setdefault(record["worker"], Share())
            share.done += not failed
            share.failed += failed
            share.seconds = round(share.seconds + record["seconds"], 3)
    accounts.reasons = dict(reasons.most_common())
    return accounts


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

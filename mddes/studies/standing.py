"""How far a study is, read from its folder without disturbing whoever runs it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mddes.studies.bench import STANDING
from mddes.tasks.accounts import Accounts, account
from mddes.tasks.ledger import Content, read
from mddes.tasks.run_folder import driver, read_json


@dataclass(frozen=True)
class Standing:
    """Where a study stands.

    Attributes:
        run_dir: its folder.
        state: "running"; "stopped", to be resumed; or "finished".
        driver: host and process that run it.
        searches: trainings of each search of its poisons, by its name.
        landed, trainings: victims trained, and how many there will be (None while poisons are still searched for).
        accounts: who trained how much, and what failed.
    """

    run_dir: str
    state: Literal["running", "stopped", "finished"]
    driver: str | None
    searches: dict[str, int]
    landed: int
    trainings: int | None
    accounts: Accounts

    def __str__(self) -> str:
        where = f" by {self.driver}" if self.driver else ""
        planned = "" if self.trainings is None else f" of {self.trainings}"
        rows = [("study", self.run_dir), ("state", self.state + where)]
        rows += [("search", f"{name}: {count} trainings") for name, count in self.searches.items()]
        rows += [("victims", f"{self.landed}{planned}"), ("trainings", str(self.accounts))]
        lines = [f"{name:12}  {text}" for name, text in rows]
        lines += [f"  failed {count} x  {reason}" for reason, count in self.accounts.reasons.items()]
        return "\n".join(lines)


def standing(folder: Path, ledger_name: str) -> Standing:
    """Return where a study stands; nothing in its folder is changed or locked.

    Raises:
        InputError: a damaged ledger.
    """
    path = folder / ledger_name
    content = read(path) if path.exists() else Content()
    searches = {p.parent.name: read(p) for p in sorted((folder / "searches").glob("*/evaluations.jsonl"))}
    planned = read_json(folder / STANDING)
    keys = (
        set(planned["trainings"]) if isinstance(planned, dict) and isinstance(planned.get("trainings"), list) else None
    )
    wanted = [record for key, record in content.records.items() if keys is None or key in keys]
    alive = driver(folder)
    finished = keys is not None and bool(planned.get("finished"))
    everything = [*content.records.values()]
    for search in searches.values():
        everything += search.records.values()
    return Standing(
        run_dir=str(folder),
        state="running" if alive else "finished" if finished else "stopped",
        driver=alive,
        searches={name: len(search.records) for name, search in searches.items()},
        landed=sum(record["status"] == "done" for record in wanted),
        trainings=None if keys is None else len(keys),
        accounts=account(everything),
    )

"""How far a run is, read from its folder without disturbing whoever runs it."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

from mddes.bar import duration
from mddes.config_file import read_config
from mddes.errors import InputError
from mddes.search.config import SearchConfig
from mddes.search.evaluation import check_ledger
from mddes.tasks import Record
from mddes.tasks.accounts import Accounts, account
from mddes.tasks.ledger import Content, read
from mddes.tasks.run_folder import driver, read_json

RECENT = 5  # generations by which the time left is judged


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        run_dir: its folder.
        state: "running"; "stopped", to be resumed; or "finished".
        driver: host and process that run it.
        generation, generations: told so far, and how many there will be.
        landed, trainings: of the generation under way, and how many it has.
        finalists, victims: trainings done beside the search's.
        best, mean: the best fitness so far, and the mean of the last generation told.
        seconds_left: of the search, by its last generations and its budgets; None when it does not run, before its
            first generation and after its last.
        last_landed: Unix time at which a training last landed.
        accounts: who trained how much, and what failed.
    """

    run_dir: str
    state: Literal["running", "stopped", "finished"]
    driver: str | None
    generation: int
    generations: int
    landed: int
    trainings: int
    finalists: int
    victims: int
    best: float | None
    mean: float | None
    seconds_left: float | None
    last_landed: float | None
    accounts: Accounts

    def __str__(self) -> str:
        where = f" by {self.driver}" if self.driver else ""
        fitness = [f"{k} {v:.3f}" for k, v in (("best", self.best), ("mean of the last", self.mean)) if v is not None]
        now = f", {self.landed} of {self.trainings} trainings of the next" if self.generation < self.generations else ""
        rows = [("run", self.run_dir), ("state", self.state + where)]
        rows += [("search", f"{self.generation} of {self.generations} generations{now}")]
        rows += [("fitness", ", ".join(fitness))] if fitness else []
        rows += [("afterwards", f"{self.finalists} trainings of finalists, {self.victims} for the comparison")]
        rows += [("trainings", str(self.accounts))]
        if self.last_landed is not None:
            rows += [("last landed", f"{duration(max(0.0, time.time() - self.last_landed))} ago")]
        if self.seconds_left is not None:
            rows += [("time left", f"about {duration(self.seconds_left)} of the search")]
        lines = [f"{name:12}  {text}" for name, text in rows]
        lines += [f"  failed {count} x  {reason}" for reason, count in self.accounts.reasons.items()]
        width = max((len(name) for name in self.accounts.workers), default=0)
        for name, share in sorted(self.accounts.workers.items()):
            each = share.seconds / max(1, share.done + share.failed)
            lines.append(f"  {name:{width}}  {share.done} done, {share.failed} failed, {each:.1f} s each")
        return "\n".join(lines)


def status(run_dir: str | Path) -> Status:
    """Return where a run stands; nothing in its folder is changed or locked.

    Raises:
        InputError: no run folder, or a damaged one.
    """
    folder = Path(run_dir)
    if not (folder / "config.toml").is_file():
        raise InputError(f"{folder} is no run folder: it has no config.toml")
    config = read_config(folder / "config.toml", SearchConfig)
    ledger, victims = (
        read(path) if path.exists() else Content() for path in (folder / "evaluations.jsonl", folder / "victims.jsonl")
    )
    check_ledger(folder / "evaluations.jsonl", ledger.records.values(), ledger.events)
    told = {event["generation"]: event for event in ledger.events if event.get("event") == "generation"}
    searched = [record for record in ledger.records.values() if record["phase"] == "search"]
    everything = [*ledger.records.values(), *victims.records.values()]
    generations = max(len(told), config.last_generation() if config.popsize else config.generations)
    alive = driver(folder)
    after = len(ledger.records) - len(searched)
    return Status(
        run_dir=str(folder),
        state="running" if alive else "finished" if _finished(folder, config, told) else "stopped",
        driver=alive,
        generation=len(told),
        generations=generations,
        landed=sum(record["generation"] not in told for record in searched),
        trainings=(config.popsize or 0) * config.repeats,
        finalists=after,
        victims=len(victims.records),
        best=max((event["fitness_best"] for event in told.values()), default=None),
        mean=told[max(told)].get("fitness_mean") if told else None,
        seconds_left=_seconds_left(config, told, generations - len(told)) if alive and not after else None,
        last_landed=max((_landed(record) for record in everything if "began" in record), default=None),
        accounts=account(everything),
    )


def _spent(told: dict[int, Record]) -> float:
    return float(sum(event["seconds"] for event in told.values()))


def _seconds_left(config: SearchConfig, told: dict[int, Record], generations: int) -> float | None:
    if not told or not generations:
        return None
    left = generations * float(mean(told[generation]["seconds"] for generation in sorted(told)[-RECENT:]))
    return left if config.wall_clock is None else min(left, max(0.0, config.wall_clock - _spent(told)))


def _finished(folder: Path, config: SearchConfig, told: dict[int, Record]) -> bool:
    """Return whether the summary is of all that the configuration asks for."""
    summary = read_json(folder / "summary.json")
    if not isinstance(summary, dict) or summary.get("generations") != len(told):
        return False
    out_of_time = config.wall_clock is not None and _spent(told) >= config.wall_clock
    return out_of_time or len(told) >= config.last_generation()


def _landed(record: Record) -> float:
    return float(record["began"] + record["seconds"])

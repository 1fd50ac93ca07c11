"""A leaderboard of poisons, from the results of transfer studies; unlike runs are never ranked together.

Results belong together when they have one protocol hash: the same images and recipe. Within a protocol the
poisons of one N_p and one write mode are ranked by the mean clean test accuracy of their victims, the lowest (the
worst for the victim) first, network by network. Neither a copy of a study nor what it was with fewer seeds adds a line.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mddes.errors import InputError
from mddes.studies.findings import RESULTS, as_markdown, percent
from mddes.studies.statistics import Summary


@dataclass(frozen=True)
class Entry:
    """One poison on one network, from one study."""

    protocol: str
    dataset: str
    model: str
    poison: str
    pixels: int | None
    mode: str | None
    search_trainings: int
    accuracies: tuple[float, ...]
    n: str
    summary: Summary
    source: str


def read_results(folders: Iterable[str | Path]) -> list[Entry]:
    """Return the entries of transfer studies in these folders; a folder of several is searched, one level deep.

    Raises:
        InputError: a folder without results, or results that cannot be read.
    """
    entries: list[Entry] = []
    for name in folders:
        folder = Path(name)
        paths = [folder / RESULTS] if (folder / RESULTS).exists() else sorted(folder.glob(f"*/{RESULTS}"))
        if not paths:
            raise InputError(f"{folder} holds no results of a study: no {RESULTS} there, or one level below")
        for path in paths:
            entries += _entries(path)
    if not entries:
        raise InputError("there is no transfer study among these results")
    return entries


def _entries(path: Path) -> list[Entry]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["study"] != "transfer":
            return []
        protocol = str(content["protocol_hash"])
        return [
            Entry(
                protocol=protocol,
                dataset=str(row["dataset"]),
                model=str(row["model"]),
                poison=str(row["poison"]),
                pixels=None if row["pixels"] is None else int(row["pixels"]),
                mode=row["mode"],
                search_trainings=int(row.get("search_trainings") or 0),
                accuracies=tuple(float(accuracy) for accuracy in row["accuracies"]),
                n=_count(row),
                summary=_summary(row),
                source=path.parent.name,
            )
            for row in content["rows"]
            if row["accuracies"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read results from {path}: {error}") from error


def _count(row: Mapping[str, Any]) -> str:
    """Return of how many trainings a row is, and of how many searches where there are several."""
    return f"{row['n']}, of {row['searches']} searches" if row.get("searches") else str(row["n"])


def _summary(row: Mapping[str, Any]) -> Summary:
    """Return the study's own summary: an interval of several searches is not that of so many networks."""
    mean, std, low, high = (row[f"clean_test_accuracy_{name}"] for name in ("mean", "std", "low", "high"))
    numbers = [None if number is None else float(number) for number in (std, low, high)]
    return Summary(int(row["n"]), float(mean), *numbers)


def ranked(entries: Sequence[Entry]) -> dict[str, list[list[Entry]]]:
    """Return, for each protocol, groups of one network, one N_p and one mode, each with the lowest accuracy first.

    Clean training and other people's images, which have no N_p, stand in a group of their own.
    """
    groups: dict[tuple[str, str, int, str], list[Entry]] = defaultdict(list)
    for entry in _once(entries):
        mode = "" if entry.pixels is None else entry.mode or ""
        groups[entry.protocol, entry.model, entry.pixels or 0, mode].append(entry)
    board: dict[str, list[list[Entry]]] = defaultdict(list)
    for (protocol, *_), own in sorted(groups.items()):
        board[protocol].append(sorted(own, key=lambda entry: entry.summary.mean))
    return dict(board)


def _once(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries but those whose networks are the first of another's: copies, and studies with fewer seeds."""
    kept: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: -len(entry.accuracies)):
        of_it = [other.accuracies for other in kept if _row_of(other) == _row_of(entry)]
        if not any(longer[: len(entry.accuracies)] == entry.accuracies for longer in of_it):
            kept.append(entry)
    return kept


def _row_of(entry: Entry) -> tuple[object, ...]:
    return entry.protocol, entry.model, entry.poison, entry.pixels, entry.mode


def as_text(board: Mapping[str, Sequence[Sequence[Entry]]]) -> str:
    """Return the leaderboard as Markdown."""
    parts = ["# Leaderboard", "Clean test accuracy of victims in percent; the poison that costs most comes first."]
    for protocol, groups in board.items():
        parts.append(f"## Protocol {protocol}: {groups[0][0].dataset}")
        for group in groups:
            rows = [_row(rank, entry) for rank, entry in enumerate(group, start=1)]
            pixels = "no N_p" if group[0].pixels is None else f"N_p = {group[0].pixels}, {group[0].mode}"
            parts += [f"### {group[0].model}, {pixels}", as_markdown(rows)]
    return "\n\n".join(parts) + "\n"


def _row(rank: int, entry: Entry) -> dict[str, str]:
    s: Any = entry.summary
    interval = "" if s.low is None else f"{100 * s.low:.1f} to {100 * s.high:.1f}"
    return {
        "rank": str(rank),
        "poison": entry.poison,
        "mode": entry.mode or "",
        "accuracy": percent(s),
        "95 % interval": interval,
        "n": entry.n,
        "trainings of its search": str(entry.search_trainings or ""),
        "study": entry.source,
    }

"""The page of a folder of runs: each with its finding and a link, and runs of one protocol side by side."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any
from urllib.parse import quote

from mddes.report.page import Link, Page, Part, Section, Table

ROWS = ("clean", "uniform", "found")


@dataclass(frozen=True)
class Run:
    """What the index knows of a run.

    Attributes:
        name: of its folder.
        kind: "search", or "study" and its name.
        title, state, answer: of its page.
        report: the page's file name, beside the index in the run's folder.
        protocol: what two runs must agree on to stand side by side.
        seed: of the run; a copy of one, or a second run of the same seed, is no second search.
        accuracies: of a search that has ended: mean clean test accuracy by row.
    """

    name: str
    kind: str
    title: str
    state: str
    answer: str
    report: str
    protocol: str
    seed: int = 0
    accuracies: Mapping[str, float] = field(default_factory=dict)


def index_page(folder_name: str, runs: Sequence[Run], damaged: Sequence[str]) -> Page:
    """Return the page of a folder of runs; `damaged` says of which no report could be made, and why."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.protocol].append(run)
    rows = [{"run": r.name, "what": r.kind, "state": r.state, "finding": r.answer} for r in runs]
    sections = [
        Section("Reports", [Link([(f"{run.name}: {run.title}", f"./{quote(run.name)}/{run.report}") for run in runs])]),
        Section("Runs of one protocol", _side_by_side(groups)),
        Section("All runs", [Table(rows)]),
    ]
    unfinished = sum(run.state != "finished" for run in runs)
    told = f"{len(runs)} runs, {unfinished} of them not finished." if unfinished else f"{len(runs)} runs, all finished."
    return Page(
        title=f"Runs in {folder_name}",
        answer=[told],
        sections=[section for section in sections if section.parts],
        banner=[f"No report of {text}" for text in damaged],
    )


def _side_by_side(groups: Mapping[str, Sequence[Run]]) -> list[Part]:
    """Return a table for every protocol of which there are several judged searches."""
    parts: list[Part] = []
    for protocol, runs in groups.items():
        judged = [*{run.seed: run for run in runs if run.accuracies}.values()]
        if len(judged) < 2:
            continue
        rows = [{"run": run.name, **{row: _percent(run.accuracies.get(row)) for row in ROWS}} for run in judged]
        spread: dict[str, Any] = {"run": f"mean ± sd between {len(judged)} searches"}
        for row in ROWS:
            known = [100 * run.accuracies[row] for run in judged if row in run.accuracies]
            spread[row] = f"{mean(known):.1f} ± {stdev(known):.1f}" if len(known) > 1 else ""
        parts.append(Table([*rows, spread], f"Clean test accuracy (%), means over networks; {protocol}"))
    return parts


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"

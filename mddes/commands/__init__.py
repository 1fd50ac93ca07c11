"""The commands: each file declares a command's arguments, makes one call of the package, and prints what came of it.

A command is a function (arguments, running): it appends the folder of a run that it begins to `running`, so that
whatever ends it, the command line can say how to go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mddes.commands import baseline, datasets, gradcam, leaderboard, poison, report, resume, search, status, study


@dataclass(frozen=True)
class Command:
    """What a command is for, in a line, and what runs it."""

    summary: str
    run: Callable[[list[str], list[Path]], None]


COMMANDS = {
    "search": Command("find the class-wise pixels that mislead a network most", search.run),
    "resume": Command("continue, extend or move a search from its folder", resume.run),
    "study": Command("train victims under poisons, and say what they show", study.run),
    "gradcam": Command("show where a network looks that was trained on a poison", gradcam.run),
    "status": Command("say how far a run is, who is training, and what failed", status.run),
    "baseline": Command("write a rival's perturbation: uniform, left column, one-pixel shortcut", baseline.run),
    "poison": Command("write a poisoned training set as npz, PNG or torch files", poison.run),
    "report": Command("write a run's report: one HTML file, or Markdown", report.run),
    "leaderboard": Command("rank poisons, from the results of transfer studies", leaderboard.run),
    "datasets": Command("list the named data sets and where they are", datasets.run),
}

"""`mddes leaderboard`: poisons ranked, from the results of transfer studies."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from mddes.arguments import parse
from mddes.errors import InputError
from mddes.studies.leaderboard import as_text, ranked, read_results
from mddes.writing import replace_file


@dataclass(frozen=True, kw_only=True)
class LeaderboardCommand:
    """Rank poisons by what they cost their victims, from the results of transfer studies.

    Only results of one protocol (the same images and recipe, by hash) are ranked together.

    Example: mddes leaderboard runs
    """

    runs: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="FOLDER")] = ()
    """Folders of studies, or folders that hold them."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the Markdown to this file too; it must not exist."""


def run(rest: list[str], _running: list[Path]) -> None:
    """Run the command."""
    parsed = parse(LeaderboardCommand, "mddes leaderboard", rest)
    if not parsed.runs:
        raise InputError("name at least one folder of a study (see mddes leaderboard --help)")
    if parsed.out is not None and Path(parsed.out).exists():
        raise InputError(f"{parsed.out} exists already: name another file with --out")
    text = as_text(ranked(read_results(parsed.runs)))
    if parsed.out is not None:
        replace_file(parsed.out, text)
    sys.stdout.write(text)

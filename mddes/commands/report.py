"""`mddes report`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from mddes.arguments import parse
from mddes.pages import write_report


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write a run's report: one HTML file to send to a colleague, which needs no network; or Markdown.

    Of a folder of several runs it writes each one's report, and an index that sets runs of one protocol side by side.
    A run that is not finished, or of which trainings failed, says so at the top.

    Example: mddes report runs/digits-np5-20261121-101500-s0
    """

    run: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """A search's folder, a study's, or one that holds several."""
    format: Literal["html", "md"] = "html"
    """One self-contained HTML file, or Markdown without pictures."""


def run(rest: list[str], _running: list[Path]) -> None:
    """Run the command."""
    parsed = parse(ReportCommand, "mddes report", rest)
    sys.stdout.write(f"{write_report(parsed.run, format=parsed.format)}\n")

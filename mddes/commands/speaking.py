"""What commands say beside their results: on standard error, a line each."""

import shlex
import sys
from pathlib import Path


def say(text: str) -> None:
    """Write one line."""
    sys.stderr.write(f"mddes: {text}\n")


def resume_command(folder: Path) -> str:
    """Return the command that continues a run."""
    return f"mddes resume {shlex.quote(str(folder))}"


def say_how_to_resume(running: list[Path]) -> None:
    """Say how the run that was begun, if any, goes on."""
    if running:
        say(f"to go on: {resume_command(running[-1])}")

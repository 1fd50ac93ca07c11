"""The command line: arguments become one call of a command of `commands/`.

Exit status 0 on success, 2 on a user's mistake (one line on standard error), 130 on Ctrl-C (with the command that
resumes). Results go to standard output; progress and warnings to standard error.
"""

import io
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mddes.commands import COMMANDS
from mddes.commands.speaking import say, say_how_to_resume
from mddes.errors import InputError, RunStopped, look_up
from mddes.version import __version__

PATIENCE_SECONDS = 15.0  # a second Ctrl-C within this time is ignored: workers are being ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    logging.basicConfig(level=logging.WARNING, format="mddes: %(message)s", stream=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without ± is no reason to fail at the end
    given = list(sys.argv[1:] if arguments is None else arguments)
    running: list[Path] = []
    interrupt = _Interrupt()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # a shell lets its background jobs ignore Ctrl-C
            signal.signal(number, interrupt)
    try:
        return _dispatch(given, running)
    except (InputError, RunStopped) as error:
        say(f"error: {error}")
        say_how_to_resume(running if isinstance(error, RunStopped) else [])
        return 2
    except BrokenPipeError:  # `mddes ... | head`: whoever read has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        say(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        say_how_to_resume(running)
        return 2
    except KeyboardInterrupt:
        say("stopped; nothing that finished is lost")
        say_how_to_resume(running)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _dispatch(given: list[str], running: list[Path]) -> int:
    if not given or given[0] in ("-h", "--help"):
        sys.stdout.write(_overview())
        return 0 if given else 2
    if given[0] == "--version":
        sys.stdout.write(f"mddes {__version__}\n")
        return 0
    command, rest = given[0], given[1:]
    look_up("command", command, COMMANDS).run(rest, running)
    return 0


def _overview() -> str:
    rows = "".join(f"  mddes {name:12} {command.summary}\n" for name, command in COMMANDS.items())
    return (
        f"mddes {__version__}: evolutionary data poisoning by maximum domain divergence (MDD-ES)\n\n{rows}\n"
        "`mddes COMMAND --help` explains a command's options. A first run: mddes search\n"
    )


class _Interrupt:
    """Ctrl-C, and a scheduler's farewell (SIGTERM), end the run cleanly; more of them do not spoil the ending."""

    def __init__(self) -> None:
        self._since: float | None = None

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None or now - self._since > PATIENCE_SECONDS:
            self._since = now
            raise KeyboardInterrupt

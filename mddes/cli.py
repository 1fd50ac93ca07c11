"""The command line: arguments become one call of `mddes.search`, `mddes.resume` or `mddes.plan`.

Exit status 0 on success, 2 on a user's mistake (one line on standard error), 130 on Ctrl-C (with the command that
resumes). Results go to standard output; progress and warnings to standard error.
"""

import dataclasses
import io
import json
import logging
import os
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mddes.api import SearchResult, resume, search
from mddes.arguments import DatasetsCommand, ResumeCommand, StatusCommand, parse, parse_search
from mddes.bar import Bar, duration
from mddes.data import DATASETS
from mddes.data.sources import CACHE
from mddes.errors import InputError, RunStopped, look_up
from mddes.plan import Plan, plan
from mddes.status import status
from mddes.version import __version__

PATIENCE_SECONDS = 15.0  # a second Ctrl-C within this time is ignored: workers are being ended

COMMANDS = {
    "search": "find the class-wise pixels that mislead a network most",
    "resume": "continue, extend or move a search from its folder",
    "status": "say how far a run is, who is training, and what failed",
    "datasets": "list the named data sets and where they are",
}


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
        _say(f"error: {error}")
        _say_how_to_resume(running if isinstance(error, RunStopped) else [])
        return 2
    except OSError as error:
        _say(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        _say_how_to_resume(running)
        return 2
    except KeyboardInterrupt:
        _say("stopped; nothing that finished is lost")
        _say_how_to_resume(running)
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
    run = {"search": _search, "resume": _resume, "status": _status, "datasets": _datasets}
    look_up("command", command, run)(rest, running)
    return 0


def _search(rest: list[str], running: list[Path]) -> None:
    config, only_plan = parse_search(rest)
    if only_plan:
        _print_plan(plan(config))
        return

    def started(folder: Path) -> None:
        running.append(folder)
        _say(f"run folder: {folder}")

    with Bar() as bar:
        result = search(config, on_progress=bar, on_folder=started)
    _print_result(result)


def _resume(rest: list[str], running: list[Path]) -> None:
    parsed = parse(ResumeCommand, "mddes resume", rest)
    changes = {k: v for k, v in dataclasses.asdict(parsed).items() if k != "run"}
    changes["tensorboard"] = parsed.tensorboard or None  # left out, it stays as it was
    running.append(Path(parsed.run))
    with Bar() as bar:
        result = resume(parsed.run, **changes, on_progress=bar)
    _print_result(result)


def _status(rest: list[str], _running: list[Path]) -> None:
    parsed = parse(StatusCommand, "mddes status", rest)
    now = status(parsed.run)
    sys.stdout.write(json.dumps(dataclasses.asdict(now), indent=1) + "\n" if parsed.json else f"{now}\n")


def _datasets(rest: list[str], _running: list[Path]) -> None:
    given = parse(DatasetsCommand, "mddes datasets", rest).data_dir or os.environ.get("MDDES_DATA")
    folder = Path(given or CACHE).expanduser()
    for name, source in DATASETS.items():
        there = all((folder / file).exists() for file in source.files)
        place = f"in {folder}" if there else f"not in {folder}" if given else f"will be downloaded to {folder}"
        sys.stdout.write(f"{name:14} {source.summary}\n{'':14} {place if source.files else 'no files needed'}\n")
        sys.stdout.write(f"{'':14} cite: {source.cite}\n")
    sys.stdout.write(
        "\nAlso: any .npz with train_images, train_labels, test_images, test_labels (uint8 N x C x H x W),\n"
    )
    sys.stdout.write("and any folder with train/<class>/* and test/<class>/*.\n")


def _overview() -> str:
    rows = "".join(f"  mddes {name:10} {summary}\n" for name, summary in COMMANDS.items())
    return (
        f"mddes {__version__}: evolutionary data poisoning by maximum domain divergence (MDD-ES)\n\n{rows}\n"
        "`mddes COMMAND --help` explains a command's options. A first run: mddes search\n"
    )


def _print_plan(it: Plan) -> None:
    total = it.search_trainings + it.finalist_trainings + it.victim_trainings
    sys.stdout.write(
        f"search dimension   {it.dimension}\n"
        f"lambda             {it.popsize} candidates a generation\n"
        f"trainings          {total}: {it.search_trainings} in the search, {it.finalist_trainings} of finalists, "
        f"{it.victim_trainings} for the comparison on test images\n"
        f"steps a training   {it.steps}\n"
        f"seconds a training {min(it.timed):.2f} (timed twice: {it.timed[0]:.2f}, {it.timed[1]:.2f})\n"
        f"memory             about {it.megabytes} MB a worker, {it.megabytes * it.workers} MB for {it.workers}\n"
        f"time               about {duration(it.seconds)} on {it.workers} worker(s), after they have started\n"
    )


def _print_result(result: SearchResult) -> None:
    write = sys.stdout.write
    ended = {"generations": "generations", "evaluations": "trained candidates", "wall_clock": "time"}[result.stopped_by]
    write(f"\n{result.evaluations} candidates in {result.generations} generations (the budget of {ended} is spent)\n\n")
    write("finalists (fitness)               in the search   on fresh seeds, mean ± sd\n")
    for finalist in result.finalists:
        single = "-" if finalist.search_fitness is None else f"{finalist.search_fitness:.3f}"
        write(f"  {finalist.source:30}  {single:>13}   {_spread(finalist.fresh)}\n")
    write(f"the winner is the first: {result.finalists[0].source}\n\n")
    if result.rows:
        write("trained on    clean test accuracy\n")
        for row in result.rows:
            write(f"  {row.name:10}  {row!s:14} (n = {len(row.accuracies)})\n")
        write("\n")
    write(f"{result.sentence}\n\n")
    write(f"trainings     {result.accounts}\n")
    write(f"perturbation  {result.run_dir / 'perturbation.json'}\n")
    write(f"figures       {result.run_dir / 'figures'}\n")
    larger = {"generations": 2 * result.generations, "evaluations": 2 * result.evaluations, "wall_clock": "SECONDS"}
    option = f"--{result.stopped_by.replace('_', '-')} {larger[result.stopped_by]}"
    write(f"to extend     {_resume_command(result.run_dir)} {option}\n")


def _spread(values: Sequence[float]) -> str:
    """Return mean ± sd (n) of some values."""
    if len(values) < 2:
        return f"{values[0]:.3f} (n = 1)" if values else "not trained again"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} (n = {len(values)})"


def _resume_command(folder: Path) -> str:
    return f"mddes resume {shlex.quote(str(folder))}"


def _say_how_to_resume(running: list[Path]) -> None:
    if running:
        _say(f"to go on: {_resume_command(running[-1])}")


def _say(text: str) -> None:
    sys.stderr.write(f"mddes: {text}\n")


class _Interrupt:
    """Ctrl-C, and a scheduler's farewell (SIGTERM), end the run cleanly; more of them do not spoil the ending."""

    def __init__(self) -> None:
        self._since: float | None = None

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None or now - self._since > PATIENCE_SECONDS:
            self._since = now
            raise KeyboardInterrupt

"""What a person sees while a run goes on: a bar on a terminal, a line per generation in a log file."""

import sys
import time
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

from mddes.search.progress import Progress

NAMES = {"search": "search", "finalists": "finalists on fresh seeds", "victims": "victims on test images"}


class Bar:
    """Shows a run's `Progress`; call it with each."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._last: Progress | None = None
        self._since = time.monotonic()
        self._trained = False  # whether a generation of this session has been trained

    def __call__(self, now: Progress) -> None:
        """Show where the run stands."""
        last, self._last = self._last, now
        if last is None or now.phase != last.phase:
            self._close()
            name = NAMES[now.phase]
            self._bar = tqdm(total=now.total, desc=name, unit="net", file=sys.stderr, disable=None, dynamic_ncols=True)
            if self._bar.disable:
                sys.stderr.write(f"mddes: {name}: {now.total} trainings\n")
        assert self._bar is not None
        self._bar.set_postfix_str(_numbers(now), refresh=False)
        self._bar.update(now.done - self._bar.n)
        if self._bar.disable and now.ends_generation:
            self._say_generation(now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _say_generation(self, now: Progress) -> None:
        assert now.generation is not None
        took, self._since = time.monotonic() - self._since, time.monotonic()
        remaining = now.generations - now.generation - 1
        timed = self._trained and remaining  # the first generation also waits for workers to start
        left = f", about {duration(took * remaining)} of the search left" if timed else ""
        self._trained = self._trained or not now.replayed
        sys.stderr.write(f"mddes: {_numbers(now)}{left}\n")


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _numbers(now: Progress) -> str:
    if now.generation is None:
        return ""
    fitness = "".join(f", {k} {v:.3f}" for k, v in (("best", now.best), ("mean", now.mean)) if v is not None)
    return f"{now.generation + now.ends_generation}/{now.generations} generations{fitness}"

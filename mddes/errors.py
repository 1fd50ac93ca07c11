"""What a user got wrong, said in one line.

The command line turns an `InputError` into one line on standard error and exit status 2. Every other exception is
ours, and keeps its traceback; `RunStopped` alone stands between the two.
"""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """A mistake in what the user gave: the message names the value and says what would be right."""


class RunStopped(RuntimeError):
    """A run cannot go on here and now; what it has finished is safe, and it can be resumed."""


def look_up(what: str, name: str, table: Mapping[str, T]) -> T:
    """Return `table[name]`, or raise an `InputError` that lists the known names.

    >>> look_up("optimizer", "adam", {"adam": 1, "sgd": 2})
    1
    >>> look_up("optimizer", "adm", {"adam": 1, "sgd": 2})
    Traceback (most recent call last):
    mddes.errors.InputError: unknown optimizer 'adm' (did you mean 'adam'?); known: adam, sgd
    """
    if isinstance(name, str) and name in table:
        return table[name]
    near = difflib.get_close_matches(str(name), table, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InputError(f"unknown {what} {name!r}{hint}; known: {', '.join(table)}")

"""A user's own network or optimizer, named "module:function", and pinned to the text of its file.

A run that is continued, or a worker on another machine, must not train another network under the same name: a
resolved configuration says "module:function#digest", and what is loaded under that name must have that digest. Only
the module's own file is looked at, not what it imports.
"""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mddes.errors import InputError

DIGITS = 16


def is_own(name: str) -> bool:
    """Return whether a name is of the form "module:function"."""
    return ":" in name


def pin(what: str, name: str) -> str:
    """Return the name with the digest of the file that it stands for today; a pinned name is checked and returned.

    Raises:
        InputError: as `load`.
    """
    load(what, name)
    bare, _, pinned = name.partition("#")
    return name if pinned else f"{bare}#{_digest(bare.partition(':')[0])}"


def load(what: str, name: str) -> Callable[..., Any]:
    """Return the function that "module:function" or "module:function#digest" names; `what` is for the message.

    The module is looked for as Python does, and in the working directory.

    Raises:
        InputError: no such module or function, or its file is another than the one it was pinned to.
    """
    bare, _, pinned = name.partition("#")
    module_name, _, attribute = bare.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        raise InputError(f"a {what} of your own is named package.module:function, not {name!r}")
    function: Callable[..., Any] | None = getattr(_module(what, module_name), attribute, None)
    if not callable(function):
        raise InputError(f"{what} {name!r}: {module_name} has no function {attribute!r}")
    if pinned and _digest(module_name) != pinned:
        raise InputError(
            f"{what} {bare!r} is not what it was when this run began: {module_name} has changed, or is another one here"
        )
    return function


def _module(what: str, name: str) -> Any:
    here = os.getcwd()  # noqa: PTH109  as Python itself puts it into sys.path
    if here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's module raises, it is one line
        raise InputError(f"cannot import {name!r}, named as {what}: {type(error).__name__}: {error}") from error


def _digest(module_name: str) -> str:
    origin = getattr(sys.modules[module_name], "__file__", None)
    if origin is None:
        raise InputError(f"{module_name} has no file that a run could be pinned to: name a module of your own")
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest()[:DIGITS]

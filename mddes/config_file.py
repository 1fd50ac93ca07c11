"""Settings as TOML: flat `name = value` lines, every name checked."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from mddes.errors import InputError, look_up
from mddes.writing import replace_file

T = TypeVar("T")


def read_config(path: str | Path, kind: type[T]) -> T:
    """Read a whole configuration of a dataclass; what the file does not name has its default.

    Raises:
        InputError: unreadable, not TOML, an unknown key, or a value out of range.
    """
    try:
        return kind(**read_settings(path, kind))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None


def read_settings(path: str | Path, kind: type[Any]) -> dict[str, Any]:
    """Return the settings of a dataclass that a file names.

    Raises:
        InputError: unreadable, not TOML, or an unknown key.
    """
    settings = read_toml(path)
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in settings:
        try:
            look_up("key", name, known)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return settings


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        InputError: unreadable, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the configuration {path}: {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error


def save_config(settings: Mapping[str, Any], path: str | Path) -> None:
    """Write settings; those that are None are left out."""
    replace_file(path, tomli_w.dumps({name: value for name, value in settings.items() if value is not None}))

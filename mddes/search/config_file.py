"""Search configurations as TOML: flat `name = value` lines, every name checked."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from mddes.errors import InputError, look_up
from mddes.search.config import SearchConfig
from mddes.writing import replace_file


def read_config(path: str | Path) -> SearchConfig:
    """Read a whole configuration; what the file does not name has its default.

    Raises:
        InputError: unreadable, not TOML, an unknown key, or a value out of range.
    """
    try:
        return SearchConfig(**read_settings(path))
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings that a file names.

    Raises:
        InputError: unreadable, not TOML, or an unknown key.
    """
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the configuration {path}: {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error
    known = {field.name: field for field in dataclasses.fields(SearchConfig)}
    for name in settings:
        try:
            look_up("key", name, known)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return settings


def save_config(config: SearchConfig, path: str | Path) -> None:
    """Write a configuration; settings that are None are left out."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    replace_file(path, tomli_w.dumps(settings))

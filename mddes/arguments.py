"""How a command's arguments are parsed: tyro reads the declarations of `commands/`, and what is wrong is one line."""

import argparse
import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from mddes.config_file import read_settings
from mddes.errors import InputError, look_up

T = TypeVar("T")


def given_first(arguments: Sequence[str], presets: Mapping[str, Mapping[str, Any]], kind: type[Any]) -> dict[str, Any]:
    """Return the settings that --preset and --config give, before any option overrides them.

    Raises:
        InputError: an unknown preset, or a file that cannot be read or says something that is wrong.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--config")
    early.add_argument("--preset")
    settings: dict[str, Any] = {}
    with contextlib.suppress(argparse.ArgumentError):  # a missing value is for the real parser to report
        first, _ = early.parse_known_args(arguments)
        if first.preset:
            settings |= look_up("preset", first.preset, presets)
        if first.config:
            settings |= read_settings(first.config, kind)
    kind(**settings)  # a mistake in the file is said in the file's words
    return settings


REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _words_and_numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Show `int | None` as INT and `Literal["auto"] | int` as auto|INT: an option is left out to mean none."""
    parts = [part for part in get_args(info.type) if part is not NoneType]
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    kinds = [part for part in parts if get_origin(part) is not Literal]
    if get_origin(info.type) not in (Union, UnionType) or len(kinds) > 1 or {*kinds} - {int, float, str}:
        return None

    def read(given: list[str]) -> Any:
        if given[0] in words:
            return given[0]
        for kind in kinds:
            try:
                return kind(given[0])
            except ValueError:
                break
        numbers = {int: "a whole number", float: "a number", str: "a text"}
        raise ValueError(f"it is {' or '.join([*words, *(numbers[kind] for kind in kinds)])}, not {given[0]!r}")

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join([*words, *(kind.__name__.upper() for kind in kinds)]),
        instance_from_str=read,
        is_instance=lambda value: value is None or value in words or isinstance(value, tuple(kinds)),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


def parse(kind: type[T], program: str, arguments: Sequence[str], default: T | None = None) -> T:
    """Parse with tyro; its framed error message becomes one line."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            if default is None:
                return tyro.cli(kind, prog=program, args=arguments, registry=REGISTRY)
            return tyro.cli(kind, prog=program, args=arguments, default=default, registry=REGISTRY)
    except SystemExit as stop:
        if not stop.code:
            raise
        text = _first_paragraph(errors.getvalue())
        raise InputError(f"{text} (see {program} --help)") from None


def _first_paragraph(framed: str) -> str:
    """Return what tyro says first under a message's title: the frame is drawn with lines, or with - where it must."""
    _, *lines = (line.strip("│╭╮╰╯ ") for line in framed.strip().splitlines())
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if re.fullmatch("[─-]+", line):
            paragraphs.append([])
        elif line:
            paragraphs[-1].append(line)
    return " ".join(next(filter(None, paragraphs), [framed.strip()]))

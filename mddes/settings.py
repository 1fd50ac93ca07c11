"""Settings checked field by field: names, types, ranges; whoever made the mistake, a file, an option or a caller."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mddes.errors import InputError, look_up


@dataclass(frozen=True)
class Ranges:
    """The least and the most that numbers may be; None is always allowed, a tuple's numbers are each checked."""

    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    above_zero: Sequence[str] = ()


def check_settings(settings: Any, choices: Mapping[str, Mapping[str, Any]], ranges: Ranges) -> None:
    """Check a frozen dataclass of settings against its annotations, its named choices and its ranges.

    Lists, as a file has them, become tuples where the annotation says so.

    Raises:
        InputError: the first thing that does not fit, with its name and value.
    """
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if get_origin(hint) is tuple and isinstance(value, list):
            value = tuple(value)
            object.__setattr__(settings, name, value)
        if name in choices and isinstance(value, str):
            look_up(name, value, choices[name])
        elif not _fits(value, hint):
            raise InputError(f"{name} must be {_spoken(hint)}, not {value!r}")
        for number in _numbers(value):
            if not math.isfinite(number):
                raise InputError(f"{name} must be finite, not {number}")
    _check_ranges(settings, ranges)


def check_each_once(what: str, names: Sequence[object]) -> None:
    """Raise an `InputError` unless something is named, and nothing twice."""
    if not names:
        raise InputError(f"{what}: name at least one")
    if len({*names}) < len(names):
        raise InputError(f"{what} name one twice: {', '.join(map(str, names))}")


def _check_ranges(settings: Any, ranges: Ranges) -> None:
    names = {field.name for field in dataclasses.fields(settings)}
    for name, least in ranges.at_least.items():
        if wrong := [number for number in _numbers(getattr(settings, name)) if number < least]:
            raise InputError(f"{name} must be at least {least}, not {wrong[0]}")
    for name, most in ranges.at_most.items():
        if wrong := [number for number in _numbers(getattr(settings, name)) if number > most]:
            raise InputError(f"{name} must be at most {most}, not {wrong[0]}")
    for name in ranges.above_zero:
        if wrong := [number for number in _numbers(getattr(settings, name)) if number <= 0]:
            raise InputError(f"{name} must be above 0, not {wrong[0]}")
    assert {*ranges.at_least, *ranges.at_most, *ranges.above_zero} <= names


def _numbers(value: object) -> list[float]:
    """Return the numbers in a value: itself, or those of a tuple; True and False are none."""
    parts = value if isinstance(value, tuple) else (value,)
    return [part for part in parts if isinstance(part, int | float) and not isinstance(part, bool)]


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value has the annotated type; whole numbers pass for float, True and False for no number."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(part, get_args(hint)[0]) for part in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _spoken(hint: Any) -> str:
    """Return an annotation in words."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_spoken(part) for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {_spoken(get_args(hint)[0])}"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[hint]

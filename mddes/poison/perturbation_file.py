"""The text of a perturbation file: JSON with a version, one line for each class.

`change` is the dictionary of `Perturbation.change`; its numbers are checked by `Perturbation` itself.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mddes.errors import InputError

T = TypeVar("T")

FORMAT, VERSION = "mddes-perturbation", 1


def to_text(change: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Return the file's text."""
    head = {"format": FORMAT, "version": VERSION, "mode": change["mode"], "image_shape": change["image_shape"]}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    classes = []
    for k, triple in enumerate(zip(change["rows"], change["cols"], change["values"], strict=True)):
        pixels = [{"row": row, "col": col, "value": value} for row, col, value in zip(*triple, strict=True)]
        classes.append("  " + json.dumps({"class": k, "pixels": pixels}))
    lines.append(' "classes": [\n' + ",\n".join(classes) + "\n ]")
    lines.append(f' "provenance": {json.dumps(dict(provenance), indent=2, allow_nan=False)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def as_rows(change: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row of text for each class: where it writes, and what.

    >>> as_rows({"rows": [[0, 2]], "cols": [[1, 3]], "values": [[[255], [7]]]})
    [{'class': '0', 'row, column': '0, 1; 2, 3', 'value': '255; 7'}]
    """
    return [
        {
            "class": str(k),
            "row, column": "; ".join(f"{row}, {col}" for row, col in zip(rows, cols, strict=True)),
            "value": "; ".join(" ".join(map(str, value)) for value in values),
        }
        for k, (rows, cols, values) in enumerate(zip(change["rows"], change["cols"], change["values"], strict=True))
    ]


def read(path: str | Path, build: Callable[[dict[str, Any], dict[str, Any]], T]) -> T:
    """Return `build(change, provenance)` of a file.

    Raises:
        InputError: no such file, not JSON, another format or version, or numbers that do not fit.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read a perturbation from {path}: {error}") from error
    try:
        return build(*from_text(text))
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
        detail = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is no valid perturbation file: {detail}") from error


def from_text(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (change, provenance) of a file's text.

    Raises:
        InputError: another format or version, or a structure that does not fit.
        KeyError, TypeError, ValueError, RecursionError: text that is no such JSON at all.
    """
    content = json.loads(text, parse_constant=_refuse)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'it does not say "format": "{FORMAT}"')
    if content["version"] != VERSION:
        raise InputError(f"it has version {content['version']}, and this mddes reads version {VERSION}")
    classes, shape = content["classes"], content["image_shape"]
    if [row["class"] for row in classes] != list(range(len(classes))):
        raise InputError("its classes must be numbered 0, 1, 2, ... in order")
    if len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
        raise InputError(f"image_shape must be three positive integers, not {shape}")
    provenance = content.get("provenance", {})
    if not isinstance(provenance, dict):
        raise InputError("its provenance must be an object")
    names = {"rows": "row", "cols": "col", "values": "value"}
    fields = {name: [[pixel[key] for pixel in row["pixels"]] for row in classes] for name, key in names.items()}
    if not all(_whole(numbers) for numbers in fields.values()):
        raise InputError("every row, col and value must be a whole number")
    return {**fields, "mode": content["mode"], "image_shape": shape}, provenance


def _whole(numbers: Any) -> bool:
    """Return whether nested lists hold whole numbers only; True and False are none."""
    return all(map(_whole, numbers)) if isinstance(numbers, list) else type(numbers) is int


def _refuse(constant: str) -> None:
    raise InputError(f"it contains {constant}")

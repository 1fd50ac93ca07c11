"""`mddes baseline`: the rivals of a search, as the same kind of file."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from mddes.arguments import parse
from mddes.data import load_dataset
from mddes.errors import InputError
from mddes.poison import Perturbation, left_column, uniform
from mddes.poison.one_pixel_shortcut import one_pixel_shortcut


@dataclass(frozen=True, kw_only=True)
class BaselineCommand:
    """Write a perturbation that needs no search.

    uniform draws places and values; left-column (ADS) writes the class's number as the row of a bright pixel;
    one-pixel-shortcut (OPS) takes the pixel that differs most, and most evenly, from the class's images. The rival
    that does search, random search, is `mddes search --algorithm random`.

    Example: mddes baseline one-pixel-shortcut --dataset mnist --pixels 1 --out ops.json
    """

    method: Positional[Literal["uniform", "left-column", "one-pixel-shortcut"]]
    """Which one."""
    dataset: str = "digits"
    """A name (see `mddes datasets`), an .npz file, or a folder with train/<class>/ and test/<class>/."""
    data_dir: str | None = None
    """Folder with data already there; default $MDDES_DATA, else ~/.cache/mddes (download)."""
    train_size: int | None = None
    """Use only the first so many training images."""
    pixels: int = 1
    """N_p, pixels changed per class."""
    seed: int | None = None
    """Of the draw (uniform); default 0."""
    mode: Literal["set", "add"] | None = None
    """Set the pixel to the value (default), or add the value to it (uniform)."""
    value: int | None = None
    """Write this one value everywhere instead of drawn ones (uniform)."""
    score: Literal["reference", "paper", "art"] | None = None
    """Which published score (one-pixel-shortcut); default reference, the authors' code."""
    collisions: Literal["skip", "allow"] | None = None
    """A place and colour that an earlier class has (one-pixel-shortcut); default what the score's source does."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "perturbation.json"
    """The file to write; it must not exist."""


OWN_OPTIONS = {
    "uniform": ("seed", "mode", "value"),
    "left-column": (),
    "one-pixel-shortcut": ("score", "collisions"),
}


def run(rest: list[str], _running: list[Path]) -> None:
    """Run the command."""
    parsed = parse(BaselineCommand, "mddes baseline", rest)
    for name in {option for options in OWN_OPTIONS.values() for option in options}:
        if getattr(parsed, name) is not None and name not in OWN_OPTIONS[parsed.method]:
            raise InputError(f"--{name} means nothing for {parsed.method}")
    path = Path(parsed.out)
    if path.exists():
        raise InputError(f"{path} exists already: name another file with --out")
    perturbation = _make(parsed)
    perturbation.save(path)
    sys.stdout.write(f"{perturbation!r}\nwritten to {path}\n")


def _make(parsed: BaselineCommand) -> Perturbation:
    train = load_dataset(parsed.dataset, data_dir=parsed.data_dir, train_size=parsed.train_size).train
    if parsed.method == "left-column":
        return left_column(train, pixels=parsed.pixels)
    if parsed.method == "uniform":
        mode, seed = parsed.mode or "set", parsed.seed or 0
        return uniform(train, pixels=parsed.pixels, seed=seed, mode=mode, value=parsed.value)
    return one_pixel_shortcut(
        train, pixels=parsed.pixels, score=parsed.score or "reference", collisions=parsed.collisions
    )

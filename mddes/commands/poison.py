"""`mddes poison`: a poisoned training set as files that other tools read."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from mddes.arguments import parse
from mddes.data import load_dataset
from mddes.errors import InputError
from mddes.poison.export import export, read_export, verify_export
from mddes.poison.ready import find


@dataclass(frozen=True, kw_only=True)
class PoisonCommand:
    """Write a data set's training images, poisoned, as files that other tools read; or check such a folder.

    Example: mddes poison perturbation.json --dataset cifar10 --format flat-png --out poisoned
    """

    perturbation: Annotated[Positional[str | None], tyro.conf.arg(metavar="PERTURBATION")] = None
    """A perturbation file, a run's folder, or the name of a ready-made poison."""
    dataset: str = "digits"
    """A name (see `mddes datasets`), an .npz file, or a folder with train/<class>/ and test/<class>/."""
    data_dir: str | None = None
    """Folder with data already there; default $MDDES_DATA, else ~/.cache/mddes (download)."""
    train_size: int | None = None
    """Use only the first so many training images."""
    format: Literal["npz", "png", "flat-png", "pt"] = "npz"
    """npz: arrays; png: an ImageFolder; flat-png: <index>.png and labels.csv; pt: the change as a torch file."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder to write; it must not exist, or be empty. Default poisoned-<data set>-<format>."""
    verify: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Compare an exported folder with the checksums of its manifest, and write nothing."""


def run(rest: list[str], _running: list[Path]) -> None:
    """Run the command."""
    parsed = parse(PoisonCommand, "mddes poison", rest)
    if parsed.verify is not None:
        if parsed.perturbation is not None:
            raise InputError("--verify checks a folder against its own manifest: leave the perturbation out")
        manifest = verify_export(parsed.verify)
        content = "the change as a torch file" if manifest["layout"] == "pt" else repr(read_export(parsed.verify))
        sys.stdout.write(f"{parsed.verify} holds {content}, as its manifest says\n")
        return
    if parsed.perturbation is None:
        raise InputError("name a perturbation file, a run's folder or a ready-made poison (see mddes poison --help)")
    perturbation = find(parsed.perturbation)
    dataset = load_dataset(parsed.dataset, data_dir=parsed.data_dir, train_size=parsed.train_size)
    folder = export(perturbation, dataset, parsed.out or f"poisoned-{dataset.name}-{parsed.format}", parsed.format)
    if parsed.format == "pt":
        what = "the change of each class" if perturbation.mode == "add" else "the change of every training image"
        sys.stdout.write(f"{what} of {dataset.name} written to {folder}\n")
    else:
        sys.stdout.write(f"{len(dataset.train)} poisoned training images of {dataset.name} written to {folder}\n")

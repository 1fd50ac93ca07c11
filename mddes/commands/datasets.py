"""`mddes datasets`."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mddes.arguments import parse
from mddes.data import DATASETS
from mddes.data.sources import CACHE


@dataclass(frozen=True, kw_only=True)
class DatasetsCommand:
    """List the named data sets, and where each is read from or downloaded to."""

    data_dir: str | None = None
    """Folder with data already there; default $MDDES_DATA."""


def run(rest: list[str], _running: list[Path]) -> None:
    """Run the command."""
    given = parse(DatasetsCommand, "mddes datasets", rest).data_dir or os.environ.get("MDDES_DATA")
    folder = Path(given or CACHE).expanduser()
    for name, source in DATASETS.items():
        there = all((folder / file).exists() for file in source.files)
        place = f"in {folder}" if there else f"not in {folder}" if given else f"will be downloaded to {folder}"
        sys.stdout.write(f"{name:14} {source.summary}\n{'':14} {place if source.files else 'no files needed'}\n")
        sys.stdout.write(f"{'':14} cite: {source.cite}\n")
    sys.stdout.write(
        "\nAlso: any .npz with train_images, train_labels, test_images, test_labels (uint8 N x C x H x W),\n"
    )
    sys.stdout.write("and any folder with train/<class>/* and test/<class>/*.\n")

"""What a search leaves in its folder beside the ledger, and how to read it back."""

import csv
import io
from pathlib import Path

import numpy as np

from mddes.errors import InputError
from mddes.search.strategy import Distribution
from mddes.tasks import Ledger
from mddes.writing import replace_file


def write_generations(ledger: Ledger, path: Path) -> None:
    """Write generations.csv: one row per generation told so far, the columns of its event line."""
    events = ledger.events("generation")
    if not events:
        return
    text = io.StringIO()
    columns = [name for name in events[0] if name != "event"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(events)
    replace_file(path, text.getvalue())


def write_distribution(distribution: Distribution, path: Path) -> None:
    """Write the final distribution as an .npz of plain arrays: mean (D,), sigma, C ((D, D), or (D,) if diagonal)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, mean=distribution.mean, sigma=distribution.sigma, C=distribution.covariance)
    replace_file(path, buffer.getvalue())


def read_distribution(path: Path) -> Distribution:
    """Read what `write_distribution` wrote.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Distribution(arrays["mean"], float(arrays["sigma"]), arrays["C"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read a distribution from {path}: {error}") from error

"""What a search leaves in its folder beside the ledger, and how to read it back."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mddes.errors import InputError
from mddes.search.candidate import Candidate
from mddes.search.strategy import Distribution
from mddes.tasks import Ledger, Record
from mddes.writing import replace_file

CURVES = ("fitness", "semantic_mismatch", "domain_divergence", "clean_accuracy", "poisoned_accuracy")


def generation_event(generation: int, candidates: Sequence[Candidate], sigma: float | None, seconds: float) -> Record:
    """Return the event line of a generation that was told: of every curve the mean, sd and the fittest one's value."""
    alive = [(candidate.fitness, candidate) for candidate in candidates if candidate.fitness is not None]
    _, best = max(alive, key=lambda pair: pair[0])
    event: Record = {"event": "generation", "generation": generation, "evaluations": len(candidates)}
    for name in CURVES:
        known = [value for _, candidate in alive if (value := candidate.mean(name)) is not None]
        event[f"{name}_best"] = best.mean(name)
        event[f"{name}_mean"] = float(np.mean(known)) if known else None
        event[f"{name}_std"] = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return event | {"failed": len(candidates) - len(alive), "sigma": sigma, "seconds": round(seconds, 3)}


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
    """Write the final distribution as an .npz of plain arrays: mean (D,), sigma, C ((D, D), or (D,) if diagonal).

    These are of the unbounded space in which CMA-ES samples; pycma folds it into the unit cube (`Distribution.fold`).
    The mean's place in the cube, the distribution's favourite, is saved as `favorite` (D,).
    """
    buffer = io.BytesIO()
    (favorite,) = distribution.fold(distribution.mean[None])
    np.savez_compressed(
        buffer, mean=distribution.mean, sigma=distribution.sigma, C=distribution.covariance, favorite=favorite
    )
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

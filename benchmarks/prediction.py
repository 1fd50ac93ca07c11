"""How much faster is a network judged in small batches, and does it say the same?

A victim's accuracies need more passes forward than its training: over the test images, the same with the poison's
pixels written on them, and the poisoned images it was trained on, after every checkpoint. The project's loop (`logits`)
against the same in batches of 500, on one thread, in turn, in processor time; the result is the ratio, pair by pair.
Three minutes:

    python benchmarks/prediction.py
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import mddes
from mddes.models import build
from mddes.tasks.run_folder import environment, write_json
from mddes.threads import one_thread
from mddes.training.predict import logits, scaled

RESULTS = Path(__file__).parent / "results"
NETWORKS = {"graynet": (1, 28, 2000), "colornet": (3, 32, 1000), "resnet20": (3, 32, 1000), "densenet40": (3, 32, 500)}
"""Name to channels, size and number of images."""


def in_batches_of_500(model: torch.nn.Module, images: mddes.ImageSet) -> torch.Tensor:
    """Return the logits, computed the usual way."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(scaled(torch.tensor(images.images[i : i + 500]))) for i in range(0, len(images), 500)])


def measure(name: str, pairs: int) -> dict[str, object]:
    """Return the ratios of one network's times and whether all logits were equal."""
    channels, size, n = NETWORKS[name]
    rng = np.random.default_rng(0)
    images = mddes.ImageSet(
        images=rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8),
        labels=rng.integers(0, 10, n),
        num_classes=10,
    )
    model = build(name, (channels, size, size), 10, seed=0, mean=[0.5] * channels, std=[0.25] * channels)
    model = model.to(memory_format=torch.channels_last)
    ratios, equal = [], True
    for pair in range(pairs + 1):
        started = time.process_time()
        plain = in_batches_of_500(model, images)
        between = time.process_time()
        ours = logits(model, images)
        ended = time.process_time()
        equal = equal and torch.equal(plain, ours)
        if pair:  # the first warms up
            ratios.append((between - started) / (ended - between))
    return {"ratios": ratios, "bit_equal": equal}


def main() -> None:
    """Measure and write results/prediction.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    given = parser.parse_args()
    found: dict[str, object] = {}
    with one_thread():
        for name in NETWORKS:
            row = measure(name, given.pairs)
            found[name] = row
            ratios = np.array(row["ratios"])
            same = "equal" if row["bit_equal"] else "NOT equal"
            print(
                f"{name}: batches of 500 / ours: median {np.median(ratios):.2f}, range {ratios.min():.2f} to "
                f"{ratios.max():.2f}, n = {len(ratios)}; logits {same} to the bit"
            )
    write_json(
        RESULTS / "prediction.json",
        {"environment": {k: v for k, v in environment().items() if k != "command"}, "networks": found},
    )


if __name__ == "__main__":
    main()

"""How much faster is the training loop than the one that everybody writes, and does it train the same network?

The plain way: a DataLoader over poisoned float tensors, convolution - ReLU - pooling, contiguous memory, torch's
default Adam. Ours: `mddes.train`. Both on one thread, in turn, so that a change of the machine's speed meets both; the
result is the ratio of times, pair by pair. About two minutes:

    python benchmarks/training_loop.py --data-dir DIR
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mddes
from mddes.tasks.run_folder import environment, write_json
from mddes.threads import one_thread

RESULTS = Path(__file__).parent / "results"


def plain_graynet() -> nn.Module:
    """Return GrayNet as the paper writes it."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(48 * 7 * 7, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


def train_plainly(
    images: mddes.ImageSet, poison: mddes.Perturbation, seed: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Train for one epoch of batches of 64 and return the network."""
    torch.manual_seed(seed)
    poisoned = poison.apply(images)
    (mean,), (std,) = poisoned.channel_statistics()
    x = (torch.tensor(poisoned.images).float() / 255 - mean) / std
    loader = DataLoader(TensorDataset(x, torch.tensor(poisoned.labels)), batch_size=64, shuffle=True)
    model = plain_graynet()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for batch, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return lambda pixels: model((pixels - mean) / std)


def main() -> None:
    """Measure and write results/training_loop.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--pairs", type=int, default=7)
    given = parser.parse_args()
    data = mddes.load_dataset("mnist", data_dir=given.data_dir, train_size=4000)
    test = data.test.subset(np.arange(2000))
    poison = mddes.uniform(data.train, pixels=1, seed=0)
    pixels, labels = torch.tensor(test.images) / 255, torch.tensor(test.labels)
    rows = []
    with one_thread():
        for seed in range(given.pairs + 1):  # the first pair warms up
            row: dict[str, float] = {}
            started = time.perf_counter()
            model = train_plainly(data.train, poison, seed)
            row["plain_seconds"] = time.perf_counter() - started
            with torch.no_grad():
                row["plain_accuracy"] = float((model(pixels).argmax(1) == labels).double().mean())
            for precision in ("fp32", "bf16"):
                recipe = mddes.Recipe(epochs=1, batch_size=64, precision=precision)
                started = time.perf_counter()
                ours = mddes.train("graynet", data.train, recipe, seed=seed, perturbation=poison)
                row[f"{precision}_seconds"] = time.perf_counter() - started
                row[f"{precision}_accuracy"] = mddes.accuracy(ours, test)
            rows.append(row)
    rows = rows[1:]
    summary = {"environment": {k: v for k, v in environment().items() if k != "command"}, "pairs": rows}
    write_json(RESULTS / "training_loop.json", summary)
    for precision in ("fp32", "bf16"):
        ratios = np.array([row["plain_seconds"] / row[f"{precision}_seconds"] for row in rows])
        accuracy = np.array([100 * row[f"{precision}_accuracy"] for row in rows])
        print(
            f"plain / {precision}: median {np.median(ratios):.2f}, range {ratios.min():.2f} to {ratios.max():.2f}, "
            f"n = {len(rows)}; clean test accuracy {accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f} %"
        )
    accuracy = np.array([100 * row["plain_accuracy"] for row in rows])
    print(f"plain: clean test accuracy {accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f} %")


if __name__ == "__main__":
    main()

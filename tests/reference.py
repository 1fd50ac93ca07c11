"""Slow, obvious versions of what the package does fast: the oracles of the tests."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mddes import ImageSet, Perturbation


def poison_one_by_one(perturbation: Perturbation, images: ImageSet) -> NDArray[np.uint8]:
    """Poison image after image, pixel after pixel, channel after channel."""
    poisoned = images.images.copy()
    for n in range(len(images)):
        k = int(images.labels[n])
        for j in range(perturbation.pixels):
            row, col = int(perturbation.rows[k, j]), int(perturbation.cols[k, j])
            for c in range(images.shape[0]):
                value = int(perturbation.values[k, j, c])
                if perturbation.mode == "add":
                    value = min(255, max(0, int(poisoned[n, c, row, col]) + value))
                poisoned[n, c, row, col] = value
    return poisoned


def train_plainly(
    model: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    orders: list[list[list[int]]],
) -> None:
    """Train on one batch after the other: `orders[epoch][step]` lists the images of the step."""
    model.train()
    for epoch in orders:
        for batch in epoch:
            x = torch.stack([torch.from_numpy(images[i].astype(np.float32) / np.float32(255)) for i in batch])
            y = torch.tensor([int(labels[i]) for i in batch])
            loss = -torch.log_softmax(model(x), dim=1)[torch.arange(len(batch)), y].mean()
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.eval()

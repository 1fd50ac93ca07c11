"""Networks and optimizers such as a user would bring, good and bad; the tests name them "own_code:..."."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn


class Small(nn.Module):
    """One hidden layer; at the step that the environment names it does what the environment says, once."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * height * width, 32), nn.ReLU(), nn.Linear(32, num_classes)
        )
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        if "OWN_CODE_FAULTS" in os.environ and self.training:
            _fault(Path(os.environ["OWN_CODE_FAULTS"]), self.steps)
        logits: torch.Tensor = self.layers(x)
        return logits


class Dropping(Small):
    """Drops a fifth of its hidden units."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        self.layers.insert(3, nn.Dropout(0.2))


class Attending(nn.Module):
    """Rows of an image attend to each other; then BatchNorm of vectors."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, _, width = image_shape
        self.into, self.norm, self.out = nn.Linear(channels * width, 24), nn.BatchNorm1d(8), nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.into(x.permute(0, 2, 1, 3).flatten(2)).chunk(3, -1)
        seen = nn.functional.scaled_dot_product_attention(query, key, value).mean(1)
        logits: torch.Tensor = self.out(self.norm(seen))
        return logits


def _fault(folder: Path, step: int) -> None:
    """In the 40th step of a training take the next fault of the folder (a file each), if one is left."""
    if step != 40:
        return
    for path in sorted(folder.iterdir()):
        try:
            path.rename(folder.parent / f"taken-{path.name}")
        except FileNotFoundError:  # another worker was faster
            continue
        if path.name.endswith("exit"):
            os._exit(1)
        if path.name.endswith("hang"):
            time.sleep(10_000)
        return


def sgd(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Plain SGD."""
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay)


def greedy(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Want more memory than there is."""
    torch.empty(2**50)
    return Small(image_shape, num_classes)


def wrong_shape(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return a network with one output too many."""
    return Small(image_shape, num_classes + 1)


number = 5

"""A poison in a user's own training script: wrap the data set, hand the transforms over.

train = torchvision.datasets.CIFAR10(root, transform=None)
train = mddes.PoisonedDataset(train, mddes.Perturbation.load("perturbation.json"), transform=augment)
loader = torch.utils.data.DataLoader(train, batch_size=128, shuffle=True)
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from mddes.errors import InputError
from mddes.poison.perturbation import Perturbation


class PoisonedDataset(TorchDataset[tuple[Any, Any]]):
    """A map-style data set whose images are poisoned by their labels, before any transform.

    Args:
        dataset: gives (image, label); the image a PIL picture (gray or RGB), or uint8 of the perturbation's shape
            (C, H, W), (H, W, C), or (H, W) for one channel, as array or tensor. It must have no transform of its own
            that augments: a poison comes before augmentation.
        perturbation: what to write into them.
        transform: applied to the poisoned image, which has the type that `dataset` gives.
        poisoned: the indices that are poisoned; default all.

    Raises (when an item is taken):
        InputError: images of another kind or shape, or a label that is none of the perturbation's classes.
    """

    def __init__(
        self,
        dataset: Any,
        perturbation: Perturbation,
        transform: Callable[[Any], Any] | None = None,
        *,
        poisoned: Any = None,
    ) -> None:
        self.dataset, self.perturbation, self.transform = dataset, perturbation, transform
        self.poisoned = None if poisoned is None else {int(i) for i in poisoned}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return (poisoned and transformed image, label)."""
        image, label = self.dataset[index]
        if self.poisoned is None or index in self.poisoned:
            image = self._poison(image, int(label))
        return (self.transform(image) if self.transform else image), label

    def _poison(self, image: Any, label: int) -> Any:
        if isinstance(image, Image.Image) and image.mode not in ("L", "RGB"):
            raise InputError(f"pictures must be gray (L) or RGB, not {image.mode}")
        if not isinstance(image, Image.Image | np.ndarray | torch.Tensor):
            raise InputError(f"images must be PIL pictures, arrays or tensors, not {type(image).__name__}")
        pixels = image.numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
        (changed,), _ = self.perturbation.apply(pixels[None], [label])
        if isinstance(image, torch.Tensor):
            return torch.from_numpy(changed)
        return Image.fromarray(changed) if isinstance(image, Image.Image) else changed

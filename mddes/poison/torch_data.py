"""A poison in a user's own training script: wrap the data set, hand the transforms over.

train = torchvision.datasets.CIFAR10(root, transform=None)
train = mddes.PoisonedDataset(train, mddes.Perturbation.load("perturbation.json"), transform=augment)
loader = torch.utils.data.DataLoader(train, batch_size=128, shuffle=True)
"""

import operator
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
        poisoned: the indices that are poisoned, or a mask of the data set's length; default all.

    Raises:
        InputError: indices that are not the data set's; when an item is taken, images of another kind or shape, or a
            label that is none of the perturbation's classes.
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
        self.poisoned = None if poisoned is None else _indices(np.asarray(poisoned), len(dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return (poisoned and transformed image, label)."""
        place = operator.index(index)
        image, label = self.dataset[place]
        if self.poisoned is None or place % len(self) in self.poisoned:
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


def _indices(chosen: np.ndarray, count: int) -> set[int]:
    """Return places in 0 .. count - 1, from indices or from a mask."""
    if chosen.dtype == bool and chosen.shape == (count,):
        return {int(i) for i in np.flatnonzero(chosen)}
    if chosen.size and chosen.dtype.kind not in "iu":
        raise InputError(f"poisoned must be indices, or a mask of {count}, not {chosen.dtype} {chosen.shape}")
    if chosen.size and not -count <= chosen.min() <= chosen.max() < count:
        raise InputError(f"poisoned must be indices of {count} images, but they span {chosen.min()}..{chosen.max()}")
    return {int(i) % count for i in chosen.ravel()}

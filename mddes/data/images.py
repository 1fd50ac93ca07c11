"""Labelled images as they are stored, and the split that keeps the test set out of the search.

`ImageSet` is the noun that everything else takes. `split` divides a training set into the images a candidate is
trained on and the held-out slice its fitness is measured on; a search receives those two and nothing else.
Where the images come from: `sources.py` (named data sets) and `files.py` (.npz and folders).
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mddes.errors import InputError

MIN_SIDE = 8  # two 2x2 poolings must leave at least 2 x 2 for GrayNet, three must leave a pixel for ColorNet


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images, read-only.

    Attributes:
        images: (N, C, H, W) uint8, C in {1, 3}, H and W at least 8.
        labels: (N,) int64, 0 .. num_classes - 1.
        num_classes: K, at least 2.

    Raises:
        InputError: wrong dtype, shape, label range or count.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    num_classes: int

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.dtype != np.uint8:
            raise InputError(f"images must be uint8 in 0..255, not {images.dtype}: rescale and convert them first")
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise InputError(f"images must have shape (N, C, H, W) with C 1 or 3, not {images.shape}")
        if min(images.shape[2:]) < MIN_SIDE:
            raise InputError(f"images are {images.shape[2]} x {images.shape[3]}; the least is {MIN_SIDE} x {MIN_SIDE}")
        if len(images) == 0:
            raise InputError("there are no images")
        if labels.ndim != 1 or len(labels) != len(images):
            raise InputError(f"{len(images)} images need labels of shape ({len(images)},), not {labels.shape}")
        if labels.dtype.kind not in "iu":
            raise InputError(f"labels must be integers, not {labels.dtype}")
        if self.num_classes < 2:
            raise InputError(f"a classification needs at least 2 classes, not {self.num_classes}")
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise InputError(f"labels must lie in 0..{self.num_classes - 1}, but span {labels.min()}..{labels.max()}")
        object.__setattr__(self, "images", _read_only(images, np.uint8))
        object.__setattr__(self, "labels", _read_only(labels, np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"ImageSet({len(self)} images of {self.shape}, {self.num_classes} classes)"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, indices: ArrayLike) -> "ImageSet":
        """Return the images at `indices` (integers, a slice's range or a boolean mask), in that order."""
        chosen = np.asarray(indices)
        return ImageSet(self.images[chosen], self.labels[chosen], self.num_classes)

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of images of each class: (K,) int64."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of shape, class count, labels and pixels: what identifies the data."""
        sha = hashlib.sha256(repr((self.images.shape, self.num_classes)).encode())
        sha.update(self.labels.tobytes())
        sha.update(self.images.tobytes())
        return sha.hexdigest()

    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation per channel, of pixels in [0, 1]; exact integer sums, std at least 1/255.

        >>> flat = ImageSet(np.full((2, 1, 8, 8), 51, np.uint8), np.array([0, 1]), 2)
        >>> flat.channel_statistics()
        ([0.2], [0.00392156862745098])
        """
        counts = [np.bincount(self.images[:, c].ravel(), minlength=256) for c in range(self.shape[0])]
        levels = np.arange(256)
        mean, std = [], []
        for count in counts:
            total, first, second = (int((count * levels**power).sum()) for power in (0, 1, 2))
            mean.append(first / total / 255)
            std.append(max(max(total * second - first * first, 0) ** 0.5 / total, 1.0) / 255)
        return mean, std


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set: `train` for searches and victims, `test` for the final judgement only."""

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.train.shape != self.test.shape or self.train.num_classes != self.test.num_classes:
            raise InputError(
                f"{self.name}: training images {self.train.shape} with {self.train.num_classes} classes do not fit "
                f"test images {self.test.shape} with {self.test.num_classes}"
            )
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(str(k) for k in range(self.train.num_classes)))

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, train={self.train!r}, test={self.test!r})"


@dataclass(frozen=True, eq=False)
class SearchData:
    """All that a search may see: no test images, by construction."""

    train: ImageSet
    held_out: ImageSet

    def digest(self) -> str:
        """Return the SHA-256 (hex) of both parts."""
        return hashlib.sha256((self.train.digest() + self.held_out.digest()).encode()).hexdigest()


def split(images: ImageSet, *, whole: bool = False) -> SearchData:
    """Divide a training set into search-training and held-out parts, the same every time.

    The held-out part is min(2,000, 20 %) of the images: of every class the last ones in stored order, because
    neighbours in a file often share a writer or a house number and must not stand on both sides.

    Args:
        images: the training set.
        whole: measure the fitness on the training images themselves (the paper's literal reading).

    Raises:
        InputError: a class has fewer than two images.
    """
    counts = images.class_counts()
    if counts.min() < 2:
        rare = int(counts.argmin())
        raise InputError(f"class {rare} has {counts[rare]} training images; a search needs at least 2 of every class")
    if whole:
        return SearchData(images, images)
    share = min(2000, 0.2 * len(images)) / len(images)
    held = np.zeros(len(images), dtype=bool)
    for k, count in enumerate(counts):
        last = max(1, round(share * int(count)))
        held[np.flatnonzero(images.labels == k)[-last:]] = True
    return SearchData(images.subset(~held), images.subset(held))


def shared_arrays(**parts: ImageSet) -> dict[str, NDArray[Any]]:
    """Return the arrays that tasks share: `<part>_images` and `<part>_labels` of every part.

    >>> tiny = ImageSet(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1]), 2)
    >>> list(shared_arrays(train=tiny))
    ['train_images', 'train_labels']
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, images in parts.items():
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = images.images, images.labels
    return arrays


def _read_only(array: NDArray[Any], dtype: type) -> NDArray[Any]:
    """Return a contiguous array that nobody can write to: a copy, unless it already is one (as on a Ray worker)."""
    frozen: NDArray[Any] = np.ascontiguousarray(array, dtype=dtype)
    root = frozen
    while isinstance(root.base, np.ndarray):
        root = root.base
    if root.flags.writeable:
        frozen = frozen.copy()
        frozen.setflags(write=False)
    return frozen

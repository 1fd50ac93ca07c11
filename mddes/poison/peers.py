"""Other people's poisoned training sets, sample by sample, as rows beside ours.

    .npz   images: uint8 (N, C, H, W), (N, H, W, C) or gray (N, H, W), in the data set's order; labels, if it has them
           (without, images must lie nearer to the clean ones of their places than to their classes' others)
    .pt    a tensor: float (N, C, H, W) or class-wise (K, C, H, W), times 255 the change, as Unlearnable-Examples saves
           it; or a dictionary with delta int16 (N, C, H, W), as `mddes poison --format pt` writes it

Nothing is unpickled: arrays and tensors only.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mddes.data import ImageSet
from mddes.data.files import one_line
from mddes.errors import InputError
from mddes.poison.arrays import channels_first

ENDINGS = (".npz", ".pt")
PER_CLASS = 100  # images of a class whose order is looked at
NEARER = 0.9  # of the distance to another image of the class, at most, from an image's own


def load_peer(path: str | Path, clean: ImageSet) -> ImageSet:
    """Return the poisoned copy of a training set that a file holds.

    Args:
        path: .npz or .pt.
        clean: the training set that it belongs to.

    Raises:
        InputError: unreadable, or it does not fit the training set.
    """
    path = Path(path)
    try:
        images = _from_npz(path, clean) if path.suffix == ".npz" else _from_pt(path, clean)
    except Exception as error:  # whatever NumPy and torch raise for a damaged file, or one that holds more than arrays
        raise InputError(f"cannot read a poisoned training set from {path}: {_why(error)}") from error
    if np.array_equal(images, clean.images):
        raise InputError(f"{path} changes no image: is it a poison, and of these images?")
    return ImageSet(images, clean.labels, clean.num_classes)


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "it has no images" if "is not a file" in str(error) else f"it has no {error.args[0]}"
    if type(error).__name__ == "UnpicklingError" or isinstance(error, EOFError) or "pickle" in str(error):
        return "it holds pickled objects, which are never loaded, or is no such file: arrays and tensors only"
    return one_line(error)


def _from_npz(path: Path, clean: ImageSet) -> NDArray[np.uint8]:
    with np.load(path, allow_pickle=False) as arrays:
        images = channels_first(arrays["images"], clean.shape)
        labels = arrays["labels"] if "labels" in arrays.files else None
    if len(images) != len(clean):
        raise ValueError(f"it holds {len(images)} images, and the training set {len(clean)}")
    if labels is None and _in_another_order(images, clean):
        raise ValueError(
            "its images are no nearer to the training images of their places than to others: another order? "
            "If the order is right, add labels"
        )
    if labels is not None and not np.array_equal(labels, clean.labels):
        raise ValueError("its labels are not those of the training set: another order?")
    return images


def _in_another_order(images: NDArray[np.uint8], clean: ImageSet) -> bool:
    """Return whether images are about as far from the clean ones of their places as from the next of their class."""
    own, others = [], []
    for k in range(clean.num_classes):
        members = np.flatnonzero(clean.labels == k)[:PER_CLASS]
        if len(members) > 1:
            found = images[members].astype(np.int16)
            own.append(np.abs(found - clean.images[members]).mean())
            others.append(np.abs(found - clean.images[np.roll(members, 1)]).mean())
    return bool(others) and float(np.mean(own)) > NEARER * float(np.mean(others))


def _from_pt(path: Path, clean: ImageSet) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on files that it is about to refuse
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, dict):
        delta = content["delta"]
        if not isinstance(delta, torch.Tensor) or delta.is_floating_point():
            raise TypeError("delta must be a tensor of whole numbers, -255 .. 255")
        if "labels" in content and not np.array_equal(np.asarray(content["labels"]), clean.labels):
            raise ValueError("its labels are not those of the training set: another order?")
        change = delta.numpy().astype(np.float64)
    elif isinstance(content, torch.Tensor) and content.is_floating_point():
        change = content.detach().to(torch.float64).mul(255).numpy()
        if np.nanmax(np.abs(change), initial=0.0) > 255.001:
            raise ValueError("its numbers exceed 1: a float change is in units of [0, 1]")
    else:
        raise TypeError("neither a float tensor nor a dictionary with delta")
    if change.shape == (clean.num_classes, *clean.shape) and len(clean) != clean.num_classes:
        change = change[clean.labels]
    if change.shape != clean.images.shape:
        raise ValueError(f"a change of shape {change.shape} does not fit images {clean.images.shape}")
    if not np.isfinite(change).all():
        raise ValueError("it contains NaN or infinity")
    return np.asarray(np.clip(np.rint(clean.images + change), 0, 255), dtype=np.uint8)

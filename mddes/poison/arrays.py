"""Images as users have them: NumPy arrays in one of three layouts, with labels beside them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mddes.errors import InputError


def channels_first(images: NDArray[np.uint8], image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a view (N, C, H, W) of images in the layout (N, C, H, W), (N, H, W, C), or (N, H, W) for one channel.

    Raises:
        InputError: another dtype or shape.
    """
    channels, height, width = image_shape
    if not isinstance(images, np.ndarray):
        raise InputError(f"images must be an ImageSet or a NumPy array, not {type(images).__name__}")
    if images.dtype != np.uint8:
        raise InputError(f"images must be uint8 in 0..255, not {images.dtype}: poison before scaling and augmentation")
    own = images.shape[1:]
    if own == image_shape:
        return images
    if own == (height, width, channels):
        return images.transpose(0, 3, 1, 2)
    if channels == 1 and own == (height, width):
        return images[:, None]
    raise InputError(f"images of shape {own} do not fit a perturbation of {image_shape} images")


def check_labels(labels: ArrayLike, count: int, num_classes: int) -> NDArray[np.int64]:
    """Return labels (N,) as int64.

    Raises:
        InputError: no integers, too few or many, or none of the classes.
    """
    y = np.asarray(labels)
    if y.dtype.kind not in "iu" or y.shape != (count,):
        raise InputError(f"{count} images need integer labels of shape ({count},), not {y.dtype} {y.shape}")
    if count and not 0 <= y.min() <= y.max() < num_classes:
        raise InputError(f"labels must lie in 0..{num_classes - 1}, but they span {y.min()}..{y.max()}")
    return y.astype(np.int64)


def check_none(labels: ArrayLike) -> None:
    """Raise an `InputError` if there are labels beside an ImageSet."""
    if np.size(labels):
        raise InputError("an ImageSet has labels of its own: leave labels out, or give its .images")

"""Fixed transformations of a whole training set, by which a victim may hope to squeeze a poison out of it.

They are made once, before training, on the poisoned images (Liu et al. 2023, "Image Shortcut Squeezing"; APBench); the
test images stay as they are unless a study says otherwise. uint8 in, uint8 out.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torchvision.transforms.v2 import functional as TF

from mddes.data.images import ImageSet
from mddes.errors import InputError, look_up

Pixels = NDArray[np.uint8]
BITS, QUALITY, SIDE, SIGMA = 2, 10, 3, 1.0


def grayscale(x: Pixels) -> Pixels:
    """Replace the three channels by their luminance (0.299 R + 0.587 G + 0.114 B)."""
    if x.shape[1] != 3:
        raise InputError("grayscale needs images of three channels")
    return np.asarray(TF.rgb_to_grayscale(torch.tensor(x), num_output_channels=3))


def bit_depth(x: Pixels) -> Pixels:
    """Keep the two highest bits of every value (APBench's bit-depth reduction)."""
    return np.asarray(TF.posterize(torch.tensor(x), bits=BITS))


def jpeg(x: Pixels) -> Pixels:
    """Compress and decompress each image as JPEG of quality 10."""
    return np.stack([_through_jpeg(image) for image in x])


def median(x: Pixels) -> Pixels:
    """Replace every value by the median of its 3 x 3 neighbourhood in its channel, edges repeated."""
    return np.asarray(ndimage.median_filter(x, size=(1, 1, SIDE, SIDE), mode="nearest"))


def blur(x: Pixels) -> Pixels:
    """Blur with a 3 x 3 Gaussian of standard deviation 1 (APBench's 0.1 changes next to nothing)."""
    return np.asarray(TF.gaussian_blur(torch.tensor(x), [SIDE, SIDE], [SIGMA, SIGMA]))


def _through_jpeg(image: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=QUALITY)
    with Image.open(buffer) as picture:
        pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


SQUEEZES: dict[str, Callable[[Pixels], Pixels]] = {
    "grayscale": grayscale,
    "bit-depth": bit_depth,
    "jpeg": jpeg,
    "median": median,
    "blur": blur,
}


def squeeze(images: ImageSet, name: str) -> ImageSet:
    """Return the images transformed by a name of `SQUEEZES`.

    Raises:
        InputError: unknown name, or grayscale of gray images.
    """
    return ImageSet(look_up("squeeze", name, SQUEEZES)(images.images), images.labels, images.num_classes)

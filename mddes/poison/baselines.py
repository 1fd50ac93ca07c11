"""Perturbations that need no search.

`uniform` is the paper's baseline ("a uniformly sampled spatial distribution of pixel perturbation, which is the
starting point of the CMA-ES algorithm", section 4.2), and the first row of every table.
"""

import numpy as np

from mddes.data import ImageSet
from mddes.errors import InputError, look_up
from mddes.poison.perturbation import MODES, Perturbation
from mddes.seeding import numpy_generator


def uniform(
    images: ImageSet, *, pixels: int = 1, seed: int = 0, mode: str = "set", value: int | None = None
) -> Perturbation:
    """Draw N_p distinct places per class, and their values, uniformly.

    Args:
        images: gives image shape and number of classes only.
        pixels: N_p, 1 .. H * W.
        seed: of the draw.
        mode: "set" (values 0..255) or "add" (-255..255).
        value: write this value everywhere instead of drawn ones.

    >>> from mddes.data import load_dataset
    >>> uniform(load_dataset("digits").train, pixels=2, seed=0)
    Perturbation(2 pixels x 10 classes, set, (1, 8, 8))
    """
    channels, height, width = images.shape
    if not 1 <= pixels <= height * width:
        raise InputError(f"pixels must lie in 1..{height * width} for {height} x {width} images, not {pixels}")
    low, high = look_up("write mode", mode, MODES)
    draw = numpy_generator(seed, "uniform")
    places = np.stack([draw.choice(height * width, pixels, replace=False) for _ in range(images.num_classes)])
    shape = (images.num_classes, pixels, channels)
    values = draw.integers(low, high, shape, endpoint=True) if value is None else np.full(shape, value)
    return Perturbation(
        rows=places // width,
        cols=places % width,
        values=values,
        mode=mode,
        image_shape=images.shape,
        provenance={"method": "uniform", "seed": seed},
    )

"""Perturbations that need neither a search nor the images' content.

`uniform` is the paper's baseline ("a uniformly sampled spatial distribution of pixel perturbation, which is the
starting point of the CMA-ES algorithm", section 4.2), and the first row of every table.
`left_column` is the adversarial distribution shift of Jacobsen et al. (2019), which the paper compares with.
`one_pixel_shortcut.py` holds the strongest rival.
"""

import numpy as np

from mddes.data import ImageSet
from mddes.errors import InputError, look_up
from mddes.poison.perturbation import MODES, Perturbation, check_pixels
from mddes.seeding import numpy_generator


def uniform(
    images: ImageSet, *, pixels: int = 1, seed: int = 0, mode: str = "set", value: int | None = None
) -> Perturbation:
    """Draw N_p distinct places per class, and their values, uniformly.

    Like the search's own perturbations, no two classes share a pixel and its value: a draw that would is drawn again.

    Args:
        images: gives image shape and number of classes only.
        pixels: N_p, 1 .. H * W.
        seed: of the draw.
        mode: "set" (values 0..255) or "add" (-255..255).
        value: write this value everywhere instead of drawn ones.

    Raises:
        InputError: more pixels than there are, or a value out of range.

    >>> from mddes.data import load_dataset
    >>> uniform(load_dataset("digits").train, pixels=2, seed=0)
    Perturbation(2 pixels x 10 classes, set, (1, 8, 8))
    """
    check_pixels(pixels, images.shape)
    channels, height, width = images.shape
    low, high = look_up("write mode", mode, MODES)
    draw = numpy_generator(seed, "uniform")
    taken: set[tuple[int, ...]] = set()
    places, values = [], []
    for _ in range(images.num_classes):
        own: list[tuple[int, ...]] = []  # (place, value per channel)
        for place in draw.permutation(height * width).tolist():
            levels = draw.integers(low, high, channels, endpoint=True).tolist() if value is None else [value] * channels
            if (place, *levels) not in taken:
                own.append((place, *levels))
            if len(own) == pixels:
                break
        if len(own) < pixels:
            raise InputError(f"{pixels} pixels of value {value} cannot differ between {images.num_classes} classes")
        taken.update(own)
        places.append([pixel[0] for pixel in own])
        values.append([pixel[1:] for pixel in own])
    rows, cols = np.divmod(np.array(places), width)
    return Perturbation(
        rows=rows,
        cols=cols,
        values=np.array(values),
        mode=mode,
        image_shape=images.shape,
        provenance={"method": "uniform", "seed": seed},
    )


def left_column(images: ImageSet, *, pixels: int = 1) -> Perturbation:
    """Write the class's number as the row of a bright pixel in the left-most column (ADS, binary shiftMNIST).

    With r0 = max(0, (H - K) // 2), class k has row (r0 + k) mod H and column (r0 + k) div H, value 255 in every
    channel, mode "set" (Jacobsen, Behrmann, Zemel, Bethge, ICLR 2019). More pixels than one, our extension, take the
    next free columns in the same rows.

    Args:
        images: gives image shape and number of classes only.
        pixels: N_p.

    Raises:
        InputError: more pixels than there are free columns.

    >>> from mddes.data import load_dataset
    >>> left_column(load_dataset("digits").train).rows[:, 0].tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    """
    check_pixels(pixels, images.shape)
    channels, height, width = images.shape
    first = max(0, (height - images.num_classes) // 2)
    cols, rows = np.divmod(first + np.arange(images.num_classes), height)
    step = int(cols[-1]) + 1  # columns that one pixel a class takes
    if step * pixels > width:
        raise InputError(
            f"pixels of left-column must be at most {width // step}: "
            f"{images.num_classes} classes take {step} columns each"
        )
    return Perturbation(
        rows=np.repeat(rows[:, None], pixels, axis=1),
        cols=cols[:, None] + step * np.arange(pixels),
        values=np.full((images.num_classes, pixels, channels), 255),
        mode="set",
        image_shape=images.shape,
        provenance={"method": "left-column"},
    )

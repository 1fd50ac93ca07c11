"""Poisoning a share of each class.

The rule: of each class's n_k images the first round(share n_k) of a random order are poisoned. The order depends on the
seed only, so a larger share poisons the same images and more.
"""

import numpy as np

from mddes.data import ImageSet
from mddes.errors import InputError
from mddes.poison.perturbation import Perturbation
from mddes.seeding import numpy_generator


def apply_partly(perturbation: Perturbation, images: ImageSet, share: float, *, seed: int) -> ImageSet:
    """Return a copy of which `share` (0 .. 1) of each class is poisoned.

    Raises:
        InputError: a share out of range, or a perturbation that does not fit.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the poisoned share must lie in 0..1, not {share}")
    chosen = np.zeros(len(images), dtype=bool)
    draw = numpy_generator(seed, "poisoned share")
    for k in range(images.num_classes):
        own = draw.permutation(np.flatnonzero(images.labels == k))
        chosen[own[: round(share * len(own))]] = True
    mixed = np.where(chosen[:, None, None, None], perturbation.apply(images).images, images.images)
    return ImageSet(mixed, images.labels, images.num_classes)

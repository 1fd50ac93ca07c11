"""One step with a user's own network or optimizer, so that what is wrong with it is said before a run begins."""

import dataclasses

import numpy as np

from mddes.data import ImageSet
from mddes.errors import InputError
from mddes.training.loop import train
from mddes.training.predict import logits
from mddes.training.recipe import Recipe

IMAGES = 8


def try_out(model: str, recipe: Recipe, images: ImageSet) -> None:
    """Train on a handful of images for one step, on the CPU, and look at what comes out.

    Raises:
        InputError: whatever is wrong, with the model's and the optimizer's name.
    """
    few = images.subset(np.arange(min(IMAGES, len(images))))
    what = f"model {model!r} with optimizer {recipe.optimizer!r}"
    try:
        trained = train(model, few, dataclasses.replace(recipe, epochs=1, batch_size=IMAGES))
        shape = tuple(logits(trained, few).shape)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what} cannot be trained: {type(error).__name__}: {reason}") from error
    if shape != (len(few), images.num_classes):
        raise InputError(f"{what} returns {shape} for {len(few)} images, not logits ({len(few)}, {images.num_classes})")

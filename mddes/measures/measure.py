"""What a measure is: a number of a trained network on given images, with its error, or the reason why there is none.

A measure works on a copy of the model in evaluation mode, so the model keeps its weights, its buffers and its mode
whatever happens. To add one: a function (model, images, ...) -> `Estimate`, and a line in `MEASURES` (`__init__.py`).
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from mddes.data import ImageSet
from mddes.threads import one_thread


@dataclass(frozen=True)
class Estimate:
    """A measured number.

    Attributes:
        value: NaN where the measure does not apply.
        standard_error: of a value that was estimated from random draws; None of one that was computed.
        reason: why the value is NaN.
        details: other numbers that came with it.
    """

    value: float
    standard_error: float | None = None
    reason: str | None = None
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A named measure; calling it returns the number alone.

    Attributes:
        function: (model, images, *, seed, and `needs`, and settings of its own) -> `Estimate`.
        direction: the sign that the literature associates with robustness: -1 lower, +1 higher.
        units: of the value.
        needs: of "initial" (the weights at initialisation) and "train" (the training images), what the function takes.
    """

    function: Callable[..., Estimate]
    direction: Literal[-1, 1]
    units: str
    needs: tuple[str, ...] = ()

    def __call__(
        self,
        model: nn.Module,
        images: ImageSet,
        *,
        initial: Mapping[str, torch.Tensor] | None = None,
        train: ImageSet | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> float:
        """Return the value; NaN where the measure does not apply. Arguments as for `estimate`."""
        return self.estimate(model, images, initial=initial, train=train, seed=seed, **settings).value

    def estimate(
        self,
        model: nn.Module,
        images: ImageSet,
        *,
        initial: Mapping[str, torch.Tensor] | None = None,
        train: ImageSet | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Estimate:
        """Measure a model.

        Args:
            model: takes pixels (B, C, H, W) in [0, 1], returns logits (B, K).
            images: the measurement set, all of it; as it is, without augmentation.
            initial: state dict of the same network before its training.
            train: the images that it was trained on.
            seed: of what is drawn.
            settings: the measure's own.
        """
        given = {"initial": initial, "train": train}
        for name in self.needs:
            if given[name] is None:
                return Estimate(math.nan, reason=f"it needs {name}=")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return Estimate(math.nan, reason="the network has no trainable parameters")
        frozen = copy.deepcopy(model).eval()
        with one_thread():
            found = self.function(frozen, images, seed=seed, **{name: given[name] for name in self.needs}, **settings)
        if not math.isfinite(found.value) and found.reason is None:
            return dataclasses.replace(found, value=math.nan, reason="the loss, or a derivative, is not finite")
        return found

"""Networks by name, with normalisation as their first layer and initial weights from a seed.

A builder is any `(image_shape, num_classes) -> nn.Module` that takes normalised images (B, C, H, W) and returns
logits (B, K): the names below, or a user's own function, given itself or as "module:function". `build` puts
`Normalize` in front of it, so that every model of this package takes pixels in [0, 1].
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from mddes.errors import look_up
from mddes.models.convnets import colornet, graynet
from mddes.models.densenet import densenet40
from mddes.models.resnet import cifar_resnet, resnet18
from mddes.seeding import derive, global_draws
from mddes.user_code import is_own, load

Builder = Callable[[tuple[int, int, int], int], nn.Module]

MODELS: dict[str, Builder] = {
    "graynet": graynet,
    "colornet": colornet,
    "graynet-bn": partial(graynet, batch_norm=True),
    "colornet-bn": partial(colornet, batch_norm=True),
    "resnet20": partial(cifar_resnet, blocks=3),
    "resnet32": partial(cifar_resnet, blocks=5),
    "densenet40": densenet40,
    "resnet18": resnet18,
}


class Normalize(nn.Module):
    """(x - mean) / std per channel; the constants are buffers and travel with the weights."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise x (B, C, H, W) in [0, 1]."""
        return (x - self.mean) / self.std


def builder_of(name: str) -> Builder:
    """Return the builder of a name of `MODELS`, or of "module:function".

    Raises:
        InputError: unknown name, or no such function.
    """
    return load("model", name) if is_own(name) else look_up("model", name, MODELS)


def build(
    model: str | Builder,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    seed: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> nn.Module:
    """Return `Sequential(normalize, network)` on the CPU, its initial weights a pure function of the seed.

    Args:
        model: a name of `MODELS`, "module:function" of one's own, or a builder.
        image_shape: (C, H, W).
        num_classes: K.
        seed: of the initial weights.
        mean, std: per channel, of pixels in [0, 1].

    Raises:
        InputError: unknown name.
    """
    builder = builder_of(model) if isinstance(model, str) else model
    with global_draws(derive(seed, "weights")):  # layers initialise themselves from the global generator
        network = builder(image_shape, num_classes)
    return nn.Sequential(OrderedDict(normalize=Normalize(mean, std), network=network))


__all__ = ["MODELS", "Builder", "Normalize", "build", "builder_of", "colornet", "graynet"]

"""Train one network on images in memory: the reference that every faster way must equal.

The images stay uint8 on the device. A step gathers one batch, poisons it by label before anything else (so poisoned
per batch equals poisoned once), augments it, scales it to [0, 1] and takes an optimizer step. Initial weights, batch
order and dropout are of the seed alone: the same seed, the same weights, bit for bit on a CPU. See `search/fitness.py`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mddes.data import ImageSet
from mddes.models import Builder, build
from mddes.poison import Perturbation
from mddes.poison.batch import BatchPoison
from mddes.seeding import derive, global_draws, torch_generator
from mddes.threads import one_thread
from mddes.training.adversary import Adversary
from mddes.training.augment import Augmentation
from mddes.training.predict import scaled
from mddes.training.recipe import Recipe, steps_of
from mddes.training.schedule import SCHEDULES

Batch = tuple[torch.Tensor, torch.Tensor]


def train(
    model: str | Builder,
    images: ImageSet,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    perturbation: Perturbation | None = None,
    device: str = "cpu",
    after_epoch: Callable[[nn.Module, int], object] = lambda _model, _epoch: None,
) -> nn.Module:
    """Train a network from scratch and return it in evaluation mode.

    Args:
        model: a name of `mddes.models.MODELS`, a builder (image_shape, num_classes) -> nn.Module, or its "module:name".
        images: the training set; its own (poisoned) channel statistics become the first layer's normalisation.
        recipe: optimizer, epochs, batch size, precision; default `Recipe()`.
        seed: of initial weights, batch order, and dropout if the network has any.
        perturbation: poison every batch by label with this.
        device: "cpu" or "cuda".
        after_epoch: called with the network, in training mode, and the number of epochs it has been trained for.

    Returns:
        A model on `device` that takes pixels (B, C, H, W) in [0, 1] and returns logits (B, K).

    Raises:
        InputError: unknown names, or a perturbation that does not fit the images.
    """
    recipe = recipe or Recipe()
    poison = BatchPoison(perturbation, device) if perturbation else None
    mean, std = (perturbation.apply(images) if perturbation else images).channel_statistics()
    with one_thread(), global_draws(derive(seed, "network"), device):  # dropout draws from the global streams
        network = build(model, images.shape, images.num_classes, seed=seed, mean=mean, std=std)
        network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        optimizer = recipe.make_optimizer(network.parameters(), seed)
        steps = steps_of(len(images), recipe.batch_size, join=any(isinstance(m, _BatchNorm) for m in network.modules()))
        schedule = SCHEDULES[recipe.schedule](optimizer, recipe.epochs * steps)
        augmentation = Augmentation(recipe.augmentation, images.num_classes, seed)
        adversary = Adversary(recipe.adversarial, seed)
        for epoch, batches in enumerate(_epochs(images, recipe, steps, seed, device)):
            for x, y in batches:
                pixels = scaled(augmentation.pixels(poison(x, y) if poison else x))
                pixels, targets = augmentation.mix(adversary(network, pixels, y), y)
                optimizer.step(_closure(network, optimizer, pixels, targets, recipe.precision))
                schedule.step()
            after_epoch(network, epoch + 1)
    return network.eval()


def _closure(
    network: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, targets: torch.Tensor, precision: str
) -> Callable[[], Any]:
    """Return what computes loss and gradients; optimizers that look around the weights call it several times."""

    def loss_and_gradients() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(x)
        loss: torch.Tensor = F.cross_entropy(logits.float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return loss_and_gradients


def _epochs(images: ImageSet, recipe: Recipe, steps: int, seed: int, device: str) -> Iterator[Iterator[Batch]]:
    """Yield the batches of every epoch, in a fresh order each time: uint8 images (B, C, H, W), labels (B,)."""
    x, y = torch.tensor(images.images).to(device), torch.tensor(images.labels).to(device)
    order = torch_generator(seed, "batches")
    for _ in range(recipe.epochs):
        permutation = torch.randperm(len(images), generator=order).to(device)
        batches = list(torch.split(permutation, recipe.batch_size))
        if len(batches) > steps:
            batches[-2:] = [torch.cat(batches[-2:])]
        yield ((x[batch], y[batch]) for batch in batches)

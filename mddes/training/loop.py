"""Train one network on images in memory: the reference that every faster way must equal.

The images stay uint8 on the device. A step gathers one batch, poisons it by label before anything else (so poisoned
per batch equals poisoned once), scales it to [0, 1] and takes an optimizer step. Initial weights and batch order
come from the seed alone: candidates of one generation share them, and the same seed gives the same weights, bit for
bit on a CPU. Read next: `search/fitness.py`, which trains a candidate and scores it.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from mddes.data import ImageSet
from mddes.models import Builder, build
from mddes.optim import optimizer_of
from mddes.poison import Perturbation
from mddes.poison.batch import BatchPoison
from mddes.seeding import torch_generator
from mddes.threads import one_thread
from mddes.training.recipe import Recipe

EVALUATION_BATCH = 500


def train(
    model: str | Builder,
    images: ImageSet,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    perturbation: Perturbation | None = None,
    device: str = "cpu",
) -> nn.Module:
    """Train a network from scratch and return it in evaluation mode.

    Args:
        model: a name of `mddes.models.MODELS`, a builder (image_shape, num_classes) -> nn.Module, or its "module:name".
        images: the training set; its own (poisoned) channel statistics become the first layer's normalisation.
        recipe: optimizer, epochs, batch size, precision; default `Recipe()`.
        seed: of initial weights and batch order.
        perturbation: poison every batch by label with this.
        device: "cpu" or "cuda".

    Returns:
        A model on `device` that takes pixels (B, C, H, W) in [0, 1] and returns logits (B, K).

    Raises:
        InputError: unknown names, or a perturbation that does not fit the images.
    """
    recipe = recipe or Recipe()
    poison = BatchPoison(perturbation, device) if perturbation else None
    mean, std = (perturbation.apply(images) if perturbation else images).channel_statistics()
    with one_thread():
        network = build(model, images.shape, images.num_classes, seed=seed, mean=mean, std=std)
        network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        assert recipe.lr is not None
        optimizer = optimizer_of(recipe.optimizer).build(network.parameters(), recipe.lr, recipe.weight_decay)
        for x, y in _batches(images, recipe, seed, device):
            pixels = _scaled(poison(x, y) if poison else x)
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits = network(pixels)
            loss = F.cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def logits(model: nn.Module, images: ImageSet) -> torch.Tensor:
    """Return the model's logits on the images in fp32: (N, K) on the CPU. The model's mode is left as it was."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    with one_thread(), torch.no_grad():
        parts = [
            model(_scaled(torch.tensor(images.images[i : i + EVALUATION_BATCH]).to(device))).float().cpu()
            for i in range(0, len(images), EVALUATION_BATCH)
        ]
    model.train(training)
    return torch.cat(parts)


def accuracy(model: nn.Module, images: ImageSet) -> float:
    """Return the fraction of images that the model classifies correctly."""
    return float((logits(model, images).argmax(1) == torch.tensor(images.labels)).double().mean())


def _batches(images: ImageSet, recipe: Recipe, seed: int, device: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (uint8 images (B, C, H, W), labels (B,)) of every step, a fresh order each epoch."""
    x, y = torch.tensor(images.images).to(device), torch.tensor(images.labels).to(device)
    order = torch_generator(seed, "batches")
    for _ in range(recipe.epochs):
        permutation = torch.randperm(len(images), generator=order).to(device)
        for batch in torch.split(permutation, recipe.batch_size):
            yield x[batch], y[batch]


def _scaled(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.float32, memory_format=torch.channels_last).div_(255)

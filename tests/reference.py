"""Slow, obvious versions of what the package does fast: the oracles of the tests."""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mddes import ImageSet, Perturbation


def poison_one_by_one(perturbation: Perturbation, images: ImageSet) -> NDArray[np.uint8]:
    """Poison image after image, pixel after pixel, channel after channel."""
    poisoned = images.images.copy()
    for n in range(len(images)):
        k = int(images.labels[n])
        for j in range(perturbation.pixels):
            row, col = int(perturbation.rows[k, j]), int(perturbation.cols[k, j])
            for c in range(images.shape[0]):
                value = int(perturbation.values[k, j, c])
                if perturbation.mode == "add":
                    value = min(255, max(0, int(poisoned[n, c, row, col]) + value))
                poisoned[n, c, row, col] = value
    return poisoned


def train_plainly(
    model: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    orders: list[list[list[int]]],
) -> None:
    """Train on one batch after the other: `orders[epoch][step]` lists the images of the step."""
    model.train()
    for epoch in orders:
        for batch in epoch:
            x = torch.stack([torch.from_numpy(images[i].astype(np.float32) / np.float32(255)) for i in batch])
            y = torch.tensor([int(labels[i]) for i in batch])
            loss = -torch.log_softmax(model(x), dim=1)[torch.arange(len(batch)), y].mean()
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.eval()


def one_pixel_shortcut_exhaustively(
    images: ImageSet, pixels: int, score: str, *, skip: bool
) -> list[list[tuple[int, int, tuple[int, ...]]]]:
    """Return (row, col, colour) of every class: all candidates one after the other, statistics in exact fractions."""
    channels, height, width = images.shape
    taken: set[tuple[int, int, tuple[int, ...]]] = set()
    chosen = []
    for k in range(images.num_classes):
        own = images.images[images.labels == k]
        scored = []
        for row, col in itertools.product(range(height), range(width)):
            for colour in itertools.product((0, 1), repeat=channels):
                distances = [
                    [abs(Fraction(int(x[c, row, col]), 255) - colour[c]) for c in range(channels)] for x in own
                ]
                scored.append((_shortcut_score(score, distances), (row, col, colour)))
        picked: list[tuple[int, int, tuple[int, ...]]] = []
        for _, candidate in sorted(scored, key=lambda pair: -pair[0]):  # stable: of equals the first
            elsewhere = all(candidate[:2] != other[:2] for other in picked)
            if elsewhere and len(picked) < pixels and not (skip and candidate in taken):
                picked.append(candidate)
        taken |= {*picked}
        chosen.append(picked)
    return chosen


def _shortcut_score(score: str, distances: list[list[Fraction]]) -> float:
    def mean(values: list[Fraction]) -> Fraction:
        return sum(values, Fraction()) / len(values)

    def variance(values: list[Fraction]) -> Fraction:
        return mean([(value - mean(values)) ** 2 for value in values])

    if score == "reference":
        everything = [value for image in distances for value in image]
        return float(mean(everything)) / (math.sqrt(variance(everything)) + 1e-8)
    if score == "paper":
        sums = [sum(image, Fraction()) for image in distances]
        return float(mean(sums)) / (float(variance(sums)) + 1e-8)
    means = [mean(image) for image in distances]
    return float(mean(means) - variance(means))


def sam_step_plainly(
    params: Sequence[torch.Tensor], loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer, rho: float
) -> None:
    """Take a step of SAM in two passes, without random numbers or running statistics to look after."""
    optimizer.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]
    before = [p.detach().clone() for p in params]
    gradients = [p.grad for p in params if p.grad is not None]
    size = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])) + 1e-12
    with torch.no_grad():
        for p, g in zip(params, gradients, strict=True):
            p.add_(g * (rho / size))
    optimizer.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for p, w in zip(params, before, strict=True):
            p.copy_(w)
    optimizer.step()


def perturbations_plainly(
    strategy: str,
    k: int,
    gradient: torch.Tensor,
    scale: torch.Tensor,
    draws: Sequence[torch.Tensor],
    rho: float,
    sigma: float,
) -> list[torch.Tensor]:
    """Return e_1 .. e_k for one vector of all weights; each of the `draws`, normal numbers, is used once."""
    own = iter([u / u.norm() for u in draws])
    ascent = scale * gradient / (scale * gradient).norm()
    along = {"gradient": k, "mixed": math.ceil(k / 2), "random": 0}[strategy]
    shifts = []
    for i in range(k):
        direction = next(own) if i >= along else ascent if i == 0 else ascent + sigma * next(own)
        shifts.append(rho * scale * direction / direction.norm())
    return shifts


def adabound_plainly(
    w: float,
    gradient: Callable[[float, int], float],
    rates: Sequence[float],
    *,
    final_lr: float = 0.1,
    gamma: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsbound: bool = False,
) -> list[float]:
    """Return one weight after each step of AdaBound's written recursion; `gradient(w, t)` is that of step t."""
    m = v = largest = 0.0
    path = []
    for t, lr in enumerate(rates, start=1):
        g = gradient(w, t) + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = max(largest, v)
        root = math.sqrt(largest if amsbound else v)
        size = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) / (root + eps)
        final = final_lr * lr / rates[0]
        lower, upper = final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))
        w -= min(max(size, lower), upper) * m
        path.append(w)
    return path

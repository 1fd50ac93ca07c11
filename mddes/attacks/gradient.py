"""Gradient attacks in the L-infinity ball: FGSM (Goodfellow et al. 2015) and PGD (Madry et al. 2018).

The loss is the cross-entropy of each image by itself, so the result of one does not depend on the others in its batch
(unless BatchNorm is in training mode, which is left as it is found). Parameters' gradients are not touched.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mddes.errors import InputError


def fgsm(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float = 8 / 255) -> torch.Tensor:
    """Return clip(x + epsilon sign grad_x CE(f(x), y)) to [0, 1].

    Args:
        model: takes pixels (B, C, H, W) in [0, 1], returns logits (B, K). Put it in evaluation mode.
        x: (B, C, H, W) in [0, 1].
        y: (B,) labels.
        epsilon: radius, in pixels' units of [0, 1].

    Raises:
        InputError: an epsilon that is negative or not finite.
    """
    _check("epsilon", epsilon)
    return (x + epsilon * _gradient(model, x, y).sign()).clamp(0, 1).detach()


def pgd(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    epsilon: float = 8 / 255,
    *,
    step: float | None = None,
    steps: int = 10,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Return the end of `steps` ascents x <- clip(project(x + step sign grad_x CE)), projected to the epsilon ball.

    Args:
        model, x, y, epsilon: as for `fgsm`.
        step: of each ascent; default 2.5 epsilon / steps (2/255 for 8/255 in 10 steps).
        steps: at least 1.
        generator: draws a start in the ball, uniformly, on the CPU; None starts at x.

    Raises:
        InputError: a number that is out of range.
    """
    _check("epsilon", epsilon)
    if steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    alpha = 2.5 * epsilon / steps if step is None else step
    _check("step", alpha)
    adversarial = x
    if generator is not None:
        noise = torch.empty(x.shape, dtype=x.dtype).uniform_(-epsilon, epsilon, generator=generator)
        adversarial = (x + noise.to(x.device)).clamp(0, 1)
    for _ in range(steps):
        ascended = adversarial + alpha * _gradient(model, adversarial, y).sign()
        adversarial = torch.maximum(torch.minimum(ascended, x + epsilon), x - epsilon).clamp(0, 1).detach()
    return adversarial


def _gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        pixels = x.detach().requires_grad_()
        loss = F.cross_entropy(model(pixels).float(), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, pixels)
    return gradient


def _check(name: str, number: float) -> None:
    if not (math.isfinite(number) and number >= 0):
        raise InputError(f"{name} must be 0 or more and finite, not {number}")

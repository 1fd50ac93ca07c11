"""Average-case sharpness (Andriushchenko et al. 2023): how much the loss rises, on average, when the weights are noisy.

S = E_d L(w + d) - L(w), d ~ N(0, rho^2 diag(c^2)); c = 1, or |w| (adaptive: the same after a layer is scaled up and
the next one down). rho is the standard deviation of each weight, not the length of d. For a quadratic loss
S = rho^2 / 2 sum_i c_i^2 H_ii. Buffers are never perturbed.
"""

import math

import numpy as np
import torch
from torch import nn

from mddes.data import ImageSet
from mddes.errors import InputError
from mddes.measures.measure import Estimate
from mddes.measures.objective import Objective, cross_entropy, displaced, flat
from mddes.seeding import torch_generator

RHO, DRAWS = 0.1, 20


def average_rise(
    objective: Objective, *, seed: int = 0, rho: float = RHO, draws: int = DRAWS, adaptive: bool = False
) -> Estimate:
    """Return the mean rise of the loss over Gaussian draws, and its standard error (None of a single draw).

    Args:
        objective: the loss; its weights are as they were afterwards.
        seed: of the draws; those of another `rho` are others.
        rho: standard deviation of each weight's noise, relative to the weight if `adaptive`.
        draws: at least 1.
        adaptive: scale the noise of each weight by its magnitude.

    Raises:
        InputError: a number out of range.
    """
    if not (math.isfinite(rho) and rho >= 0):
        raise InputError(f"rho must be finite, 0 or more, not {rho}")
    if draws < 1:
        raise InputError(f"draws must be at least 1, not {draws}")
    weights = flat(objective.parameters)
    scale = rho * (weights.abs() if adaptive else torch.ones_like(weights))
    start = objective.value()
    rises = []
    for i in range(draws):
        generator = torch_generator(seed, f"average sharpness {rho!r}", i)
        noise = torch.randn(len(weights), dtype=torch.float64, generator=generator).to(weights.device)
        with displaced(objective.parameters, scale * noise):
            rises.append(objective.value() - start)
    error = float(np.std(rises, ddof=1)) / math.sqrt(draws) if draws > 1 else None
    return Estimate(float(np.mean(rises)), error)


def average_sharpness_l2(
    model: nn.Module,
    images: ImageSet,
    *,
    seed: int = 0,
    rho: float = RHO,
    draws: int = DRAWS,
    adaptive: bool = False,
) -> Estimate:
    """Return the average-case sharpness of the cross-entropy with Gaussian noise on all trainable parameters."""
    return average_rise(cross_entropy(model, images), seed=seed, rho=rho, draws=draws, adaptive=adaptive)

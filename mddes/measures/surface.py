"""Slices of the loss around one solution, in random directions scaled to its filters (Li et al. 2018).

Each filter of a random Gaussian direction gets the norm of the network's, d_f <- d_f ||w_f|| / ||d_f||: a step of 0.1
is a tenth of every filter, whatever the scale of the weights. A filter is a row of a linear layer or an
output channel of a convolution; biases and BatchNorm's parameters do not move. Pictures on one scale: no measure of
sharpness.
"""

from collections.abc import Sequence

import torch

from mddes.measures.objective import Objective, displaced, flat
from mddes.seeding import torch_generator


def filter_normalised(parameters: Sequence[torch.Tensor], *, seed: int = 0, number: int = 0) -> torch.Tensor:
    """Return random direction `number` at the weights: (P,) float64."""
    generator = torch_generator(seed, "direction", number)
    parts = []
    for parameter in parameters:
        weights = parameter.detach().double()
        drawn = torch.randn(weights.shape, dtype=torch.float64, generator=generator).to(weights.device)
        if weights.dim() < 2:
            parts.append(torch.zeros_like(weights))
            continue
        other = tuple(range(1, weights.dim()))
        length, own = (torch.linalg.vector_norm(t, dim=other, keepdim=True) for t in (drawn, weights))
        parts.append(drawn * (own / length))
    return flat(parts)


def slice_1d(objective: Objective, direction: torch.Tensor, steps: Sequence[float]) -> list[float]:
    """Return L(w + t d) for every t."""
    losses = []
    for t in steps:
        with displaced(objective.parameters, t * direction):
            losses.append(objective.value())
    return losses


def slice_2d(
    objective: Objective, first: torch.Tensor, second: torch.Tensor, steps: Sequence[float]
) -> list[list[float]]:
    """Return L(w + t d_1 + u d_2): a row for every u, a column for every t."""
    return [[slice_1d(objective, t * first + u * second, [1.0])[0] for t in steps] for u in steps]

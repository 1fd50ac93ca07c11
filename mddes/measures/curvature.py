"""The Hessian of the mean loss with respect to all trainable parameters: its largest eigenvalue and its trace.

Lanczos with full reorthogonalisation finds the algebraically largest eigenvalue; power iteration would find the one of
the largest magnitude, which may be negative (-3 for diag(1, -3)). The trace is Hutchinson's estimate from a fixed
number of Rademacher probes, with its standard error: Var v'Hv = 2 (||H||_F^2 - sum H_ii^2). Neither is invariant to
rescalings that leave the function as it is (Dinh et al. 2017).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mddes.data import ImageSet
from mddes.errors import InputError
from mddes.measures.measure import Estimate
from mddes.measures.objective import Objective, cross_entropy
from mddes.seeding import torch_generator

STEPS, TOLERANCE = 30, 1e-3
PROBES = 30
VANISHED = 1e-10  # a residual so small, relative to the largest seen, is rounding: the Krylov space is exhausted


@dataclass(frozen=True)
class Extremes:
    """The ends of a symmetric matrix's spectrum, as Lanczos found them.

    Attributes:
        largest, smallest: algebraically. The true ones lie at or beyond them.
        residual: ||H v - largest v||; an eigenvalue lies within so much of `largest`.
        steps: products with the matrix.
    """

    largest: float
    smallest: float
    residual: float
    steps: int


def lanczos(
    times: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    *,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
) -> Extremes:
    """Return the extreme eigenvalues of a symmetric matrix of which only products are known.

    Args:
        times: v -> H v, (P,) float64.
        start: (P,) float64, random.
        steps: products at most; it ends earlier when the residual is below `tolerance` times the largest eigenvalue.
        tolerance: 0 goes on until the Krylov space is exhausted.
    """
    steps = min(steps, len(start))
    basis = torch.zeros(steps, len(start), dtype=torch.float64, device=start.device)
    diagonal: list[float] = []
    beside: list[float] = []
    vector = start / start.norm()
    for j in range(steps):
        basis[j] = vector
        image = times(vector)
        diagonal.append(float(vector @ image))
        for _ in range(2):  # once leaves rounding that grows from step to step
            image = image - basis[: j + 1].T @ (basis[: j + 1] @ image)
        beside.append(float(image.norm()))
        tridiagonal = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
        if not np.isfinite(tridiagonal).all():
            return Extremes(math.nan, math.nan, math.nan, j + 1)
        values, vectors = np.linalg.eigh(tridiagonal)
        residual = beside[-1] * abs(float(vectors[-1, -1]))
        exhausted = beside[-1] <= VANISHED * max(np.abs(values).max(), *beside)
        if exhausted or residual <= tolerance * abs(values[-1]):
            break
        vector = image / beside[-1]
    return Extremes(float(values[-1]), float(values[0]), residual, j + 1)


def extremes(objective: Objective, *, seed: int = 0, steps: int = STEPS, tolerance: float = TOLERANCE) -> Extremes:
    """Return the extreme eigenvalues of an objective's Hessian."""
    _check("steps", steps)
    start = torch.randn(objective.size, dtype=torch.float64, generator=torch_generator(seed, "lanczos"))
    device = objective.parameters[0].device
    return lanczos(objective.hessian_times, start.to(device), steps=steps, tolerance=tolerance)


def trace(objective: Objective, *, seed: int = 0, probes: int = PROBES) -> Estimate:
    """Return the mean of v'Hv over random signs v, and its standard error (None of a single probe)."""
    _check("probes", probes)
    found = []
    for i in range(probes):
        signs = torch.randint(0, 2, (objective.size,), generator=torch_generator(seed, "hutchinson", i))
        v = (2.0 * signs.double() - 1).to(objective.parameters[0].device)
        found.append(float(v @ objective.hessian_times(v)))
    error = float(np.std(found, ddof=1)) / math.sqrt(probes) if probes > 1 else None
    return Estimate(float(np.mean(found)), error)


def hessian_top_eigenvalue(
    model: nn.Module, images: ImageSet, *, seed: int = 0, steps: int = STEPS, tolerance: float = TOLERANCE
) -> Estimate:
    """Return the algebraically largest eigenvalue; details: smallest, residual, steps."""
    found = extremes(cross_entropy(model, images), seed=seed, steps=steps, tolerance=tolerance)
    details = {"smallest": found.smallest, "residual": found.residual, "steps": found.steps}
    return Estimate(found.largest, details=details)


def hessian_trace(model: nn.Module, images: ImageSet, *, seed: int = 0, probes: int = PROBES) -> Estimate:
    """Return Hutchinson's estimate of the trace."""
    return trace(cross_entropy(model, images), seed=seed, probes=probes)


def _check(name: str, number: int) -> None:
    if number < 1:
        raise InputError(f"{name} must be at least 1, not {number}")

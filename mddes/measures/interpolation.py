"""The line between two solutions (Goodfellow et al. 2015): w_a = (1 - a) w_A + a w_B, judged at every point.

Only parameters are interpolated. Running statistics of BatchNorm belong to weights that nobody trained, so they are
recomputed at every point (`recalibrate`); without that ("raw") they are interpolated as well, beyond the ends those of
the nearer one. Integer buffers are the nearer end's. At a = 0 and a = 1 the networks are the solutions, bit for bit. A
slice is not sharpness: how steep the loss is along one line says nothing of other directions (`curvature.py`,
`sharpness.py`).
"""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mddes.data import ImageSet
from mddes.errors import InputError
from mddes.measures.objective import BATCH, batches

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def grid(low: float = -0.5, high: float = 1.5, points: int = 41) -> list[float]:
    """Return evenly spaced numbers, 0 and 1 always among them, exactly.

    >>> grid(-0.5, 1.5, 5)
    [-0.5, 0.0, 0.5, 1.0, 1.5]
    >>> grid(-0.2, 1.1, 2)
    [-0.2, 0.0, 1.0, 1.1]

    Raises:
        InputError: fewer than two points, or no interval.
    """
    if points < 2:
        raise InputError(f"points must be at least 2, not {points}")
    if not low < high:
        raise InputError(f"low must be below high, not {low} and {high}")
    return sorted({0.0, 1.0, *(round(float(alpha), 12) + 0.0 for alpha in np.linspace(low, high, points))})


def blend(first: nn.Module, second: nn.Module, alpha: float) -> nn.Module:
    """Return a new network with the weights w_alpha, rounded once from float64.

    Raises:
        InputError: the two are not of one architecture.
    """
    network = copy.deepcopy(first)
    one, two = first.state_dict(), second.state_dict()
    if {name: t.shape for name, t in one.items()} != {name: t.shape for name, t in two.items()}:
        raise InputError("only networks of one architecture can be interpolated")
    trained = {name for name, _ in first.named_parameters(remove_duplicate=False)}
    state = {}
    for name, start in one.items():
        at = alpha if name in trained else min(max(alpha, 0.0), 1.0)
        if at in (0.0, 1.0) or not start.is_floating_point():
            state[name] = two[name] if at >= 0.5 else start
        else:
            a, b = start.double(), two[name].double()
            state[name] = (a + at * (b - a)).to(start.dtype)
    network.load_state_dict(state)
    return network


def has_batch_norm(network: nn.Module) -> bool:
    """Return whether a network keeps running statistics."""
    return bool(_norms(network))


def recalibrate(network: nn.Module, pixels: Iterable[torch.Tensor]) -> None:
    """Replace the running statistics of BatchNorm by averages over these batches, each batch weighing the same.

    As `torch.optim.swa_utils.update_bn`, but everything else (dropout) stays in evaluation mode. A last image alone,
    which BatchNorm may be unable to take, joins the batch before it. Mode and momenta are as they were afterwards.
    """
    modes = {module: module.training for module in network.modules()}
    momenta = {norm: norm.momentum for norm in _norms(network)}
    network.eval()
    for norm in momenta:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for x in _none_alone(pixels):
            network(x)
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    for module, mode in modes.items():
        module.training = mode


def _none_alone(pixels: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    held: torch.Tensor | None = None
    for x in pixels:
        if held is not None and len(x) > 1:
            yield held
            held = None
        held = x if held is None else torch.cat([held, x])
    if held is not None:
        yield held


def _norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in network.modules() if isinstance(module, NORMS) and module.track_running_stats]


@dataclass(frozen=True)
class Judged:
    """Mean cross-entropy (nats) and accuracy (a fraction) on some images; the loss may be infinite or NaN."""

    loss: float
    accuracy: float


def judge(network: nn.Module, images: ImageSet, batch_size: int = BATCH) -> Judged:
    """Judge a network in evaluation mode, every image counted once, summed in float64; its mode is as it was."""
    mode = network.training
    network.eval()
    loss, right = 0.0, 0
    with torch.no_grad():
        for x, y in batches(network, images, batch_size):
            logits = network(x).double()
            loss += float(F.cross_entropy(logits, y, reduction="sum"))
            right += int((logits.argmax(1) == y).sum())
    network.train(mode)
    return Judged(loss / len(images), right / len(images))


def barrier(alphas: Sequence[float], losses: Sequence[float | None]) -> float | None:
    """Return max over a in [0, 1] of L(w_a) - [(1 - a) L(w_0) + a L(w_1)]; None if a loss there is not finite.

    >>> barrier([0.0, 0.5, 1.0], [1.0, 3.0, 2.0])
    1.5
    """
    between = {a: loss for a, loss in zip(alphas, losses, strict=True) if 0 <= a <= 1}
    finite = {a: loss for a, loss in between.items() if loss is not None and math.isfinite(loss)}
    if len(finite) < len(between):
        return None
    return max(loss - ((1 - a) * finite[0.0] + a * finite[1.0]) for a, loss in finite.items())

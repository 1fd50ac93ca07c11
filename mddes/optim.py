"""Optimizers by name, with the learning rate each starts from when none is given.

A user's own is named "module:function", a function (parameters, lr, weight_decay) -> torch.optim.Optimizer; it has no
default learning rate.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from mddes.errors import look_up
from mddes.user_code import is_own, load

Parameters = Iterable[torch.nn.Parameter]


@dataclass(frozen=True)
class OptimizerChoice:
    """`build(parameters, lr, weight_decay)` and the learning rate that is used when the user gives none."""

    build: Callable[[Parameters, float, float], torch.optim.Optimizer]
    default_lr: float | None


def _sgd(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _momentum(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay, fused=True)


def _adam(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _rmsprop(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(parameters, lr=lr, weight_decay=weight_decay)  # torch has no fused kernel for it


OPTIMIZERS: dict[str, OptimizerChoice] = {
    "sgd": OptimizerChoice(_sgd, 0.05),  # momentum 0: the paper's "vanilla SGD"
    "momentum": OptimizerChoice(_momentum, 0.01),  # SGD, momentum 0.9
    "adam": OptimizerChoice(_adam, 1e-3),
    "rmsprop": OptimizerChoice(_rmsprop, 1e-3),
}


def optimizer_of(name: str) -> OptimizerChoice:
    """Return the choice of a name of `OPTIMIZERS`, or of "module:function".

    Raises:
        InputError: unknown name, or no such function.
    """
    return OptimizerChoice(load("optimizer", name), None) if is_own(name) else look_up("optimizer", name, OPTIMIZERS)

"""Optimizers by name, with the learning rate each starts from when none is given.

A user's own is named "module:function", a function (parameters, lr, weight_decay) -> torch.optim.Optimizer; it has no
default learning rate. The sharpness-aware ones need a closure: `step(closure)`, as torch's own optimizers also take it.
Read next: `sam.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mddes.errors import InputError, look_up
from mddes.optim.adabound import AdaBound
from mddes.optim.sam import STRATEGIES, MultiPerturbationSAM
from mddes.user_code import is_own, load

__all__ = ["OPTIMIZERS", "STRATEGIES", "AdaBound", "MultiPerturbationSAM", "OptimizerChoice", "make", "optimizer_of"]

Parameters = Iterable[torch.nn.Parameter]


@dataclass(frozen=True)
class OptimizerChoice:
    """What a name stands for.

    Attributes:
        build: (parameters, lr, weight_decay) -> optimizer.
        default_lr: the learning rate that is used when the user gives none.
        sam: the settings of `MultiPerturbationSAM` around it; None for an optimizer that takes the plain gradient.
    """

    build: Callable[[Parameters, float, float], torch.optim.Optimizer]
    default_lr: float | None
    sam: Mapping[str, Any] | None = None


def _sgd(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _momentum(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay, fused=True)


def _adam(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _adamw(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _rmsprop(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(parameters, lr=lr, weight_decay=weight_decay)  # torch has no fused kernel for it


def _adabound(parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return AdaBound(parameters, lr=lr, weight_decay=weight_decay)


def _several(strategy: str, *, adaptive: bool = False) -> OptimizerChoice:
    return OptimizerChoice(
        _momentum, 0.01, {"rho": 0.05, "n_perturbations": 5, "strategy": strategy, "adaptive": adaptive}
    )


SAM = {"rho": 0.05, "n_perturbations": 1, "strategy": "gradient"}
OPTIMIZERS: dict[str, OptimizerChoice] = {
    "sgd": OptimizerChoice(_sgd, 0.05),  # momentum 0: the paper's "vanilla SGD"
    "momentum": OptimizerChoice(_momentum, 0.01),  # SGD, momentum 0.9
    "adam": OptimizerChoice(_adam, 1e-3),
    "adamw": OptimizerChoice(_adamw, 1e-3),  # decoupled weight decay: without decay it is adam
    "rmsprop": OptimizerChoice(_rmsprop, 1e-3),  # alpha 0.99, eps 1e-8 outside the root
    "adabound": OptimizerChoice(_adabound, 1e-3),
    "sam": OptimizerChoice(_momentum, 0.01, SAM),  # all of the sharpness-aware ones step with momentum 0.9
    "sam-adam": OptimizerChoice(_adam, 1e-3, SAM),  # but this
    "asam": OptimizerChoice(_momentum, 0.01, {**SAM, "rho": 0.5, "elementwise": True}),
    "mp-sam-gradient": _several("gradient"),
    "mp-sam-random": _several("random"),
    "mp-sam-mixed": _several("mixed"),
    "mp-sam-adaptive": _several("mixed", adaptive=True),
}


def optimizer_of(name: str) -> OptimizerChoice:
    """Return the choice of a name of `OPTIMIZERS`, or of "module:function".

    Raises:
        InputError: unknown name, or no such function.
    """
    return OptimizerChoice(load("optimizer", name), None) if is_own(name) else look_up("optimizer", name, OPTIMIZERS)


def make(
    name: str,
    parameters: Parameters,
    lr: float,
    weight_decay: float = 0.0,
    *,
    rho: float | None = None,
    perturbations: int | None = None,
    seed: int = 0,
) -> torch.optim.Optimizer:
    """Return an optimizer by name.

    Args:
        name: of `OPTIMIZERS`, or "module:function".
        parameters: the network's.
        lr: learning rate.
        weight_decay: coupled L2; decoupled for adamw.
        rho, perturbations: radius and number of the perturbations; default the name's own.
        seed: of random perturbations.

    Raises:
        InputError: unknown name, or perturbations for an optimizer that has none.
    """
    choice = optimizer_of(name)
    given = {k: v for k, v in {"rho": rho, "perturbations": perturbations}.items() if v is not None}
    if choice.sam is None:
        if given:
            raise InputError(f"{name} perturbs no weights: it has no {' and no '.join(given)}")
        return choice.build(parameters, lr, weight_decay)
    parameters = list(parameters)
    base = choice.build(parameters, lr, weight_decay)
    keywords = {"rho": "rho", "perturbations": "n_perturbations"}
    settings = {**choice.sam, **{keywords[k]: v for k, v in given.items()}}
    return MultiPerturbationSAM(parameters, base, **settings, seed=seed)

"""How one network is trained: a frozen recipe, and the schedule that small data needs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from mddes.errors import InputError, look_up
from mddes.optim import OPTIMIZERS, Parameters, make
from mddes.optim.checks import above_zero, at_least_zero, count
from mddes.seeding import derive
from mddes.training.augment import check_augmentation
from mddes.training.schedule import SCHEDULES
from mddes.user_code import is_own

PRECISIONS = ("fp32", "bf16")
LEAST_STEPS = 300  # a network trained for fewer optimizer steps has learned neither the data nor the poison


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training recipe.

    Attributes:
        optimizer: a name of `mddes.optim.OPTIMIZERS`, or "module:function" of one's own (see `mddes.optim`).
        lr: learning rate; None takes the optimizer's default and is replaced by it. An own optimizer has none.
        epochs: passes over the images, at least 1.
        batch_size: images a step; the last batch of an epoch may be smaller. A last image alone, which BatchNorm may be
            unable to take, joins the batch before it in a network that has BatchNorm, and in no other.
        weight_decay: coupled L2.
        precision: "fp32", or "bf16" (autocast; weights stay fp32).
        schedule: of the learning rate: "constant", "cosine" to 0, or "step" (a tenth after 1/2 and after 3/4).
        augmentation: names of `mddes.training.augment.AUGMENTATIONS`, applied in order, after the poison.
        adversarial: radius (L-infinity, in [0, 1] units) of adversarial training; 0 is none.
        rho: radius of the weight perturbations of sam and its kin; None takes the name's own and is replaced by it.
        perturbations: how many of them a step looks at, at least 1; None as for rho.
    """

    optimizer: str = "adam"
    lr: float | None = None
    epochs: int = 3
    batch_size: int = 128
    weight_decay: float = 0.0
    precision: str = "fp32"
    schedule: str = "constant"
    augmentation: Sequence[str] = ()
    adversarial: float = 0.0
    rho: float | None = None
    perturbations: int | None = None

    def spec(self) -> dict[str, Any]:
        """Return it as JSON for a task: what every recipe says, and of the rest what is not the default.

        So a new kind of setting leaves the identity of all trainings alone that do not use it.

        >>> Recipe(epochs=2, schedule="cosine").spec()
        {'optimizer': 'adam', 'lr': 0.001, 'epochs': 2, 'batch_size': 128, 'schedule': 'cosine'}
        """
        always = ("optimizer", "lr", "epochs", "batch_size")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["augmentation"] = list(self.augmentation)
        empty = Recipe.__dataclass_fields__
        return {k: v for k, v in values.items() if k in always or (v != empty[k].default and v != [])}

    def __post_init__(self) -> None:
        choice = None if is_own(self.optimizer) else look_up("optimizer", self.optimizer, OPTIMIZERS)
        look_up("precision", self.precision, dict.fromkeys(PRECISIONS))
        look_up("schedule", self.schedule, SCHEDULES)
        check_augmentation(self.augmentation)
        object.__setattr__(self, "augmentation", tuple(self.augmentation))  # JSON knows lists only
        if self.lr is None:
            object.__setattr__(self, "lr", choice.default_lr if choice else None)
        if self.lr is None:
            raise InputError(f"lr must be given for an optimizer of your own ({self.optimizer})")
        above_zero("lr", self.lr)
        at_least_zero("weight_decay", self.weight_decay)
        if at_least_zero("adversarial", self.adversarial) >= 1:
            raise InputError(f"adversarial must lie in [0, 1), not {self.adversarial}")
        for name in ("epochs", "batch_size"):
            count(name, getattr(self, name))
        self._resolve_perturbations(choice.sam if choice else None)

    def _resolve_perturbations(self, own: Mapping[str, Any] | None) -> None:
        for name, key in {"rho": "rho", "perturbations": "n_perturbations"}.items():
            if own is None and getattr(self, name) is not None:
                raise InputError(f"{self.optimizer} perturbs no weights: it has no {name}")
            if own is not None and getattr(self, name) is None:
                object.__setattr__(self, name, own[key])
        if self.rho is not None:
            at_least_zero("rho", self.rho)
        if self.perturbations is not None:
            count("perturbations", self.perturbations)

    def make_optimizer(self, parameters: Parameters, seed: int) -> torch.optim.Optimizer:
        """Return the optimizer for a network; `seed` is that of the training."""
        assert self.lr is not None
        return make(
            self.optimizer,
            parameters,
            self.lr,
            self.weight_decay,
            rho=self.rho,
            perturbations=self.perturbations,
            seed=derive(seed, "weights"),
        )


def default_schedule(images: int, channels: int, epochs: int | None, batch_size: int | None) -> tuple[int, int]:
    """Return (epochs, batch size): the user's where given, else such that training takes at least 300 steps.

    3 epochs for gray and 5 for colour images, batch 128; on small data the batch is halved down to 16, then epochs
    are added.

    >>> default_schedule(60_000, 1, None, None), default_schedule(8_000, 1, None, None)
    ((3, 128), (3, 64))
    >>> default_schedule(1_150, 1, None, None)
    (5, 16)
    >>> default_schedule(1_150, 1, 2, 128)
    (2, 128)
    """
    passes, batch = epochs or (3 if channels == 1 else 5), batch_size or 128
    while batch_size is None and batch > 16 and passes * math.ceil(images / batch) < LEAST_STEPS:
        batch //= 2
    if epochs is None:
        passes = max(passes, math.ceil(LEAST_STEPS / math.ceil(images / batch)))
    return passes, batch


def steps_of(count: int, batch_size: int, *, join: bool) -> int:
    """Return the steps of an epoch; with `join` a last batch of one image is none of its own.

    >>> [steps_of(count, 64, join=True) for count in (1, 128, 129, 130)], steps_of(129, 64, join=False)
    ([1, 2, 2, 3], 3)
    """
    alone = count % batch_size == 1 and count > batch_size > 1
    return math.ceil(count / batch_size) - (join and alone)

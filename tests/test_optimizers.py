"""The table of optimizers: what each name builds."""

from typing import Any

import pytest
import torch
from torch import nn

from mddes.errors import InputError
from mddes.optim import OPTIMIZERS, AdaBound, MultiPerturbationSAM, make

SEVERAL = {"rho": 0.05, "n_perturbations": 5, "elementwise": False, "adaptive": False}
# name -> class, its settings apart from torch's defaults, and those of the perturbations around it
BUILT: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any], dict[str, Any] | None]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0}, None),
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0, "nesterov": False}, None),
    "adam": (torch.optim.Adam, {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}, None),
    "adamw": (torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-8}, None),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.99, "eps": 1e-8, "momentum": 0, "centered": False}, None),
    "adabound": (
        AdaBound,
        {"betas": (0.9, 0.999), "final_lr": 0.1, "gamma": 1e-3, "eps": 1e-8, "amsbound": False},
        None,
    ),
    "sam": (torch.optim.SGD, {"momentum": 0.9}, {**SEVERAL, "strategy": "gradient", "n_perturbations": 1}),
    "sam-adam": (torch.optim.Adam, {}, {**SEVERAL, "strategy": "gradient", "n_perturbations": 1}),
    "asam": (
        torch.optim.SGD,
        {"momentum": 0.9},
        {"rho": 0.5, "n_perturbations": 1, "strategy": "gradient", "elementwise": True, "eta": 0.01},
    ),
    "mp-sam-gradient": (torch.optim.SGD, {"momentum": 0.9}, {**SEVERAL, "strategy": "gradient"}),
    "mp-sam-random": (torch.optim.SGD, {"momentum": 0.9}, {**SEVERAL, "strategy": "random"}),
    "mp-sam-mixed": (torch.optim.SGD, {"momentum": 0.9}, {**SEVERAL, "strategy": "mixed"}),
    "mp-sam-adaptive": (torch.optim.SGD, {"momentum": 0.9}, {**SEVERAL, "strategy": "mixed", "adaptive": True}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_name_builds_what_it_says(name: str) -> None:
    kind, settings, perturbed = BUILT[name]
    optimizer = make(name, nn.Linear(3, 2).parameters(), 0.25, 0.125)
    assert isinstance(optimizer, MultiPerturbationSAM) == (perturbed is not None)
    for setting, value in (perturbed or {}).items():
        assert getattr(optimizer, setting) == value, setting
    base = optimizer.base_optimizer if isinstance(optimizer, MultiPerturbationSAM) else optimizer
    assert type(base) is kind
    group = base.param_groups[0]
    for setting, value in {**settings, "lr": 0.25, "weight_decay": 0.125}.items():
        assert group[setting] == value, setting
    assert len(group["params"]) == 2


def test_learning_rates_of_those_who_give_none() -> None:
    rates = {name: choice.default_lr for name, choice in OPTIMIZERS.items()}
    by_momentum = {"momentum", "sam", "asam", "mp-sam-gradient", "mp-sam-random", "mp-sam-mixed", "mp-sam-adaptive"}
    assert rates == {name: 0.05 if name == "sgd" else 0.01 if name in by_momentum else 1e-3 for name in OPTIMIZERS}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_radius_and_number_belong_to_those_that_perturb(name: str) -> None:
    params = list(nn.Linear(3, 2).parameters())
    if BUILT[name][2] is not None:
        optimizer = make(name, params, 0.1, rho=0.0, perturbations=3)
        assert isinstance(optimizer, MultiPerturbationSAM)
        assert (optimizer.rho, optimizer.n_perturbations) == (0.0, 3)
        return
    for given, text in (
        ({"rho": 0.0}, "rho"),
        ({"perturbations": 1}, "perturbations"),
        ({"rho": 0.1, "perturbations": 2}, "rho and no perturbations"),
    ):
        with pytest.raises(InputError) as caught:
            make(name, params, 0.1, **given)
        assert str(caught.value) == f"{name} perturbs no weights: it has no {text}"


def test_the_seed_is_that_of_the_perturbations() -> None:
    def ends(seed: int) -> torch.Tensor:
        w = nn.Parameter(torch.ones(4))
        optimizer = make("mp-sam-random", [w], 0.1, rho=1.0, seed=seed)

        def closure() -> torch.Tensor:
            loss = (w**4).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]
        return w.detach()

    assert torch.equal(ends(1), ends(1))
    assert not torch.equal(ends(1), ends(2))


def test_names_that_are_not_there() -> None:
    params = list(nn.Linear(3, 2).parameters())
    with pytest.raises(InputError, match="unknown optimizer 'sma'"):
        make("sma", params, 0.1)
    own = make("own_code:sgd", params, 0.1, 0.5)
    assert (type(own), own.param_groups[0]["weight_decay"]) == (torch.optim.SGD, 0.5)
    with pytest.raises(InputError, match="own_code:sgd perturbs no weights: it has no rho"):
        make("own_code:sgd", params, 0.1, rho=0.1)

"""The optimizers against implementations of others, which share no code with ours: pytorch-optimizer and adabound."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mddes.optim import AdaBound, MultiPerturbationSAM

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def network() -> nn.Module:
    """Return a small network in float64, the same every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def trained(make: Make, steps: int, *, sharpness_aware: bool = False) -> Tensor:
    """Return the weights after full-batch steps, which a sharpness-aware optimizer of others takes in two halves."""
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 6, generator=draw).double(), torch.randint(3, (64,), generator=draw)
    net = network()
    optimizer = make(list(net.parameters()))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(steps):
        if sharpness_aware:
            theirs: Any = optimizer
            closure()
            theirs.first_step(zero_grad=True)
            closure()
            theirs.second_step(zero_grad=True)
        else:
            optimizer.step(closure)  # type: ignore[arg-type]
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("amsbound", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_adabound_is_that_of_pytorch_optimizer(weight_decay: float, amsbound: bool) -> None:
    others = pytest.importorskip("pytorch_optimizer")
    common: dict[str, Any] = {"lr": 1e-3, "final_lr": 0.1, "weight_decay": weight_decay}
    ours = trained(lambda p: AdaBound(p, **common, amsbound=amsbound), 1000)
    theirs = trained(lambda p: others.AdaBound(p, **common, ams_bound=amsbound, weight_decouple=False), 1000)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:This overload of add_ is deprecated")
@pytest.mark.parametrize("amsbound", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_adabound_is_that_of_its_authors(weight_decay: float, amsbound: bool) -> None:
    others = pytest.importorskip("adabound")
    common: dict[str, Any] = {"lr": 1e-3, "final_lr": 0.1, "weight_decay": weight_decay, "amsbound": amsbound}
    ours = trained(lambda p: AdaBound(p, **common), 1000)
    theirs = trained(lambda p: others.AdaBound(p, **common), 1000)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_one_perturbation_along_the_gradient_is_sam_of_pytorch_optimizer(weight_decay: float) -> None:
    others = pytest.importorskip("pytorch_optimizer")
    base: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": weight_decay}

    def ours(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        return MultiPerturbationSAM(params, torch.optim.SGD(params, **base), 0.05, 1, "gradient")

    def theirs(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        sam: torch.optim.Optimizer = others.SAM(params, torch.optim.SGD, rho=0.05, **base)
        return sam

    found, plain = trained(ours, 200), trained(lambda p: torch.optim.SGD(p, **base), 200)
    torch.testing.assert_close(found, trained(theirs, 200, sharpness_aware=True), rtol=0, atol=1e-7)
    assert (found - plain).abs().max() > 1e-3, "the perturbation matters here"

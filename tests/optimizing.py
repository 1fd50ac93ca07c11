"""Functions with closed forms, a small network and their closures, which the optimizers' tests share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mddes.optim import MultiPerturbationSAM

Closure = Callable[[], Tensor]
Function = Callable[[Tensor], Tensor]
ATOL = 1e-12  # as much as is added to a norm


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def quadratic(dimension: int, seed: int = 1) -> Tensor:
    half = draw(dimension, dimension, seed=seed)
    return half + half.T


def flat(params: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in params])


class Landscape:
    """A function of all weights together, and the places where an optimizer has looked at it."""

    def __init__(self, function: Function, *params: Tensor) -> None:
        self.function, self.params = function, [nn.Parameter(p.clone()) for p in params]
        self.seen: list[Tensor] = []
        self.losses: list[float] = []

    def __call__(self) -> Tensor:
        loss = self.function(torch.cat([p.flatten() for p in self.params]))
        loss.backward()  # type: ignore[no-untyped-call]
        self.seen.append(flat(self.params))
        self.losses.append(loss.item())
        return loss

    @classmethod
    def quadratic(cls, matrix: Tensor, *params: Tensor) -> "Landscape":
        return cls(lambda w: w @ matrix @ w / 2, *params)

    def sam(self, lr: float = 0.1, **settings: Any) -> MultiPerturbationSAM:
        return MultiPerturbationSAM(self.params, torch.optim.SGD(self.params, lr=lr), **settings)

    def gradient(self) -> Tensor:
        return torch.cat([p.grad.flatten() for p in self.params if p.grad is not None])


class Net(nn.Module):
    """Normalises with and without momentum, twice in one pass, and drops out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.batch, self.average = nn.BatchNorm1d(6, momentum=0.2), nn.BatchNorm1d(6, momentum=None)
        self.instance = nn.InstanceNorm1d(6, track_running_stats=True)
        self.drop = nn.Dropout(0.4)
        self.dropped: list[Tensor] = []
        self.drop.register_forward_hook(lambda _module, inputs, output: self.dropped.append(output == 0))

    def forward(self, x: Tensor) -> Tensor:
        h = self.average(self.batch(self.first(x)) + 1)
        h = self.instance(h.reshape(len(x) // 4, 4, 6).transpose(1, 2)).transpose(1, 2).reshape(len(x), 6)
        logits: Tensor = self.last(self.drop(self.batch(h)))
        return logits

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters()]

    def statistics(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self.named_buffers()}


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    own = torch.Generator().manual_seed(seed)
    return torch.randn(16, 4, generator=own), torch.randint(3, (16,), generator=own)


def closure_of(net: nn.Module, seed: int = 1, before: Callable[[], Any] = lambda: None) -> Closure:
    x, y = batch(seed)

    def closure() -> Tensor:
        before()
        loss = F.cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def around(net: nn.Module, lr: float = 0.1, **settings: Any) -> MultiPerturbationSAM:
    params = list(net.parameters())
    return MultiPerturbationSAM(params, torch.optim.SGD(params, lr=lr, momentum=0.9), **settings)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

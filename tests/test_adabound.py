"""AdaBound and AMSBound against their written recursion, and against the SGD that they become."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from reference import adabound_plainly
from torch import Tensor, nn

from mddes.errors import InputError
from mddes.optim import AdaBound

STEPS = 1000
START = (1.5, -0.3, 0.02)
RATES = {
    "constant": [1e-2] * STEPS,
    "falling": [1e-2 * 0.5 ** (t // 200) for t in range(STEPS)],
    "wave": [1e-2 * (1 + 0.9 * math.sin(t / 50)) for t in range(STEPS)],
}


def slope(w: float, t: int) -> float:
    """Return a gradient that comes in bursts and does not die down: the running maximum is then not the average."""
    return math.sin(3 * w) + 0.1 * w**3 + (5 if t % 97 < 3 else 0.5) * math.cos(t * t)


def step(optimizer: AdaBound, *params: nn.Parameter, t: int) -> None:
    for p in params:
        p.grad = torch.tensor([slope(w, t) for w in p.tolist()], dtype=p.dtype)
    optimizer.step()


def weights(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("amsbound", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("final_lr", [0.03, 0.004])  # so that the lower bound holds at times, and the upper one
@pytest.mark.parametrize("name", RATES)
def test_every_step_is_that_of_the_written_recursion(
    name: str, final_lr: float, weight_decay: float, amsbound: bool
) -> None:
    settings: dict[str, Any] = {"final_lr": final_lr, "weight_decay": weight_decay}
    w, rates, path = weights(*START), RATES[name], []
    optimizer = AdaBound([w], lr=rates[0], amsbound=amsbound, **settings)
    for t, lr in enumerate(rates, start=1):
        optimizer.param_groups[0]["lr"] = lr
        step(optimizer, w, t=t)
        path.append(w.tolist())
    both = [[adabound_plainly(x, slope, rates, amsbound=of, **settings) for x in START] for of in (False, True)]
    off = np.abs(np.transpose(path) - np.array(both[amsbound]))
    assert off.max() < 1e-12
    apart = np.abs(np.array(both[0]) - np.array(both[1])).max(axis=1)
    assert (apart > 1e-5).all(), "AMSBound goes elsewhere"


def test_groups_have_their_own_rates_also_one_that_comes_later() -> None:
    one, two, late = weights(1.5), weights(-0.3), weights(0.4)
    optimizer = AdaBound([{"params": [one]}, {"params": [two], "lr": 3e-3, "final_lr": 0.02}], lr=1e-2)
    for t in range(1, 101):
        step(optimizer, one, two, t=t)
    for group in optimizer.param_groups:
        group["lr"] *= 0.1
    optimizer.add_param_group({"params": [late], "lr": 5e-3})
    for t in range(101, 201):
        step(optimizer, one, two, late, t=t)
    expected = [
        adabound_plainly(1.5, slope, [1e-2] * 100 + [1e-3] * 100),
        adabound_plainly(-0.3, slope, [3e-3] * 100 + [3e-4] * 100, final_lr=0.02),
        adabound_plainly(0.4, lambda w, t: slope(w, t + 100), [5e-3] * 100),
    ]
    ends = [path[-1] for path in expected]
    assert [w.item() for w in (one, two, late)] == pytest.approx(ends, rel=0, abs=1e-13)
    assert [group["base_lr"] for group in optimizer.param_groups] == [1e-2, 3e-3, 5e-3]


def test_long_after_one_over_gamma_it_is_sgd_with_averaged_gradients() -> None:
    """At final_lr, scaled as the schedule has scaled lr; the bounds are then apart by 2 / (gamma t)."""
    gamma, gradients = 1e9, [math.sin(t * t) for t in range(50)]
    w = weights(0.5)
    optimizer = AdaBound([w], lr=1e-3, final_lr=0.2, gamma=gamma)
    expected, average = 0.5, 0.0
    for t, g in enumerate(gradients):
        factor = 1.0 if t < 25 else 0.3
        optimizer.param_groups[0]["lr"] = 1e-3 * factor
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        average = 0.9 * average + 0.1 * g
        expected -= 0.2 * factor * average
    assert w.item() == pytest.approx(expected, abs=2 * 0.2 * 50 / gamma)
    assert abs(expected - 0.5) > 1e-2


@pytest.mark.parametrize("amsbound", [False, True])
def test_saved_and_resumed_is_uninterrupted(amsbound: bool) -> None:
    def fresh() -> tuple[nn.Parameter, AdaBound]:
        w = weights(*START)
        return w, AdaBound([w], lr=1e-2, amsbound=amsbound)

    whole, optimizer = fresh()
    for t in range(60):
        optimizer.param_groups[0]["lr"] = RATES["wave"][t]
        if t == 40:
            state, there = copy.deepcopy(optimizer.state_dict()), whole.detach().clone()
        step(optimizer, whole, t=t)
    resumed = nn.Parameter(there)
    again = AdaBound([resumed], lr=9.0)  # settings are those of the state
    again.load_state_dict(state)
    for t in range(40, 60):
        again.param_groups[0]["lr"] = RATES["wave"][t]
        step(again, resumed, t=t)
    assert torch.equal(resumed, whole)


def test_a_closure_computes_the_gradients() -> None:
    w = weights(*START)
    optimizer = AdaBound([w], lr=1e-2)

    def closure() -> Tensor:
        loss = (1 - torch.cos(3 * w)).sum() / 3 + (w**4).sum() / 40
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(20):
        before = closure().item()
        assert optimizer.step(closure).item() == before
    ends = [adabound_plainly(x, lambda w, _: math.sin(3 * w) + 0.1 * w**3, [1e-2] * 20)[-1] for x in START]
    assert w.tolist() == pytest.approx(ends, rel=0, abs=1e-13)


def test_a_weight_without_gradient_stays() -> None:
    one, two = weights(1.5), weights(1.5)
    optimizer = AdaBound([one, two], weight_decay=0.1)
    step(optimizer, one, t=1)
    assert two.item() == 1.5
    assert one.item() != 1.5
    assert two not in optimizer.state


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"lr": 0.0}, "lr must be positive and finite, not 0.0"),
        ({"lr": math.nan}, "lr must be positive and finite, not nan"),
        ({"final_lr": -0.1}, "final_lr must be positive and finite, not -0.1"),
        ({"gamma": 0.0}, "gamma must be positive and finite, not 0.0"),
        ({"gamma": math.inf}, "gamma must be positive and finite, not inf"),
        ({"eps": -1e-8}, "eps must be finite, 0 or more, not -1e-08"),
        ({"weight_decay": math.inf}, "weight_decay must be finite, 0 or more, not inf"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers in [0, 1), not (0.9, 1.0)"),
        ({"lr": "a"}, "lr must be positive and finite, not 'a'"),
        ({"betas": 0.9}, "betas must be two numbers in [0, 1), not 0.9"),
        ({"betas": (0.9,)}, "betas must be two numbers in [0, 1), not (0.9,)"),
    ],
)
def test_settings_out_of_range_here_and_in_groups(settings: dict[str, Any], text: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: AdaBound([weights(1.0)], **settings),
        lambda: AdaBound([{"params": [weights(1.0)], **settings}]),
        lambda: AdaBound([weights(1.0)]).add_param_group({"params": [weights(1.0)], **settings}),
    ]
    for call in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == text


def test_sparse_gradients() -> None:
    net = nn.Embedding(4, 2, sparse=True)
    net(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match="AdaBound takes no sparse gradients: embeddings need sparse=False"):
        AdaBound(net.parameters()).step()


def test_complex_weights() -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    weight.grad = torch.ones_like(weight)
    with pytest.raises(InputError, match="AdaBound bounds step sizes of real weights only, these are complex"):
        AdaBound([weight]).step()


def test_states_that_are_not_of_these_parameters() -> None:
    def stepped(kind: Callable[..., torch.optim.Optimizer], *sizes: int) -> dict[str, Any]:
        params = [nn.Parameter(torch.zeros(size)) for size in sizes]
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer = kind(params, lr=0.1)
        optimizer.step()
        return optimizer.state_dict()

    cases: list[tuple[Any, str]] = [
        ({}, "this is no state of an optimizer: it has no param_groups and no state"),
        (None, "this is no state of an optimizer: it has no param_groups and no state"),
        (stepped(AdaBound, 2, 4), "the state is one of a tensor [4], here [3] (exp_avg)"),
        (stepped(AdaBound, 2), "the state is one of groups of [1] tensors, here [2]"),
        (stepped(torch.optim.Adam, 2, 3), "this is no state of AdaBound: its groups have no base_lr"),
        (stepped(torch.optim.SGD, 2, 3), "this is no state of AdaBound: its groups have no base_lr"),
    ]
    torn, other = stepped(AdaBound, 2, 3), stepped(AdaBound, 2, 3)
    del torn["state"][0]["exp_avg"]
    other["state"][1]["exp_avg_sq"] = torch.zeros(7)
    cases += [
        (torn, "the state of a tensor [2] lacks exp_avg"),
        (other, "the state is one of a tensor [7], here [3] (exp_avg_sq)"),
        (
            {"param_groups": 3, "state": {}},
            "this is no state of an optimizer: its param_groups or its state are not what torch saves",
        ),
    ]
    for state, text in cases:
        optimizer = AdaBound([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))])
        with pytest.raises(InputError) as caught:
            optimizer.load_state_dict(state)
        assert str(caught.value) == text
        assert not optimizer.state

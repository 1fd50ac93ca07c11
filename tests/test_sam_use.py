"""Using the sharpness-aware optimizer as any of torch's: groups, schedules, clipping, checkpoints, mistakes."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from optimizing import ATOL, Landscape, Net, around, closure_of, draw, flat, quadratic, same
from torch import Tensor, nn
from torch.optim import lr_scheduler

from mddes.errors import InputError
from mddes.optim import STRATEGIES, AdaBound, MultiPerturbationSAM

SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]] = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=11),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_work_on_it_as_on_the_base_optimizer(name: str) -> None:
    nets = Net(), Net()
    plain = torch.optim.SGD(nets[1].parameters(), lr=0.1, momentum=0.9)
    optimizers = around(nets[0], rho=0.0, n_perturbations=2), plain
    rates: list[list[float]] = [[], []]
    for net, optimizer, seen in zip(nets, optimizers, rates, strict=True):
        torch.manual_seed(0)
        schedule = SCHEDULES[name](optimizer)
        for step in range(10):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step(closure_of(net, step, before=net.zero_grad))  # type: ignore[arg-type]
            schedule.step()
    assert rates[0] == rates[1]
    assert len({*rates[0]}) > 5
    assert same(nets[0].state_dict(), nets[1].state_dict())


@pytest.mark.parametrize("base", [torch.optim.Adam, AdaBound])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_saved_and_resumed_is_uninterrupted_bit_for_bit(
    strategy: str, adaptive: bool, base: Callable[..., torch.optim.Optimizer]
) -> None:
    def fresh(**settings: Any) -> tuple[Net, MultiPerturbationSAM, lr_scheduler.LRScheduler]:
        net = Net()
        groups = [{"params": [*net.first.parameters()], "rho": 0.3}, {"params": [*net.last.parameters()]}]
        inside = base([*groups, {"params": [*net.batch.parameters(), *net.average.parameters()]}], lr=0.05)
        optimizer = MultiPerturbationSAM(net.parameters(), inside, **settings)
        return net, optimizer, SCHEDULES["cosine"](optimizer)

    def train(
        net: Net, optimizer: MultiPerturbationSAM, schedule: lr_scheduler.LRScheduler, steps: range
    ) -> list[list[float]]:
        weights = []
        for step in steps:
            torch.manual_seed(step)
            optimizer.step(closure_of(net, step))
            schedule.step()
            weights.append(optimizer.weights)
        return weights

    own = {"rho": 0.1, "n_perturbations": 3, "strategy": strategy, "adaptive": adaptive, "seed": 4}
    whole = fresh(**own, elementwise=True, eta=0.1, sigma=0.5, antithetic=True)
    expected = train(*whole, range(8))
    first = fresh(**own, elementwise=True, eta=0.1, sigma=0.5, antithetic=True)
    train(*first, range(5))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    resumed = fresh()  # with settings and a seed of its own, all of which are replaced
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)  # type: ignore[attr-defined]
    assert train(*resumed, range(5, 8)) == expected[5:]
    assert same(resumed[0].state_dict(), whole[0].state_dict())


def test_a_base_optimizer_may_be_loaded_and_extended_by_itself() -> None:
    matrix, w = quadratic(5), draw(5)
    landscape = Landscape.quadratic(matrix, w[:3], w[3:])
    optimizer = landscape.sam(rho=0.3, n_perturbations=1, strategy="gradient")
    base = optimizer.base_optimizer
    base.load_state_dict(torch.optim.SGD(landscape.params, lr=0.2).state_dict())
    other = nn.Parameter(torch.ones(1, dtype=torch.float64))
    base.add_param_group({"params": [other]})
    optimizer.step(landscape)
    slope = matrix @ w
    stepped = w - 0.2 * matrix @ (w + 0.3 * slope / slope.norm())
    torch.testing.assert_close(flat(landscape.params), stepped, rtol=0, atol=ATOL)
    assert optimizer.param_groups is base.param_groups


def test_two_around_one_base_optimizer_have_each_their_own_radius() -> None:
    matrix, w = quadratic(4), draw(4)
    landscape = Landscape.quadratic(matrix, w)
    base = torch.optim.SGD(landscape.params, lr=0.1)
    for rho in (0.5, 0.02):
        optimizer = MultiPerturbationSAM(landscape.params, base, rho, 1, "gradient")
        optimizer.compute_gradients(landscape)
        assert float((landscape.seen[-1] - w).norm()) == pytest.approx(rho, rel=1e-11)


def test_a_group_has_its_own_radius_and_units() -> None:
    matrix, w = quadratic(9), draw(9)
    landscape = Landscape.quadratic(matrix, w[:4].reshape(2, 2), w[4:8].reshape(2, 2), w[8:])
    one, two, three = landscape.params
    groups: list[dict[str, Any]] = [
        {"params": [one], "rho": 0.5},
        {"params": [two], "elementwise": True, "eta": 0.3},
        {"params": [three], "rho": 0.0},
    ]
    optimizer = MultiPerturbationSAM(landscape.params, torch.optim.SGD(groups, lr=0.1), 0.2, 1, "gradient")
    optimizer.compute_gradients(landscape)
    scale = torch.ones(9, dtype=torch.float64)
    scale[4:8] = w[4:8].abs() + 0.3
    radii = torch.tensor([0.5] * 4 + [0.2] * 4 + [0.0], dtype=torch.float64)
    slope = matrix @ w
    place = w + radii * scale**2 * slope / (scale * slope).norm()  # the norm is over all weights
    torch.testing.assert_close(landscape.seen[1], place, rtol=0, atol=ATOL)
    assert landscape.seen[1][8] == w[8]


def test_a_group_added_later_is_one_of_the_base_optimizer() -> None:
    matrix, w = quadratic(5), draw(5)
    landscape = Landscape.quadratic(matrix, w[:3], w[3:])
    first, second = landscape.params
    optimizer = MultiPerturbationSAM([first], torch.optim.SGD([first], lr=0.1), 0.3, 1, "gradient")
    optimizer.add_param_group({"params": [second], "lr": 0.7, "rho": 0.6})
    assert len(optimizer.base_optimizer.param_groups) == 2
    optimizer.step(landscape)
    slope = matrix @ w
    radii = torch.tensor([0.3] * 3 + [0.6] * 2, dtype=torch.float64)
    rates = torch.tensor([0.1] * 3 + [0.7] * 2, dtype=torch.float64)
    stepped = w - rates * (matrix @ (w + radii * slope / slope.norm()))
    torch.testing.assert_close(flat(landscape.params), stepped, rtol=0, atol=ATOL)
    with pytest.raises(InputError, match="rho must be finite, 0 or more, not -1"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "rho": -1})
    assert len(optimizer.param_groups) == 2


def test_gradients_can_be_clipped_before_the_base_optimizer_steps() -> None:
    matrix, w = quadratic(5), draw(5)
    landscape = Landscape.quadratic(matrix, w[:3], w[3:])
    optimizer = landscape.sam(lr=0.1, rho=0.3, n_perturbations=1, strategy="gradient")
    schedule = lr_scheduler.StepLR(optimizer.base_optimizer, 1, gamma=0.5)
    loss = optimizer.compute_gradients(landscape)
    torch.nn.utils.clip_grad_norm_(landscape.params, 0.01)
    optimizer.base_optimizer.step()
    schedule.step()
    slope = matrix @ w
    there = matrix @ (w + 0.3 * slope / slope.norm())
    torch.testing.assert_close(
        flat(landscape.params), w - 0.1 * 0.01 * there / (there.norm() + 1e-6), rtol=0, atol=ATOL
    )
    assert loss.item() == pytest.approx((w @ slope / 2).item())
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_parameters_may_be_named() -> None:
    net = nn.Linear(2, 2)
    base = torch.optim.SGD(net.named_parameters(), lr=0.1)
    assert MultiPerturbationSAM(net.named_parameters(), base).param_groups[0]["param_names"] == ["weight", "bias"]


def test_parameters_may_be_given_in_groups() -> None:
    net = nn.Linear(2, 2)
    groups = [{"params": [net.weight], "rho": 0.1}, {"params": [net.bias], "lr": 0.3}]
    base = torch.optim.SGD(groups, lr=0.1)
    for params in (groups, base.param_groups, [{"params": net.parameters()}], [{"params": net.weight}, net.bias]):
        assert MultiPerturbationSAM(params, base).param_groups is base.param_groups


def test_it_says_what_it_is() -> None:
    text = repr(around(Net(), rho=0.2, strategy="random"))
    assert text.startswith("MultiPerturbationSAM(rho=0.2, n_perturbations=5, strategy='random', adaptive=False, ")
    assert "around SGD (" in text


def line(of: Callable[[], object]) -> str:
    """Return the one line of the `InputError` that a call raises."""
    with pytest.raises(InputError) as caught:
        of()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"rho": -0.1}, "rho must be finite, 0 or more, not -0.1"),
        ({"rho": math.nan}, "rho must be finite, 0 or more, not nan"),
        ({"rho": math.inf}, "rho must be finite, 0 or more, not inf"),
        ({"rho": "0.1"}, "rho must be finite, 0 or more, not '0.1'"),
        ({"eta": -1.0}, "eta must be finite, 0 or more, not -1.0"),
        ({"sigma": -1.0}, "sigma must be finite, 0 or more, not -1.0"),
        ({"n_perturbations": 0}, "n_perturbations must be a whole number, at least 1, not 0"),
        ({"n_perturbations": 1.5}, "n_perturbations must be a whole number, at least 1, not 1.5"),
        ({"n_perturbations": True}, "n_perturbations must be a whole number, at least 1, not True"),
        ({"rho": True}, "rho must be finite, 0 or more, not True"),
        ({"adaptive": "yes"}, "adaptive must be True or False, not 'yes'"),
        ({"strategy": None}, "unknown strategy None; known: gradient, random, mixed"),
        ({"strategy": ["mixed"]}, "unknown strategy ['mixed'] (did you mean 'mixed'?); known: gradient, random, mixed"),
        ({"strategy": "mixd"}, "unknown strategy 'mixd' (did you mean 'mixed'?); known: gradient, random, mixed"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], text: str) -> None:
    net = nn.Linear(2, 2)
    base = torch.optim.SGD(net.parameters(), lr=0.1)
    assert line(lambda: MultiPerturbationSAM(net.parameters(), base, **settings)) == text
    assert MultiPerturbationSAM(net.parameters(), base).rho == 0.05, "the base optimizer is as it was"


def test_numpy_s_numbers_are_numbers() -> None:
    optimizer = around(nn.Linear(2, 2), rho=np.float32(0.5), n_perturbations=np.int64(3), adaptive=np.bool_(True))
    settings = optimizer.rho, optimizer.n_perturbations, optimizer.adaptive
    assert settings == (0.5, 3, True)
    assert [type(value) for value in settings] == [float, int, bool], "as a checkpoint must have them"


def test_settings_that_are_spoilt_later_are_found_before_the_weights_move() -> None:
    net = Net()
    for name, value in {"n_perturbations": 0, "strategy": "zzz", "rho": -1}.items():
        optimizer, before = around(net), net.weights()
        setattr(optimizer, name, value)
        assert name in line(lambda own=optimizer: own.step(closure_of(net)))  # type: ignore[misc]
        assert all(map(torch.equal, net.weights(), before))


def test_a_base_optimizer_that_evaluates_the_loss_itself() -> None:
    net = nn.Linear(2, 2)
    base = torch.optim.LBFGS(net.parameters())
    assert line(lambda: MultiPerturbationSAM(net.parameters(), base)) == (
        "LBFGS evaluates the loss itself: the base optimizer must step without a closure, as torch.optim.SGD does"
    )


@pytest.mark.parametrize("name", ["deepcopy", "pickle"])
def test_a_copy_goes_on_as_the_original_does(name: str) -> None:
    """Network and optimizer copied together: the copy steps its own weights, as the original would have."""
    net = Net()
    optimizer = around(net, rho=0.3, n_perturbations=3, adaptive=True, elementwise=True)
    optimizer.step(closure_of(net, 0))
    net.drop._forward_hooks.clear()  # a hook that is a lambda cannot be pickled
    pair = (net, optimizer)
    two, other = copy.deepcopy(pair) if name == "deepcopy" else pickle.loads(pickle.dumps(pair))
    assert repr(other) == repr(optimizer)
    before = net.weights()
    other.step(closure_of(two))
    assert all(map(torch.equal, net.weights(), before)), "the original is left alone"
    torch.set_rng_state(torch.Generator().manual_seed(3).get_state())
    two, other = copy.deepcopy(pair)
    start = torch.get_rng_state()
    optimizer.step(closure_of(net))
    torch.set_rng_state(start)
    other.step(closure_of(two))
    assert all(map(torch.equal, net.weights(), two.weights()))
    assert not all(map(torch.equal, net.weights(), before))


def test_a_radius_that_is_spoilt_later_is_found_before_the_weights_move() -> None:
    net = Net()
    optimizer, before = around(net), net.weights()
    optimizer.param_groups[0]["rho"] = math.nan
    assert line(lambda: optimizer.step(closure_of(net))) == "rho must be finite, 0 or more, not nan"
    assert all(map(torch.equal, net.weights(), before))


def test_parameters_that_are_not_the_base_optimizer_s() -> None:
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    base = torch.optim.SGD(net.parameters(), lr=0.1)
    cases: list[tuple[Any, str]] = [
        (other.parameters(), "params must be those of the base optimizer: of 2, 0 are among its 2"),
        ([net.weight], "params must be those of the base optimizer: of 1, 1 are among its 2"),
        ([], "params: there is nothing to optimize"),
        (net.weight, "params must be several tensors or groups of them, as model.parameters(), not one tensor"),
        ([{"params": []}], "params: there is nothing to optimize"),
        ([{"params": net.parameters(), "lr": 1.0}], "groups with their own lr must be given to the base optimizer"),
    ]
    for params, text in cases:
        assert line(lambda params=params: MultiPerturbationSAM(params, base)) == text  # type: ignore[misc]
    text = line(lambda: MultiPerturbationSAM(net.parameters(), torch.optim.SGD))  # type: ignore[arg-type]
    assert text.startswith("base_optimizer must be an optimizer, as torch.optim.SGD(...), not <class")


def test_closures_that_do_not_do_their_part() -> None:
    net = Net()
    optimizer, before = around(net), net.weights()
    plain = closure_of(net)
    assert "a step needs a closure" in line(optimizer.step)
    assert "a step needs a closure" in line(lambda: optimizer.step(3))  # type: ignore[arg-type]
    for returned in (None, 0.5):

        def closure(value: float | None = returned) -> Any:
            plain()
            return value

        text = line(lambda own=closure: optimizer.step(own))  # type: ignore[misc]
        assert text == f"the closure must return the loss, a tensor, not {type(returned).__name__}"
    several = line(lambda: optimizer.step(lambda: net(torch.zeros(16, 4)).sum(1)))
    assert several == "the closure must return the loss, one number, not a tensor [16]"
    forgot = line(lambda: optimizer.step(lambda: net(torch.zeros(16, 4)).sum()))
    assert forgot == "the closure left no gradients: it must call loss.backward()"
    assert all(map(torch.equal, net.weights(), before))


@pytest.mark.parametrize("elementwise", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_without_a_gradient(dtype: torch.dtype, strategy: str, elementwise: bool) -> None:
    """In half precision the 1e-12 beside a norm of 0 is 0 itself."""
    weight = nn.Parameter(torch.ones(3, 2, dtype=dtype))
    sam = MultiPerturbationSAM(
        [weight], torch.optim.SGD([weight], lr=0.1), 0.3, 3, strategy, elementwise=elementwise, sigma=0.0
    )
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(weight.detach().clone())
        loss = (weight * 0).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    sam.step(closure)
    assert all(place.isfinite().all() for place in seen)
    assert torch.equal(weight, torch.ones(3, 2, dtype=dtype))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sparse_gradients(strategy: str) -> None:
    net = nn.Embedding(4, 2, sparse=True)
    before = net.weight.detach().clone()

    def closure() -> Tensor:
        loss = net(torch.tensor([1, 2])).sum()
        loss.backward()
        return loss  # type: ignore[no-any-return]

    optimizer = around(net, strategy=strategy)
    assert line(lambda: optimizer.step(closure)) == "perturbed gradients cannot be sparse: embeddings need sparse=False"
    assert torch.equal(net.weight, before)


def test_states_that_are_not_of_these_parameters() -> None:
    def state_of(*sizes: int, base: Any = torch.optim.SGD) -> dict[str, Any]:
        params = [nn.Parameter(torch.zeros(size)) for size in sizes]
        return MultiPerturbationSAM(params, base(params, lr=0.1)).state_dict()

    params = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    optimizer = MultiPerturbationSAM(params, torch.optim.SGD(params, lr=0.1), 0.3)
    other_stream = state_of(2, 3)
    spoilt = [state_of(2, 3) for _ in range(3)]
    spoilt[0]["sam"]["rho"], spoilt[1]["sam"]["strategy"], spoilt[2]["param_groups"][0]["rho"] = -1, "zzz", math.nan
    other_stream["sam"]["generator"] = other_stream["sam"]["generator"][:16]  # as long as a GPU's
    without_groups, no_stream, no_shapes, momentum = (state_of(2, 3) for _ in range(4))
    del without_groups["param_groups"]
    no_stream["sam"]["generator"], no_shapes["sam"]["shapes"] = None, 3
    momentum["state"] = {0: {"momentum_buffer": torch.zeros(5)}}
    cases = [
        (state_of(2, 4), "the state is one of other parameters: a tensor of shape [4], here [3]"),
        (state_of(2), "the state is one of other parameters: groups of [1] tensors, here [2]"),
        (state_of(2, 3, base=torch.optim.Adam), "the state is one around Adam, here it is SGD"),
        (spoilt[0], "rho must be finite, 0 or more, not -1"),
        (spoilt[1], "unknown strategy 'zzz'; known: gradient, random, mixed"),
        (spoilt[2], "rho must be finite, 0 or more, not nan"),
        (None, "this is no state of MultiPerturbationSAM: it does not say how weights were perturbed"),
        (other_stream, "the state's random stream is not one of this device, cpu"),
        (
            {**state_of(2, 3), "sam": 3},
            "this is no state of MultiPerturbationSAM: it does not say how weights were perturbed",
        ),
        (without_groups, "this is no state of an optimizer: it has no param_groups and no state"),
        (no_stream, "the state's random stream is not one of this device, cpu"),
        (no_shapes, "the state is one of other parameters: it does not say of which shapes"),
        (momentum, "the state is one of a tensor [5], here [2] (momentum_buffer)"),
        (
            torch.optim.SGD(params, lr=0.7).state_dict(),
            "this is no state of MultiPerturbationSAM: it does not say how weights were perturbed",
        ),
    ]
    for state, text in cases:
        assert line(lambda state=state: optimizer.load_state_dict(state)) == text  # type: ignore[misc]
        assert (optimizer.rho, optimizer.param_groups[0]["lr"]) == (0.3, 0.1)

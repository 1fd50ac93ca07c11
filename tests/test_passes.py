"""What the passes of a sharpness-aware step leave behind: weights, running statistics, random numbers as after one."""

import copy
from typing import Any

import pytest
import torch
from optimizing import Net, around, batch, closure_of, flat, same
from torch import Tensor, nn
from torch.nn import functional as F

from mddes.optim import STRATEGIES, MultiPerturbationSAM


@pytest.mark.parametrize(
    ("strategy", "adaptive", "calls"),
    [("gradient", False, 4), ("mixed", False, 4), ("random", False, 3), ("random", True, 4), ("mixed", True, 4)],
)
def test_the_closure_is_called_once_for_every_pass(strategy: str, adaptive: bool, calls: int) -> None:
    net, called = Net(), []
    closure = closure_of(net, before=lambda: called.append(1))
    around(net, n_perturbations=3, strategy=strategy, adaptive=adaptive).step(closure)
    assert len(called) == calls


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_loss_returned_is_the_clean_one_or_the_mean(strategy: str, adaptive: bool) -> None:
    net, losses = Net(), []
    plain = closure_of(net)

    def closure() -> Tensor:
        losses.append(plain())
        return losses[-1]

    loss = around(net, strategy=strategy, adaptive=adaptive).step(closure)
    clean = strategy != "random" or adaptive
    assert not loss.requires_grad
    assert torch.equal(loss, (losses[0] if clean else torch.stack(losses).mean()).detach())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_passes_leave_the_weights_bit_for_bit(strategy: str) -> None:
    net = Net()
    with torch.no_grad():
        net.last.weight[0, :3] = torch.tensor([1e-30, -0.0, 1e8])  # w + e - e is not w
    before, places = net.weights(), []
    around(net, rho=0.7, strategy=strategy).compute_gradients(
        closure_of(net, before=lambda: places.append(net.weights()))
    )
    assert all(map(torch.equal, net.weights(), before))
    assert torch.equal(torch.signbit(net.last.weight), torch.signbit(before[2]))
    assert not all(map(torch.equal, places[-1], before))


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_interruption_leaves_the_weights_too(strategy: str, stop: int) -> None:
    net, calls = Net(), []

    def interrupted() -> None:
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt

    optimizer, before, start = around(net, rho=0.7, strategy=strategy), net.weights(), net.statistics()
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure_of(net, before=interrupted))
    assert all(map(torch.equal, net.weights(), before))
    assert same(net.statistics(), start) == (stop == 1), "the first pass alone counts, if there was one"
    assert net.average.num_batches_tracked == int(stop > 1)
    assert optimizer.state == {}


def test_an_interruption_inside_a_pass_leaves_the_statistics() -> None:
    net, calls = Net(), []

    def interrupted(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    net.last.register_forward_pre_hook(interrupted)
    other = copy.deepcopy(Net())
    other(batch()[0])
    with pytest.raises(KeyboardInterrupt):
        around(net, rho=0.7).step(closure_of(net))
    assert same(net.statistics(), other.statistics())


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_running_statistics_move_once_a_step_as_in_the_first_pass(strategy: str, adaptive: bool) -> None:
    net, other = Net(), Net()
    optimizer = around(net, rho=0.7, strategy=strategy, adaptive=adaptive)
    for step in range(3):
        places: list[list[Tensor]] = []
        before = net.weights()
        optimizer.step(closure_of(net, step, before=lambda to=places: to.append(net.weights())))  # type: ignore[misc]
        clean = strategy != "random" or adaptive
        assert all(map(torch.equal, places[0], before)) == clean
        with torch.no_grad():
            for p, w in zip(other.parameters(), places[0], strict=True):
                p.copy_(w)
            other(batch(step)[0])
        assert same(net.statistics(), other.statistics())
    assert net.batch.num_batches_tracked == 6, "twice in a pass"
    assert net.average.num_batches_tracked == 3


@pytest.mark.parametrize("in_place", [True, False])
def test_buffers_of_any_module_move_once_a_step(in_place: bool) -> None:
    """A layer of one's own that keeps a mean, and a spectral norm, whose vectors turn at every pass."""

    class Mean(nn.Module):
        mean: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(6))

        def forward(self, h: Tensor) -> Tensor:
            with torch.no_grad():
                moved = 0.9 * self.mean + 0.1 * h.mean(0)
                self.mean = self.mean.copy_(moved) if in_place else moved
            centred: Tensor = h - self.mean
            return centred

    def network() -> nn.Module:
        torch.manual_seed(0)
        first = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6))
        return nn.Sequential(first, Mean(), nn.Linear(6, 3))

    net, plain = network(), network()
    optimizer = around(net, rho=0.0, n_perturbations=3)
    base = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    for step in range(3):
        optimizer.step(closure_of(net, step))
        base.zero_grad()
        base.step(closure_of(plain, step))
    ours, theirs = net.state_dict(), plain.state_dict()
    assert len(ours) == 7
    assert same(ours, theirs)


def test_a_buffer_that_layers_share_may_be_needed_for_the_gradient() -> None:
    """As tables of positions are: the second layer must not disturb what the first has kept for its gradient."""
    shared = torch.ones(6)

    class Scale(nn.Module):
        table: Tensor

        def __init__(self, *, learns: bool) -> None:
            super().__init__()
            self.register_buffer("table", shared)
            self.learns = learns

        def forward(self, h: Tensor) -> Tensor:
            if self.learns:
                with torch.no_grad():
                    self.table.mul_(0.5)
            scaled: Tensor = h * self.table
            return scaled

    net = nn.Sequential(nn.Linear(4, 6), Scale(learns=True), Scale(learns=False), nn.Linear(6, 3))
    around(net, rho=0.7, n_perturbations=3).step(closure_of(net))
    assert shared.tolist() == [0.5] * 6, "once a step"


class Inside(nn.Module):
    """Runs its layers without calling them as modules, which is all that is seen of a scripted network either."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x)
        return x


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("how", ["forward", "compile", "script"])
@pytest.mark.filterwarnings("ignore:Using .torch.compile.module", "ignore:.*torch.jit", "ignore::DeprecationWarning")
def test_statistics_of_layers_that_run_unseen_move_once_a_step_too(how: str, warm: bool) -> None:
    """`compile`: cold, the perturbed step is what compiles it; warm, its code was made where nothing looked on."""
    net = Inside() if how == "forward" else Inside().layers
    ran: Any = net
    if how == "compile":
        ran = torch.compile(net, backend="aot_eager")
    elif how == "script":
        ran = torch.jit.script(net)
    plain = copy.deepcopy(net)
    if warm:
        start = copy.deepcopy(net.state_dict())
        ran(batch()[0])
        net.load_state_dict(start)
    optimizer = around(net, rho=0.5, n_perturbations=2)

    def closure_at(step: int) -> Any:
        def closure() -> Tensor:
            x, y = batch(step)
            loss = F.cross_entropy(ran(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        return closure

    reference = around(plain, rho=0.5, n_perturbations=2)
    for step in range(3):
        optimizer.step(closure_at(step))
        reference.step(closure_of(plain, step))
    ours, theirs = net.state_dict(), plain.state_dict()
    assert len(ours) == 9
    (tracked,) = (value for name, value in ours.items() if name.endswith("num_batches_tracked"))
    assert tracked == 3
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


def test_layers_that_do_not_learn_statistics_are_left_alone() -> None:
    net = Net().eval()
    before = net.statistics()
    around(net).step(closure_of(net))
    assert same(net.statistics(), before)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_passes_drop_the_same_and_leave_the_random_numbers_of_one(strategy: str) -> None:
    net, other = Net(), Net()
    optimizer = around(net, strategy=strategy)
    torch.manual_seed(3)
    closure_of(other)()
    closure_of(other)()
    after_two = torch.get_rng_state()
    torch.manual_seed(3)
    optimizer.step(closure_of(net))
    first = net.dropped[0]
    assert first.any()
    assert all(torch.equal(mask, first) for mask in net.dropped)
    optimizer.step(closure_of(net))
    assert not torch.equal(net.dropped[-1], first)
    assert torch.equal(net.dropped[-1], other.dropped[1])
    assert torch.equal(torch.get_rng_state(), after_two)


def test_perturbations_come_from_a_stream_of_their_own() -> None:
    def places(seed: int, disturb: bool) -> list[Tensor]:
        net = Net().eval()  # no dropout: nothing else is random
        seen: list[Tensor] = []
        optimizer = around(net, strategy="mixed", seed=seed)
        for step in range(2):
            torch.manual_seed(step + 10 * disturb)
            optimizer.step(closure_of(net, step, before=lambda: seen.append(flat(net.weights()))))
        return seen

    assert all(map(torch.equal, places(5, disturb=False), places(5, disturb=True)))
    assert not torch.equal(places(5, disturb=False)[3], places(6, disturb=False)[3])


def test_the_seed_is_no_seed_of_torch() -> None:
    """Weights drawn after torch.manual_seed(s) must not be the directions that seed s perturbs them in."""
    torch.manual_seed(7)
    weight = nn.Parameter(torch.randn(5, 4))
    before, seen = weight.detach().clone(), []

    def closure() -> Tensor:
        seen.append(weight.detach() - before)
        loss = weight.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    base = torch.optim.SGD([weight], lr=0.1)
    MultiPerturbationSAM([weight], base, strategy="random", n_perturbations=1, seed=7).step(closure)
    assert abs(float(F.cosine_similarity(seen[0].flatten(), before.flatten(), dim=0))) < 0.9


def test_an_autocast_around_the_step_does_not_hide_the_perturbations() -> None:
    """Autocast keeps converted weights until it is left, so all passes would use those of the first."""
    net = nn.Linear(4, 3)
    x, y = batch()
    losses: list[float] = []

    def closure() -> Tensor:
        loss = F.cross_entropy(net(x).float(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        return loss

    with torch.autocast("cpu", torch.bfloat16):
        around(net, lr=0.0, rho=1.0, n_perturbations=3).compute_gradients(closure)
        closure()
    assert len({*losses}) == 4
    assert losses[4] == losses[0], "nor do the last of them stay"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_closure_may_or_may_not_empty_the_gradients(strategy: str) -> None:
    nets = [Net().eval() for _ in range(3)]
    for i, net in enumerate(nets):
        optimizer = around(net, strategy=strategy)
        empty = [lambda: None, optimizer.zero_grad, lambda o=optimizer: o.zero_grad(set_to_none=False)][i]  # type: ignore[misc]
        for step in range(3):
            optimizer.step(closure_of(net, step, before=empty))
    assert same(nets[0].state_dict(), nets[1].state_dict())
    assert same(nets[0].state_dict(), nets[2].state_dict())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_closure_may_keep_its_gradients_in_one_place(strategy: str) -> None:
    nets = Net().eval(), Net().eval()
    kept = [torch.zeros_like(p) for p in nets[1].parameters()]

    def zero() -> None:
        for p, g in zip(nets[1].parameters(), kept, strict=True):
            p.grad = g.zero_()

    for net, before in zip(nets, (lambda: None, zero), strict=True):
        around(net, rho=0.7, strategy=strategy, adaptive=True).step(closure_of(net, before=before))
    assert same(nets[0].state_dict(), nets[1].state_dict())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_and_unused_parameters_stay(strategy: str) -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.used, self.unused, self.frozen = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 3)
            self.frozen.requires_grad_(requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.frozen(self.used(x))
            return logits

    net = Partly()
    before = copy.deepcopy(net.state_dict())
    places: list[dict[str, Tensor]] = []
    params = list(net.parameters())
    optimizer = MultiPerturbationSAM(
        params, torch.optim.SGD(params, lr=0.1, weight_decay=0.5), strategy=strategy, rho=0.5
    )
    optimizer.step(closure_of(net, before=lambda: places.append(copy.deepcopy(net.state_dict()))))
    for name, value in net.state_dict().items():
        moved = not torch.equal(value, before[name])
        assert moved == name.startswith("used"), name
        seen_moved = any(not torch.equal(place[name], before[name]) for place in places)
        assert seen_moved != name.startswith("frozen"), "the noise is on all that is trained"
    assert net.unused.weight.grad is None
    assert net.frozen.weight.grad is None

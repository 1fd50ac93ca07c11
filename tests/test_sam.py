"""Sharpness-aware steps against closed forms, a plain two-pass SAM, and what their averages must come to."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizing import ATOL, Function, Landscape, draw, flat, quadratic
from reference import perturbations_plainly, sam_step_plainly
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from mddes.optim import STRATEGIES, MultiPerturbationSAM


def test_a_step_of_sam_on_a_quadratic_is_its_closed_form() -> None:
    matrix, w = quadratic(5), draw(5)
    landscape = Landscape.quadratic(matrix, w[:2], w[2:])
    loss = landscape.sam(rho=0.3, n_perturbations=1, strategy="gradient").step(landscape)
    slope = matrix @ w
    stepped = w - 0.1 * matrix @ (w + 0.3 * slope / slope.norm())
    torch.testing.assert_close(flat(landscape.params), stepped, rtol=0, atol=ATOL)
    assert loss.item() == pytest.approx((w @ slope / 2).item(), rel=1e-14)


def test_a_step_of_asam_on_a_quadratic_is_its_closed_form() -> None:
    matrix, w = quadratic(8), draw(8)
    landscape = Landscape.quadratic(matrix, w[:6].reshape(2, 3), w[6:])
    landscape.sam(rho=0.3, n_perturbations=1, strategy="gradient", elementwise=True, eta=0.02).step(landscape)
    scale = torch.cat([w[:6].abs() + 0.02, torch.ones(2, dtype=torch.float64)])  # vectors are not scaled
    slope = matrix @ w
    stepped = w - 0.1 * matrix @ (w + 0.3 * scale**2 * slope / (scale * slope).norm())
    torch.testing.assert_close(flat(landscape.params), stepped, rtol=0, atol=ATOL)


@pytest.mark.parametrize("k", [2, 6])
def test_antithetic_pairs_on_a_quadratic_give_the_plain_gradient(k: int) -> None:
    matrix, w = quadratic(6), draw(6)
    landscape = Landscape.quadratic(matrix, w[:4].reshape(2, 2), w[4:])
    landscape.sam(rho=0.5, n_perturbations=k, strategy="random", antithetic=True).step(landscape)
    assert len({tuple(place.tolist()) for place in landscape.seen}) == k
    torch.testing.assert_close(flat(landscape.params), w - 0.1 * matrix @ w, rtol=0, atol=1e-14)


def test_antithetic_pairs_begin_after_those_along_the_gradient() -> None:
    matrix, w = quadratic(6), draw(6)
    landscape = Landscape.quadratic(matrix, w)
    landscape.sam(n_perturbations=7, strategy="mixed", antithetic=True).compute_gradients(landscape)
    moved = [place - w for place in landscape.seen[1:]]
    pairs = [(i, j) for i in range(7) for j in range(i) if torch.allclose(moved[i], -moved[j], rtol=0, atol=1e-14)]
    assert pairs == [(5, 4)]  # 0 .. 3 along the gradient, the last one alone


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("elementwise", [False, True])
def test_perturbations_along_the_gradient_without_noise_are_sam_s(k: int, elementwise: bool) -> None:
    matrix, w = quadratic(6), draw(6).reshape(2, 3)
    one, many = Landscape.quadratic(matrix, w), Landscape.quadratic(matrix, w)
    one.sam(n_perturbations=1, strategy="gradient", elementwise=elementwise).step(one)
    many.sam(n_perturbations=k, strategy="gradient", sigma=0.0, elementwise=elementwise).step(many)
    torch.testing.assert_close(flat(many.params), flat(one.params), rtol=0, atol=ATOL)


@pytest.mark.parametrize("elementwise", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_perturbations_are_the_written_ones(strategy: str, k: int, elementwise: bool) -> None:
    matrix, w = quadratic(8), draw(8)
    landscape = Landscape.quadratic(matrix, w[:6].reshape(2, 3), w[6:])
    optimizer = landscape.sam(rho=0.7, n_perturbations=k, strategy=strategy, elementwise=elementwise, sigma=0.4)
    generator = torch.Generator()
    generator.set_state(optimizer.generator.get_state())
    draws = [
        torch.cat([torch.randn(n, dtype=torch.float64, generator=generator).flatten() for n in ((2, 3), (2,))])
        for _ in range(k)
    ]
    scale = torch.cat([w[:6].abs() + 0.01, torch.ones(2, dtype=torch.float64)])
    scale = scale if elementwise else torch.ones_like(scale)
    expected = perturbations_plainly(strategy, k, matrix @ w, scale, draws, rho=0.7, sigma=0.4)
    optimizer.compute_gradients(landscape)
    clean = 0 if strategy == "random" else 1
    for place, shift in zip(landscape.seen[clean:], expected, strict=True):
        torch.testing.assert_close(place, w + shift, rtol=0, atol=ATOL)
    mean = torch.stack([matrix @ (w + shift) for shift in expected]).mean(0)
    torch.testing.assert_close(landscape.gradient(), mean, rtol=0, atol=10 * ATOL)  # the matrix is of norm 7
    assert optimizer.weights == [1 / k] * k


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3), nn.LayerNorm(3)
    )


def loss_of(net: nn.Module, step: int) -> Callable[[], Tensor]:
    torch.manual_seed(100 + step)  # of the batch, and of the dropout afterwards
    x, y = torch.randn(16, 4), torch.randint(3, (16,))
    return lambda: F.cross_entropy(net(x), y)


def with_gradients(loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    return closure


BASES: dict[str, Callable[[Sequence[Tensor]], torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-2),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_a_radius_it_is_the_base_optimizer_bit_for_bit(
    strategy: str, k: int, adaptive: bool, base: str
) -> None:
    plain, other = small_net(), small_net()
    params = list(other.parameters())
    alone, inside = BASES[base](list(plain.parameters())), BASES[base](params)
    around = MultiPerturbationSAM(params, inside, 0.0, k, strategy, adaptive, elementwise=adaptive)
    for step in range(4):
        alone.zero_grad()
        alone.step(with_gradients(loss_of(plain, step)))  # type: ignore[arg-type]
        around.step(with_gradients(loss_of(other, step)))
        for (name, ours), theirs in zip(other.state_dict().items(), plain.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs), (step, name)
    assert around.weights == [1 / k] * k


@pytest.mark.parametrize("base", BASES)
def test_one_perturbation_along_the_gradient_is_plain_sam_bit_for_bit(base: str) -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

    plain, other = net(), net()
    theirs, ours = list(plain.parameters()), list(other.parameters())
    alone = BASES[base](theirs)
    sam = MultiPerturbationSAM(ours, BASES[base](ours), 0.2, 1, "gradient")
    for step in range(6):
        sam_step_plainly(theirs, loss_of(plain, step), alone, rho=0.2)
        sam.step(with_gradients(loss_of(other, step)))
        assert all(map(torch.equal, ours, theirs)), step


def test_random_perturbations_are_uniform_on_the_sphere_of_all_weights() -> None:
    """By Archimedes, every coordinate of a uniform point of the sphere in three dimensions is uniform on [-1, 1]."""
    w, k = draw(3), 3000
    landscape = Landscape(lambda w: w.sum(), w[:2].reshape(2, 1), w[2:])
    landscape.sam(rho=0.5, n_perturbations=k, strategy="random").compute_gradients(landscape)
    u = (torch.stack(landscape.seen) - w) / 0.5
    torch.testing.assert_close(u.norm(dim=1), torch.ones(k, dtype=torch.float64), rtol=0, atol=1e-14)
    tilted = torch.tensor([[1.0, 1, 0], [0, 1, -1], [1, 1, 1]], dtype=torch.float64)
    for axis in [*torch.eye(3, dtype=torch.float64), *(tilted / tilted.norm(dim=1, keepdim=True))]:
        assert stats.kstest((u @ axis).numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01
    moments = u.T @ u / k
    error = math.sqrt((1 / 5 - 1 / 9) / k)  # of a mean of squares; less of products
    torch.testing.assert_close(moments, torch.eye(3, dtype=torch.float64) / 3, rtol=0, atol=4 * error)


CURVED: dict[str, Function] = {
    "cubic": lambda w: w[0] ** 3 + 2 * w[0] * w[1] * w[2] + w[3] ** 2 * w[4] - w[1] ** 3 / 3 + w @ w,
    "quartic": lambda w: (
        (w @ w) ** 2
    ),  # its expansion ends there too: what has degree 4 in e has no gradient on average
}


@pytest.mark.parametrize("name", CURVED)
def test_random_perturbations_add_the_gradient_of_the_trace(name: str) -> None:
    """The mean of grad f(w + e) is grad f + rho^2 / (2 d) grad tr H, so no noise of mean 0 on the gradient."""
    function, w, rho, k = CURVED[name], draw(5), 0.8, 2000

    def trace(at: Tensor) -> Tensor:
        hessian = torch.autograd.functional.hessian(function, at, create_graph=True)  # type: ignore[no-untyped-call]
        assert isinstance(hessian, Tensor)
        return hessian.trace()

    slope = torch.func.grad(function)(w)
    extra = rho**2 / (2 * 5) * torch.func.grad(trace)(w)
    landscape = Landscape(function, w)
    landscape.sam(rho=rho, n_perturbations=k, strategy="random", antithetic=True).compute_gradients(landscape)
    each = torch.func.vmap(torch.func.grad(function))(torch.stack(landscape.seen))
    pairs = each.reshape(k // 2, 2, 5).mean(1)
    error = pairs.std(0) / math.sqrt(k // 2)
    off = (landscape.gradient() - slope - extra).abs()
    assert (off <= 4 * error + 1e-12).all()
    assert (extra.abs() > 8 * error).any(), "the extra term is seen above the noise"


def test_adaptive_weights_are_proportional_to_the_rise_of_the_loss() -> None:
    matrix, w = quadratic(4), draw(4)
    landscape = Landscape.quadratic(matrix, w)
    optimizer = landscape.sam(rho=0.4, n_perturbations=9, strategy="random", adaptive=True, seed=1)
    optimizer.compute_gradients(landscape)
    clean, *perturbed = landscape.losses
    rises = [max(0.0, loss - clean) for loss in perturbed]
    assert rises[0] == 0 < rises[-1], "a seed with one that lowers the loss before one that raises it"
    assert optimizer.weights == pytest.approx([rise / sum(rises) for rise in rises], rel=1e-14)
    assert math.fsum(optimizer.weights) == pytest.approx(1, abs=1e-15)
    mean = sum(omega * matrix @ place for omega, place in zip(optimizer.weights, landscape.seen[1:], strict=True))
    torch.testing.assert_close(landscape.gradient(), mean, rtol=0, atol=1e-14)


def test_the_only_one_that_raises_the_loss_gives_its_very_gradient() -> None:
    matrix, w = quadratic(40), draw(40)
    landscape = Landscape.quadratic(matrix, w)
    optimizer = landscape.sam(rho=0.4, n_perturbations=2, strategy="random", adaptive=True, seed=5)
    optimizer.compute_gradients(landscape)
    there = Landscape.quadratic(matrix, landscape.seen[2])
    there()
    assert optimizer.weights == [0.0, 1.0]
    assert torch.equal(landscape.gradient(), there.gradient())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_where_nothing_raises_the_loss_all_weigh_the_same(strategy: str) -> None:
    """At a maximum; the gradient is 0 there, and has no direction."""
    landscape = Landscape(lambda w: -(w @ w) / 2, torch.zeros(3, dtype=torch.float64))
    optimizer = landscape.sam(rho=0.4, n_perturbations=4, strategy=strategy, adaptive=True)
    optimizer.compute_gradients(landscape)
    assert optimizer.weights == [0.25] * 4
    mean = -torch.stack(landscape.seen[1:]).mean(0)
    torch.testing.assert_close(landscape.gradient(), mean, rtol=0, atol=1e-15)
    assert torch.equal(landscape.seen[1], torch.zeros(3)) == (strategy != "random")


def test_a_loss_that_is_no_number_is_not_weighed_away() -> None:
    calls = []

    def broken(w: Tensor) -> Tensor:
        calls.append(w)
        return (w @ w) * (math.nan if len(calls) == 3 else 1.0)

    landscape = Landscape(broken, draw(3))
    landscape.sam(n_perturbations=4, strategy="random", adaptive=True).compute_gradients(landscape)
    assert landscape.gradient().isnan().all()


@settings(max_examples=40)
@given(c=st.floats(0.05, 20), strategy=st.sampled_from(sorted(STRATEGIES)), seed=st.integers(0, 20))
def test_asam_sees_the_same_losses_when_layers_are_rescaled(c: float, strategy: str, seed: int) -> None:
    x, y = draw(6, 3, seed=seed), draw(6, 2, seed=seed + 1)

    def losses(factor: float) -> list[float]:
        def function(w: Tensor) -> Tensor:
            return F.mse_loss(torch.relu(x @ w[:12].reshape(3, 4)) @ w[12:].reshape(4, 2), y)

        layers = draw(3, 4, seed=seed + 2) * factor, draw(4, 2, seed=seed + 3) / factor
        landscape = Landscape(function, *layers)
        optimizer = landscape.sam(rho=0.3, n_perturbations=3, strategy=strategy, elementwise=True, eta=0.0)
        optimizer.compute_gradients(landscape)
        return landscape.losses

    assert losses(c) == pytest.approx(losses(1.0), rel=1e-9)

"""Measures of sharpness against dense Hessians and closed forms, in float64 where it matters."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from cases import random_images
from torch import nn
from torch.nn import functional as F

import mddes
from mddes import ImageSet, InputError
from mddes.measures import MEASURES, estimate
from mddes.measures.curvature import extremes, lanczos, trace
from mddes.measures.objective import Objective, batches, cross_entropy, displaced, flat
from mddes.measures.sharpness import average_rise
from mddes.models import build
from mddes.seeding import torch_generator

IMAGES = random_images(24, num_classes=3)


def tiny(seed: int = 0, *, bias: bool = True) -> nn.Module:
    """Return a smooth network of 227 weights in float64."""
    torch.manual_seed(seed)
    layers = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10, bias=bias), nn.Tanh(), nn.Linear(10, 3, bias=bias)]
    return nn.Sequential(*layers).double()


def dense(model: nn.Module, images: ImageSet) -> torch.Tensor:
    """Return the Hessian of the mean cross-entropy, column by column, by autograd, in one piece."""
    names = [name for name, _ in model.named_parameters()]
    values = [parameter.detach() for parameter in model.parameters()]
    sizes = [value.numel() for value in values]
    x = (torch.tensor(images.images).float() / 255).double()  # pixels as the package rounds them

    def loss(weights: torch.Tensor) -> torch.Tensor:
        parts = torch.split(weights, sizes)
        state = {n: part.view(v.shape) for n, part, v in zip(names, parts, values, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, state, (x,)), torch.tensor(images.labels))

    found = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        loss, torch.cat([value.reshape(-1) for value in values])
    )
    assert isinstance(found, torch.Tensor)
    return found


def quadratic(matrix: torch.Tensor, at: torch.Tensor, parts: int = 1) -> Objective:
    """Return 1/2 w'Aw as the mean of equal parts."""
    w = at.clone().requires_grad_()

    def pieces() -> Iterator[torch.Tensor]:
        for _ in range(parts):
            yield 0.5 * w @ matrix @ w

    return Objective([w], pieces, parts)


def test_products_are_those_of_the_dense_hessian_whatever_the_batches() -> None:
    model, hessian = tiny(), dense(tiny(), IMAGES)
    v = torch.randn(len(hessian), dtype=torch.float64, generator=torch_generator(0, "v"))
    for batch_size in (24, 7, 1):
        objective = cross_entropy(model, IMAGES, batch_size)
        assert torch.allclose(objective.hessian_times(v), hessian @ v, rtol=1e-10, atol=1e-13)


def test_value_and_gradient_are_those_of_the_mean_loss() -> None:
    model = tiny()
    x, y = torch.tensor(IMAGES.images).float().div(255).double(), torch.tensor(IMAGES.labels)
    loss = F.cross_entropy(model(x), y)
    expected = flat(torch.autograd.grad(loss, list(model.parameters())))
    objective = cross_entropy(model, IMAGES, 7)
    assert objective.value() == pytest.approx(float(loss.detach()), rel=1e-12)
    assert torch.allclose(objective.gradient(), expected, rtol=1e-10, atol=1e-14)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_top_eigenvalue_is_that_of_the_dense_hessian() -> None:
    values = torch.linalg.eigvalsh(dense(tiny(), IMAGES))
    found = estimate("hessian_top_eigenvalue", tiny(), IMAGES, tolerance=1e-9, steps=200)
    assert found.value == pytest.approx(float(values[-1]), rel=1e-9)
    assert found.standard_error is None
    usual = estimate("hessian_top_eigenvalue", tiny(), IMAGES)
    assert usual.value == pytest.approx(float(values[-1]), rel=1e-5)
    assert abs(usual.value - float(values[-1])) <= usual.details["residual"] <= 1e-3 * usual.value
    assert float(values[0]) <= usual.details["smallest"] <= 0


def test_the_largest_eigenvalue_is_meant_not_the_largest_magnitude() -> None:
    found = extremes(quadratic(torch.diag(torch.tensor([1.0, -3.0]).double()), torch.ones(2).double()), tolerance=0)
    assert (found.largest, found.smallest) == pytest.approx((1.0, -3.0), abs=1e-12)
    assert found.steps == 2


@pytest.mark.parametrize("seed", range(3))
def test_lanczos_finds_both_ends_of_a_spectrum_of_multiplicities(seed: int) -> None:
    """Ten eigenvalues of a 60 x 60 matrix, each six times: the Krylov space has ten dimensions, and it stops there."""
    draw = torch.randn(60, 60, dtype=torch.float64, generator=torch_generator(seed, "basis"))
    basis, _ = torch.linalg.qr(draw)
    matrix = basis @ torch.diag(torch.linspace(-2, 5, 10).double().repeat(6)) @ basis.T
    start = torch.randn(60, dtype=torch.float64, generator=torch_generator(seed, "start"))
    found = lanczos(lambda v: matrix @ v, start, steps=40, tolerance=0)
    assert (found.largest, found.smallest) == pytest.approx((5.0, -2.0), abs=1e-10)
    assert found.steps == 10


def test_a_matrix_of_zeros_has_eigenvalue_zero() -> None:
    assert lanczos(torch.zeros_like, torch.ones(5).double()).largest == 0


def test_the_trace_over_all_signs_is_exact_and_one_probe_has_its_known_variance() -> None:
    """Over all 2^4 sign vectors the mean of v'Hv is the trace, its variance 2 (||H||_F^2 - sum H_ii^2)."""
    draw = torch.randn(4, 4, dtype=torch.float64, generator=torch_generator(0, "matrix"))
    matrix = draw + draw.T
    signs = torch.tensor([[1.0 if i >> j & 1 else -1.0 for j in range(4)] for i in range(16)]).double()
    forms = torch.einsum("pi,ij,pj->p", signs, matrix, signs)
    assert float(forms.mean()) == pytest.approx(float(matrix.trace()))
    variance = 2 * float((matrix**2).sum() - (matrix.diag() ** 2).sum())
    assert float(forms.var(correction=0)) == pytest.approx(variance)
    found = trace(quadratic(matrix, torch.ones(4).double()), probes=400)
    assert found.standard_error is not None
    assert found.standard_error == pytest.approx(math.sqrt(variance / 400), rel=0.15)
    assert abs(found.value - float(matrix.trace())) < 4 * found.standard_error


def test_the_trace_of_a_diagonal_hessian_needs_one_probe() -> None:
    found = trace(quadratic(torch.diag(torch.tensor([1.0, -3.0, 7.0]).double()), torch.ones(3).double()), probes=1)
    assert found.value == pytest.approx(5.0, abs=1e-12)
    assert found.standard_error is None


def test_the_trace_of_a_network_is_that_of_the_dense_hessian() -> None:
    hessian = dense(tiny(), IMAGES)
    objective = cross_entropy(tiny(), IMAGES)
    units = torch.eye(len(hessian), dtype=torch.float64)
    unit_probes = sum(float(unit @ objective.hessian_times(unit)) for unit in units)
    assert unit_probes == pytest.approx(float(hessian.trace()), rel=1e-10)
    found = estimate("hessian_trace", tiny(), IMAGES, probes=100)
    assert found.standard_error is not None
    assert abs(found.value - unit_probes) < 4 * found.standard_error
    variance = 2 * float((hessian**2).sum() - (hessian.diag() ** 2).sum())
    assert found.standard_error == pytest.approx(math.sqrt(variance / 100), rel=0.25)


def test_softmax_regression_has_a_closed_form() -> None:
    """H = mean (diag p - pp') kron xx', so its trace is mean ||x||^2 (1 - ||p||^2)."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False)).double()
    x = torch.tensor(IMAGES.images).float().div(255).double().flatten(1)
    p = model(x).softmax(1).detach()
    hessian = sum(
        torch.kron(torch.diag(q) - torch.outer(q, q), torch.outer(u, u)) for q, u in zip(p, x, strict=True)
    ) / len(x)
    assert isinstance(hessian, torch.Tensor)
    top = estimate("hessian_top_eigenvalue", model, IMAGES, tolerance=1e-9)
    assert top.value == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-9)
    expected = float(((x**2).sum(1) * (1 - (p**2).sum(1))).mean())
    found = estimate("hessian_trace", model, IMAGES, probes=200)
    assert found.standard_error is not None
    assert abs(found.value - expected) < 4 * found.standard_error


@pytest.mark.parametrize("adaptive", [False, True])
def test_average_sharpness_of_a_quadratic(adaptive: bool) -> None:
    """S = rho^2 / 2 sum_i c_i^2 A_ii: at any point, for the linear term has mean 0."""
    diagonal = torch.linspace(-1, 3, 40).double()
    at = torch.linspace(0.5, 2, 40).double()
    objective = quadratic(torch.diag(diagonal), at)
    scale = at.abs() if adaptive else torch.ones(40).double()
    rho = 0.3
    found = average_rise(objective, rho=rho, draws=2000, adaptive=adaptive)
    assert found.standard_error is not None
    expected = rho**2 / 2 * float((scale**2 * diagonal).sum())
    assert abs(found.value - expected) < 4 * found.standard_error
    assert found.standard_error < 0.15 * expected
    # Var of sum_i [d_i A_ii w_i + A_ii d_i^2 / 2], d_i ~ N(0, (rho c_i)^2) independent.
    var = (rho * scale) ** 2
    spread = float(((diagonal * at) ** 2 * var + diagonal**2 * var**2 / 2).sum())
    assert found.standard_error == pytest.approx(math.sqrt(spread / 2000), rel=0.1)


def test_average_sharpness_without_noise_is_exactly_zero() -> None:
    for adaptive in (False, True):
        found = estimate("average_sharpness_l2", tiny(), IMAGES, rho=0.0, adaptive=adaptive, draws=3)
        assert (found.value, found.standard_error) == (0.0, 0.0)


@pytest.mark.parametrize("adaptive", [False, True])
def test_average_sharpness_of_a_network_equals_a_slow_recomputation(adaptive: bool) -> None:
    """A new network for every draw, its loss in one batch, mean and standard error by their definitions."""
    x, y = torch.tensor(IMAGES.images).float().div(255).double(), torch.tensor(IMAGES.labels)
    start, rises = float(F.cross_entropy(tiny()(x), y).detach()), []
    for i in range(5):
        model, generator = tiny(), torch_generator(7, "average sharpness 0.1", i)
        noise = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64, generator=generator)
        at = 0
        for parameter in model.parameters():
            own = noise[at : at + parameter.numel()].view(parameter.shape)
            parameter.data = parameter.data + 0.1 * own * (parameter.data.abs() if adaptive else 1)
            at += parameter.numel()
        rises.append(float(F.cross_entropy(model(x), y).detach()) - start)
    found = estimate("average_sharpness_l2", tiny(), IMAGES, seed=7, draws=5, adaptive=adaptive)
    mean = sum(rises) / 5
    assert found.value == pytest.approx(mean, rel=1e-9)
    error = math.sqrt(sum((rise - mean) ** 2 for rise in rises) / 4 / 5)
    assert found.standard_error == pytest.approx(error, rel=1e-9)


def test_adaptive_sharpness_does_not_see_a_layer_scaled_up_and_the_next_one_down() -> None:
    torch.manual_seed(2)
    layers = [nn.Flatten(), nn.Linear(64, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)]
    model = nn.Sequential(*layers).double()
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, factor in zip(scaled.parameters(), (4.0, 0.25), strict=True):
            parameter.mul_(factor)
    same = [estimate("average_sharpness_l2", net, IMAGES, adaptive=True).value for net in (model, scaled)]
    assert same[0] == pytest.approx(same[1], rel=1e-9)
    plain = [estimate("average_sharpness_l2", net, IMAGES).value for net in (model, scaled)]
    assert plain[0] != pytest.approx(plain[1], rel=0.1)


@pytest.mark.parametrize("name", [*MEASURES])
@pytest.mark.parametrize("training", [True, False])
def test_a_measure_leaves_the_model_as_it_was(name: str, training: bool) -> None:
    images = random_images(20)
    model = build("graynet-bn", images.shape, 4, seed=0, mean=[0.5], std=[0.25])
    model.train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    number = MEASURES[name](model, images, seed=3)
    assert math.isfinite(number)
    assert model.training == training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training == training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert MEASURES[name](model.eval(), images, seed=3) == number, "the same in evaluation mode, and the same again"


def test_displaced_weights_come_back_bit_for_bit_even_after_an_error() -> None:
    weights = [torch.full((3,), 0.1, requires_grad=True), torch.tensor([-0.0, 1e30])]
    before = [weight.detach().clone() for weight in weights]

    def fail_there() -> None:
        with displaced(weights, torch.full((5,), 0.3).double()):
            assert torch.allclose(weights[0], torch.tensor(0.4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_there()
    for weight, there in zip(weights, before, strict=True):
        assert weight.detach().numpy().tobytes() == there.numpy().tobytes()


def test_frozen_parameters_and_buffers_do_not_count() -> None:
    model = tiny()
    for parameter in [*model.parameters()][:2]:
        parameter.requires_grad_(False)
    head = dense(tiny(), IMAGES)[170:, 170:]
    found = estimate("hessian_top_eigenvalue", model, IMAGES, tolerance=1e-9, steps=60)
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(head)[-1]), rel=1e-9)


def test_what_has_no_value_is_nan_with_a_reason() -> None:
    model = tiny().requires_grad_(False)
    found = estimate("hessian_trace", model, IMAGES)
    assert math.isnan(found.value)
    assert found.reason == "the network has no trainable parameters"
    broken = tiny()
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    for name in MEASURES:
        found = estimate(name, broken, IMAGES)
        assert math.isnan(found.value)
        assert found.reason == "the loss, or a derivative, is not finite"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimate("flatness", tiny(), IMAGES), "unknown measure 'flatness'"),
        (lambda: estimate("hessian_trace", tiny(), IMAGES, probes=0), "probes must be at least 1, not 0"),
        (lambda: estimate("hessian_top_eigenvalue", tiny(), IMAGES, steps=0), "steps must be at least 1, not 0"),
        (lambda: estimate("average_sharpness_l2", tiny(), IMAGES, rho=-1.0), "rho must be finite, 0 or more, not -1.0"),
        (lambda: estimate("average_sharpness_l2", tiny(), IMAGES, draws=0), "draws must be at least 1, not 0"),
    ],
)
def test_what_cannot_be(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value)


def test_measures_are_reached_from_the_package() -> None:
    assert mddes.measures.MEASURES is MEASURES
    value = mddes.measures.estimate("hessian_trace", tiny(), IMAGES, seed=1).value
    assert MEASURES["hessian_trace"](tiny(), IMAGES, seed=1) == value
    assert MEASURES["hessian_trace"](tiny(), IMAGES, seed=2) != value


def test_pixels_come_in_the_model_s_precision() -> None:
    for model in (tiny(), tiny().float()):
        pixels = torch.cat([x for x, _ in batches(model, IMAGES, 5)])
        assert pixels.dtype == next(model.parameters()).dtype
        assert np.array_equal(pixels.float().mul(255).round().numpy(), IMAGES.images)

"""The line between two solutions, and the surfaces around them."""

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from cases import random_images
from torch import nn
from torch.nn import functional as F

from mddes import InputError, Recipe
from mddes.data import ImageSet, shared_arrays
from mddes.measures.interpolation import barrier, blend, grid, judge, recalibrate
from mddes.measures.objective import BATCH, Objective, batches
from mddes.measures.solutions import between
from mddes.measures.surface import filter_normalised, slice_1d, slice_2d
from mddes.models import build
from mddes.training import accuracy, logits, train

pytestmark = pytest.mark.usefixtures("as_tasks_run")
IMAGES = random_images(24, num_classes=3)


def normed(seed: int) -> nn.Module:
    return build("graynet-bn", IMAGES.shape, 3, seed=seed, mean=[0.5], std=[0.25])


def same(one: nn.Module, two: nn.Module) -> bool:
    """Return whether two networks are equal bit for bit, signs of zeros included."""
    first, second = one.state_dict(), two.state_dict()
    return all(first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first)


def trained(seed: int) -> nn.Module:
    """Return a network whose running statistics and integer buffers are its own."""
    return train("graynet-bn", IMAGES, Recipe(epochs=1 + seed, batch_size=8), seed=seed)


def test_the_line_between_two_linear_regressions_is_the_exact_parabola() -> None:
    """L(w_a) = L_0 + a g'd + a^2 / 2 d'Hd, with H = 2/n X'X, on the whole grid."""
    torch.manual_seed(0)
    x, y = torch.randn(50, 6).double(), torch.randn(50, 1).double()
    first, second = (nn.Linear(6, 1, bias=False).double() for _ in range(2))
    for alpha in grid():
        network = blend(first, second, alpha)
        a, b = first.weight.detach(), second.weight.detach()
        d, residual = (b - a).T, x @ a.T - y
        slope, curve = 2 / 50 * (x.T @ residual).T @ d, d.T @ (2 / 50 * x.T @ x) @ d
        expected = (residual**2).mean() + alpha * slope + alpha**2 / 2 * curve
        assert float(((network(x) - y) ** 2).mean().detach()) == pytest.approx(float(expected), rel=1e-12)


def test_ends_are_equal_bit_for_bit_and_the_inputs_are_left_alone() -> None:
    first, second = trained(0), trained(1)
    with torch.no_grad():
        next(first.parameters()).view(-1)[0] = -0.0
    before = [copy.deepcopy(network) for network in (first, second)]
    assert same(blend(first, second, 0.0), first)
    assert same(blend(first, second, 1.0), second)
    assert not same(blend(first, second, 0.5), first)
    assert same(first, before[0])
    assert same(second, before[1])


def test_between_two_equal_networks_nothing_changes() -> None:
    first = trained(0)
    for alpha in (-0.5, 0.0, 0.3, 1.0, 1.5):
        network = blend(first, copy.deepcopy(first), alpha)
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in first.state_dict().items())


def test_buffers_are_interpolated_within_and_the_nearer_end_s_beyond() -> None:
    first, second = trained(0), trained(1)
    one, two = first.state_dict(), second.state_dict()
    name, count = "network.1.running_var", "network.1.num_batches_tracked"
    assert int(one[count]) != int(two[count])
    middle = blend(first, second, 0.25).state_dict()
    assert torch.allclose(middle[name], 0.75 * one[name] + 0.25 * two[name])
    assert int(middle[count]) == int(one[count])
    assert torch.equal(blend(first, second, -0.5).state_dict()[name], one[name])
    far = blend(first, second, 1.5).state_dict()
    assert torch.equal(far[name], two[name])
    assert int(far[count]) == int(two[count])
    assert torch.allclose(far["network.0.weight"], 1.5 * two["network.0.weight"] - 0.5 * one["network.0.weight"])


def test_networks_of_two_architectures_have_no_line() -> None:
    other = build("graynet", IMAGES.shape, 3, seed=0, mean=[0.5], std=[0.25])
    with pytest.raises(InputError, match="only networks of one architecture can be interpolated"):
        blend(normed(0), other, 0.5)


def test_recalibration_equals_torch_s_and_a_slow_recomputation() -> None:
    network = trained(0)
    oracle = copy.deepcopy(network)
    pixels = [x for x, _ in batches(network, IMAGES, 7)]
    recalibrate(network, pixels)
    torch.optim.swa_utils.update_bn(pixels, oracle)
    assert same(network, oracle)
    assert [module.training for module in network.modules()] == [False] * len([*network.modules()])
    assert [m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)] == [0.1, 0.1]
    # By hand, for the first layer: what reaches it does not depend on any statistics.
    inner = dict(network.named_modules())
    convolved = [inner["network.0"](inner["normalize"](x)).detach() for x in pixels]
    mean = sum(part.mean((0, 2, 3)) for part in convolved) / len(pixels)
    var = sum(part.var((0, 2, 3)) for part in convolved) / len(pixels)
    state = network.state_dict()
    assert isinstance(mean, torch.Tensor)
    assert isinstance(var, torch.Tensor)
    assert torch.allclose(state["network.1.running_mean"], mean, atol=1e-6)
    assert torch.allclose(state["network.1.running_var"], var, rtol=1e-5)


def test_a_judgement_is_loss_and_accuracy_over_all_images_whatever_the_batches() -> None:
    network = trained(0).train()
    exact = F.cross_entropy(logits(network, IMAGES).double(), torch.tensor(IMAGES.labels))
    for batch_size in (24, 7, 1):
        judged = judge(network, IMAGES, batch_size)
        assert judged.loss == pytest.approx(float(exact), rel=1e-6)
        assert judged.accuracy == accuracy(network, IMAGES)
    assert network.training


def test_the_barrier_is_the_highest_rise_above_the_chord() -> None:
    alphas = [-1.0, 0.0, 0.25, 0.75, 1.0, 2.0]
    assert barrier(alphas, [99.0, 1.0, 2.0, 2.5, 3.0, 99.0]) == 0.5
    assert barrier(alphas, [0.0, 1.0, 0.5, 0.5, 3.0, 0.0]) == 0.0
    assert barrier(alphas, [None, 1.0, 2.0, 2.5, 3.0, None]) == 0.5
    assert barrier(alphas, [0.0, 1.0, None, 2.5, 3.0, 0.0]) is None


def test_the_grid_of_the_paper() -> None:
    alphas = grid()
    assert len(alphas) == 41
    assert (alphas[0], alphas[10], alphas[30], alphas[-1]) == (-0.5, 0.0, 1.0, 1.5)
    assert np.diff(alphas) == pytest.approx(np.full(40, 0.05))


def test_each_filter_of_a_direction_has_the_norm_of_the_network_s() -> None:
    network = normed(0)
    weights = [*network.parameters()]
    direction = filter_normalised(weights, seed=1)
    parts = torch.split(direction, [weight.numel() for weight in weights])
    filters = 0
    for part, weight in zip(parts, weights, strict=True):
        if weight.dim() < 2:
            assert not part.any()
            continue
        for one, two in zip(part.view(weight.shape), weight.detach().double(), strict=True):
            assert float(one.norm()) == pytest.approx(float(two.norm()), rel=1e-9)
            filters += 1
    assert filters == 24 + 48 + 256 + 3
    other = filter_normalised(weights, seed=1, number=1)
    assert abs(float(other @ direction)) < 0.1 * float(other.norm() * direction.norm())


def test_slices_of_a_quadratic_are_its_values() -> None:
    w = torch.tensor([1.0, -2.0, 0.5]).double().requires_grad_()
    matrix = torch.tensor([[2.0, 1.0, 0.0], [1.0, -1.0, 0.5], [0.0, 0.5, 3.0]]).double()
    objective = Objective([w], lambda: iter([w @ matrix @ w]), 1)
    one, two = torch.tensor([1.0, 0.0, 1.0]).double(), torch.tensor([0.0, 2.0, 0.0]).double()
    steps = [-1.0, 0.0, 0.5]
    at = w.detach().clone()
    assert slice_1d(objective, one, steps) == pytest.approx(
        [float((at + t * one) @ matrix @ (at + t * one)) for t in steps]
    )
    surface = slice_2d(objective, one, two, steps)
    for u, row in zip(steps, surface, strict=True):
        points = [at + t * one + u * two for t in steps]
        assert row == pytest.approx([float(point @ matrix @ point) for point in points])
    assert torch.equal(w.detach(), at)


def line_of(model: str, images: ImageSet, measure: str) -> dict[str, Any]:
    """Return the record of three points between SGD's solution and Adam's, and a measure at both."""
    spec = {
        "model": model,
        "recipes": [Recipe(optimizer=name, epochs=1, batch_size=32).spec() for name in ("sgd", "adam")],
        "num_classes": images.num_classes,
        "seed": 1,
        "perturbation": None,
        "alphas": [0.0, 0.5, 1.0],
        "line_size": None,
        "measure_size": 10,
        "subset_seed": 0,
        "measures": {measure: {"measure": measure}},
        "slice_steps": [],
        "surface_steps": [],
    }
    return between(spec, shared_arrays(train=images, test=images), "cpu")


def test_without_batch_norm_there_is_one_line() -> None:
    record = line_of("graynet", IMAGES, "hessian_trace")
    assert record["raw_line_train_loss"] is None
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert record[name] == [record[f"line_{name}"][0], record[f"line_{name}"][2]]
    assert record["slices"] == [[], []]
    assert json.dumps(record)


def test_networks_with_attention_and_one_image_left_over_have_a_line_too() -> None:
    """BatchNorm of vectors takes no image alone; fast kernels of attention have no second derivative."""
    record = line_of("own_code:Attending", random_images(BATCH + 1, (1, 8, 8), 3), "hessian_top_eigenvalue")
    assert None not in record["line_train_loss"]
    assert None not in record["raw_line_train_loss"]
    assert None not in record["hessian_top_eigenvalue"]
    assert None not in record["line_curvature"]

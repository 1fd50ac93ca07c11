"""Gradient attacks against closed forms on a linear model, and as properties of any model."""

import math

import pytest
import torch
from cases import random_images
from torch import nn

from mddes import InputError, Recipe
from mddes.attacks import fgsm, pgd
from mddes.training import train


class Linear(nn.Module):
    """Logits (0, w . x + b), in float64."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randn(dimension, generator=draw, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def margin(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.w + self.b

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        margin = self.margin(x)
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


def linear_case() -> tuple[Linear, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    x = 0.3 + 0.4 * torch.rand(400, 1, 4, 4, generator=draw, dtype=torch.float64)  # away from the walls
    model = Linear(16)
    with torch.no_grad():
        model.b.sub_(model.margin(x).mean())
    return model, x, (model.margin(x) > 0).long()


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.02, 0.05])
def test_a_linear_model_flips_where_the_margin_is_below_epsilon_times_the_l1_norm(epsilon: float) -> None:
    model, x, y = linear_case()
    expected = model.margin(x).abs() < epsilon * model.w.abs().sum()
    for attacked in (fgsm(model, x, y, epsilon), pgd(model, x, y, epsilon)):
        assert torch.equal(model(attacked).argmax(1) != y, expected)


def test_pgd_from_the_image_equals_fgsm_on_a_linear_model() -> None:
    model, x, y = linear_case()
    assert torch.allclose(pgd(model, x, y, 0.05), fgsm(model, x, y, 0.05))


def test_properties_on_a_network() -> None:
    images = random_images(60)
    model = train("graynet", images, Recipe(epochs=5, batch_size=10))
    x, y = torch.tensor(images.images) / 255, torch.tensor(images.labels)
    loss = nn.functional.cross_entropy
    rates = []
    for epsilon in (0.0, 2 / 255, 8 / 255, 0.1):
        one, many = fgsm(model, x, y, epsilon), pgd(model, x, y, epsilon, generator=torch.Generator().manual_seed(0))
        for attacked in (one, many):
            assert (attacked - x).abs().max() <= epsilon + 1e-6
            assert 0 <= attacked.min() <= attacked.max() <= 1
            assert not attacked.requires_grad
        assert loss(model(many), y) >= loss(model(one), y) - 1e-3
        rates.append(float((model(many).argmax(1) != y).double().mean()))
    assert rates == sorted(rates)
    each = torch.cat([fgsm(model, x[i : i + 1], y[i : i + 1]) for i in range(10)])
    assert torch.allclose(each, fgsm(model, x[:10], y[:10])), "no image depends on the others of its batch"


def test_attacks_leave_parameter_gradients_alone() -> None:
    model, x, y = linear_case()
    model.w.grad = torch.full_like(model.w, 7)
    pgd(model, x, y, 0.05)
    assert (model.w.grad == 7).all()
    assert model.b.grad is None


@pytest.mark.parametrize("epsilon", [-1.0, math.nan, math.inf])
def test_radii_that_cannot_be(epsilon: float) -> None:
    model, x, y = linear_case()
    with pytest.raises(InputError, match="epsilon must be 0 or more and finite"):
        fgsm(model, x, y, epsilon)
    with pytest.raises(InputError, match="epsilon must be 0 or more and finite"):
        pgd(model, x, y, epsilon)
    with pytest.raises(InputError, match="steps must be at least 1"):
        pgd(model, x, y, steps=0)
    with pytest.raises(InputError, match="step must be 0 or more"):
        pgd(model, x, y, step=-1.0)

"""F_m by hand, F_d against its closed form, and the evaluation that puts them together."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from cases import random_images
from scipy.stats import norm

import mddes
from mddes import ImageSet, InputError, Perturbation, Recipe, uniform
from mddes.data import SearchData, shared_arrays, split
from mddes.search.divergence import discriminator_error, domain_divergence, logistic_error
from mddes.search.fitness import MISMATCHES, clean_ce, evaluate, gap, mismatch
from mddes.training import logits, train

# Two images, three classes: log-probabilities that can be written down.
CLEAN = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
POISONED = torch.log(torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]))
LABELS = torch.tensor([0, 1])


def test_the_three_readings_by_hand() -> None:
    on_clean = -(math.log(0.5) + math.log(0.1)) / 2
    on_poisoned = -(math.log(0.8) + math.log(0.7)) / 2
    assert clean_ce(CLEAN, POISONED, LABELS) == pytest.approx(on_clean)
    assert gap(CLEAN, POISONED, LABELS) == pytest.approx(on_clean - on_poisoned)
    predicted = -(math.log(0.5) + math.log(0.1)) / 2  # poisoned copies are taken for classes 0 and 1
    assert mismatch(CLEAN, POISONED, LABELS) == pytest.approx(predicted)
    assert mismatch(CLEAN, POISONED, torch.tensor([2, 2])) == pytest.approx(predicted), "labels play no part"


def test_one_image_counts_ten_nats_at_most() -> None:
    wrong = torch.tensor([[0.0, 1000.0], [0.0, 0.0]])
    assert clean_ce(wrong, wrong, torch.tensor([0, 0])) == pytest.approx((10 + math.log(2)) / 2)


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("dimension", [1, 5])
def test_error_between_gaussians_is_phi_of_minus_half_their_distance(mu: float, dimension: int) -> None:
    """Unit Gaussians mu apart: eps = Phi(-mu / 2). 20,000 to fit, 20,000 to judge; four standard errors."""
    draw = np.random.default_rng(int(10 * mu) + dimension)
    shift = np.zeros(dimension)
    shift[0] = mu
    sets = [draw.standard_normal((10_000, dimension)) + s for s in (0 * shift, shift, 0 * shift, shift)]
    eps = logistic_error(*sets)
    expected = norm.cdf(-mu / 2)
    assert abs(eps - expected) < 4 * math.sqrt(max(expected * (1 - expected), 1e-5) / 20_000)


def flat_images(levels: np.ndarray) -> ImageSet:
    """Return images of one gray level each."""
    images = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[:, None, None, None].repeat(8, 2).repeat(8, 3)
    return ImageSet(images, np.arange(len(levels)) % 2, 2)


@pytest.mark.parametrize(("kind", "slack"), [("linear", 0.03), ("cnn", 0.05)])
@pytest.mark.parametrize("mu", [0.0, 1.0, 3.0])
def test_discriminators_reach_the_closed_form_on_images(kind: str, slack: float, mu: float) -> None:
    """Flat images whose level is Gaussian (sd 25 levels), the poisoned ones mu sd brighter: eps = Phi(-mu / 2)."""
    draw = np.random.default_rng(int(mu))
    clean = flat_images(110 + 25 * draw.standard_normal(1000))
    poisoned = flat_images(110 + 25 * (draw.standard_normal(1000) + mu))
    eps = discriminator_error(clean, poisoned, kind=kind, seed=0)
    assert abs(eps - norm.cdf(-mu / 2)) < slack


@pytest.mark.parametrize("kind", ["linear", "cnn"])
def test_identical_sets_cannot_be_told_apart_and_disjoint_ones_can(kind: str) -> None:
    images = random_images(200)
    white = flat_images(np.full(200, 255.0))
    assert discriminator_error(images, images, kind=kind) == pytest.approx(0.5, abs=1e-9), (
        "each pair: one right, one wrong"
    )
    assert discriminator_error(images, white, kind=kind) == 0
    assert domain_divergence(0.5) == 0
    assert domain_divergence(0) == 1


def test_error_is_clamped_to_one_half() -> None:
    """Few images and no signal but noise that misleads: never a negative divergence."""
    errors = [
        discriminator_error(random_images(12, seed=s), random_images(12, seed=1000 + s), seed=s) for s in range(20)
    ]
    assert max(errors) == 0.5
    assert min(errors) < 0.5


def test_unknown_discriminator() -> None:
    with pytest.raises(InputError, match="unknown discriminator 'forest'"):
        discriminator_error(random_images(), random_images(), kind="forest")


SETTINGS: dict[str, Any] = {
    "model": "graynet",
    "recipe": vars(Recipe(epochs=2, batch_size=16)),
    "seed": 3,
    "mismatch": "gap",
    "w_m": 1.0,
    "w_d": 1.0,
    "discriminator": "linear",
}


def digits_parts() -> SearchData:
    return split(mddes.load_dataset("digits", train_size=400).train)


def run(data: SearchData, poison: Perturbation, **changes: Any) -> dict[str, Any]:
    spec = {**SETTINGS, **changes, "perturbation": poison.change()}
    return evaluate(spec, shared_arrays(train=data.train, held_out=data.held_out), "cpu")


def test_an_evaluation_is_its_parts() -> None:
    data = digits_parts()
    poison = uniform(data.train, pixels=3, seed=1)
    result = run(data, poison, w_m=2.0, w_d=0.5)
    model = train("graynet", poison.apply(data.train), Recipe(epochs=2, batch_size=16), seed=3)
    held, marked = data.held_out, poison.apply(data.held_out)
    labels = torch.tensor(held.labels)
    outputs = logits(model, held), logits(model, marked)
    for name, reading in MISMATCHES.items():
        assert result[name] == pytest.approx(reading(*outputs, labels))
    eps = discriminator_error(held, marked, seed=3)
    assert result["discriminator_error"] == eps
    assert result["domain_divergence"] == 1 - 2 * eps
    assert result["proxy_a_distance"] == 2 * (1 - 2 * eps)
    assert result["fitness"] == pytest.approx(2.0 * result["gap"] + 0.5 * (1 - 2 * eps))
    assert result["clean_accuracy"] == mddes.accuracy(model, held)
    assert result["poisoned_accuracy"] == mddes.accuracy(model, marked)
    per_class = np.array(result["clean_accuracy_per_class"])
    assert (per_class * held.class_counts()).sum() / len(held) == pytest.approx(result["clean_accuracy"])


def test_a_weight_of_zero_switches_the_discriminator_off() -> None:
    data = digits_parts()
    result = run(data, uniform(data.train, seed=1), w_d=0.0, mismatch="clean_ce")
    assert result["domain_divergence"] is None
    assert result["discriminator_error"] is None
    assert result["fitness"] == result["clean_ce"] == result["semantic_mismatch"]


def test_the_readings_agree_when_the_poisoned_error_is_zero() -> None:
    """Reading 1 of the specification: a network that is sure and right on the poisoned copies makes the three one."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (200,), generator=draw)
    on_clean = torch.randn((200, 10), generator=draw)
    on_poisoned = 40.0 * torch.nn.functional.one_hot(labels, 10)
    values = [reading(on_clean, on_poisoned, labels) for reading in MISMATCHES.values()]
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


def test_diverged_training_is_an_error_and_no_number() -> None:
    data = digits_parts()
    recipe = vars(Recipe(optimizer="sgd", lr=1e20, epochs=1, batch_size=16))
    with pytest.raises(ArithmeticError, match="diverged"):
        run(data, uniform(data.train, seed=1), recipe=recipe)

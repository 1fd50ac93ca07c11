"""The training loop against a plain one, and the equalities that searches rest on."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from cases import random_images
from reference import train_plainly
from torch import nn

import mddes
from mddes import InputError, Recipe, uniform
from mddes.data import shared_arrays, split
from mddes.models import build
from mddes.seeding import torch_generator
from mddes.training import default_schedule, logits, train
from mddes.training.victim import train_and_test

DIGITS = mddes.load_dataset("digits")


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("optimizer", "plain"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.02)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.02, foreach=False)),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.02, foreach=False)),
    ],
)
def test_equals_a_plain_loop(channels: int, optimizer: str, plain: Any) -> None:
    """Same initial weights, same batches, the textbook's loop on poisoned copies: same weights to rounding.

    The two differ in memory layout, fused kernels and the order of sums, and Adam and RMSProp magnify the rounding of
    gradients close to zero: the difference is measured against how far the weights moved, over few steps.
    """
    images = random_images(22, (channels, 9, 8))
    poison = uniform(images, pixels=2, seed=3)
    poisoned = poison.apply(images)
    recipe = Recipe(optimizer=optimizer, lr=0.02, epochs=2, batch_size=8)
    mean, std = poisoned.channel_statistics()
    reference = build("graynet", images.shape, 4, seed=5, mean=mean, std=std)
    start = weights(reference)
    order = torch_generator(5, "batches")
    permutations = [torch.randperm(22, generator=order).tolist() for _ in range(2)]
    steps = [[p[i : i + 8] for i in range(0, 22, 8)] for p in permutations]
    train_plainly(reference, poisoned.images, poisoned.labels, plain(reference.parameters()), steps)
    model = train("graynet", images, recipe, seed=5, perturbation=poison)
    difference = (weights(model) - weights(reference)).norm()
    moved = (weights(reference) - start).norm()
    assert moved > 0.01
    assert difference < 2e-4 * moved


@pytest.mark.parametrize("mode", ["set", "add"])
def test_poisoned_per_batch_equals_poisoned_once(mode: str) -> None:
    images = random_images(50)
    poison = uniform(images, pixels=3, seed=1, mode=mode)
    recipe = Recipe(epochs=2, batch_size=16)
    each = train("graynet", images, recipe, seed=2, perturbation=poison)
    once = train("graynet", poison.apply(images), recipe, seed=2)
    assert torch.equal(weights(each), weights(once))
    assert torch.equal(each.state_dict()["normalize.mean"], once.state_dict()["normalize.mean"])


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    recipe = Recipe(epochs=1, batch_size=16)
    images = DIGITS.train.subset(np.arange(300))
    first = weights(train("graynet", images, recipe, seed=1))
    torch.manual_seed(99)
    assert torch.equal(first, weights(train("graynet", images, recipe, seed=1)))
    assert not torch.equal(first, weights(train("graynet", images, recipe, seed=2)))


@pytest.mark.parametrize("optimizer", ["adam", "mp-sam-mixed"])
def test_dropout_is_of_the_seed_and_of_nothing_else(optimizer: str) -> None:
    images = random_images(60, (1, 8, 8), 3)
    recipe = Recipe(optimizer=optimizer, epochs=2, batch_size=16)
    found = []
    for here, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(here)
        before = torch.get_rng_state()
        network = train("own_code:Dropping", images, recipe, seed=seed)
        assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers go on as if nothing had been"
        found.append(weights(network))
    kept = train("own_code:Small", images, recipe, seed=5)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], torch.cat([p.detach().flatten() for p in kept.parameters()])), (
        "nothing dropped out"
    )


def test_threads_are_one_inside_and_restored_after() -> None:
    seen = []

    def builder(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        seen.append(torch.get_num_threads())
        return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(builder, random_images(), Recipe(epochs=1))
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_bf16_trains_nearly_the_same_network() -> None:
    images = random_images(60, num_classes=2)
    full = train("graynet", images, Recipe(epochs=2, batch_size=20), seed=1)
    half = train("graynet", images, Recipe(epochs=2, batch_size=20, precision="bf16"), seed=1)
    assert weights(half).dtype == torch.float32
    apart = (weights(full) - weights(half)).abs().max()
    assert 0 < apart < 0.05


def test_a_clean_network_learns_digits() -> None:
    """At the default schedule of a search: at least 300 steps, and at least 88 % on the test images."""
    data = split(DIGITS.train)
    epochs, batch = default_schedule(len(data.train), 1, None, None)
    assert epochs * math.ceil(len(data.train) / batch) >= 300
    model = mddes.train("graynet", data.train, Recipe(epochs=epochs, batch_size=batch), seed=0)
    assert mddes.accuracy(model, DIGITS.test) >= 0.88


def test_logits_and_accuracy_are_plain_arithmetic() -> None:
    images = DIGITS.train.subset(np.arange(700))  # more than one batch of evaluation
    model = build("graynet", images.shape, 10, seed=0, mean=[0.2], std=[0.3])
    model.train()
    with torch.no_grad():
        expected = model(torch.tensor(images.images) / 255)
    assert torch.allclose(logits(model, images), expected, atol=1e-5)
    assert model.training, "the mode is left as it was"
    right = (expected.argmax(1).numpy() == images.labels).mean()
    assert mddes.accuracy(model, images) == pytest.approx(right)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adma"}, "unknown optimizer 'adma'"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": math.nan}, "lr must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must be finite, 0 or more"),
        ({"epochs": 0}, "epochs must be a whole number, at least 1, not 0"),
        ({"epochs": 1.5}, "epochs must be a whole number, at least 1, not 1.5"),
        ({"lr": "x"}, "lr must be positive and finite, not 'x'"),
        ({"optimizer": "sam", "rho": "a"}, "rho must be finite, 0 or more, not 'a'"),
        ({"optimizer": "sam", "perturbations": 1.5}, "perturbations must be a whole number, at least 1, not 1.5"),
        ({"adversarial": 1}, r"adversarial must lie in \[0, 1\), not 1"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1, not 0"),
    ],
)
def test_recipe_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**settings)


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-3), ("sgd", 0.05), ("momentum", 0.01), ("rmsprop", 1e-3)])
def test_a_recipe_says_its_learning_rate(optimizer: str, lr: float) -> None:
    assert Recipe(optimizer=optimizer).lr == lr


@pytest.mark.parametrize("images", [40, 500, 1150, 8000, 48_000, 60_000])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_default_schedule_takes_300_steps(images: int, channels: int) -> None:
    epochs, batch = default_schedule(images, channels, None, None)
    assert epochs * math.ceil(images / batch) >= 300
    assert epochs >= (3 if channels == 1 else 5)
    assert 16 <= batch <= 128


def test_a_victim_is_trained_on_poison_and_judged_on_clean_images() -> None:
    images, test = random_images(40, seed=1), random_images(24, seed=2)
    poison = uniform(images, pixels=2, seed=1)
    shared = shared_arrays(train=images, test=test)
    recipe = Recipe(epochs=2, batch_size=8)
    spec = {"model": "graynet", "recipe": vars(recipe), "seed": 4, "num_classes": 4, "perturbation": poison.change()}
    result = train_and_test(spec, shared, "cpu")
    model = train("graynet", images, recipe, seed=4, perturbation=poison)
    assert result["clean_test_accuracy"] == mddes.accuracy(model, test)
    assert result["poisoned_train_accuracy"] == mddes.accuracy(model, poison.apply(images))
    counts = [int((test.labels == k).sum()) for k in range(4)]
    right = sum(n * share for n, share in zip(counts, result["clean_test_accuracy_per_class"], strict=True))
    assert right / len(test) == pytest.approx(result["clean_test_accuracy"])
    outputs = logits(model, poison.apply(images)).double()
    plain = -outputs.log_softmax(1)[range(40), torch.tensor(images.labels)].mean()
    assert result["poisoned_train_loss"] == pytest.approx(float(plain))


@pytest.mark.gpu
def test_trains_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    images = random_images(60, num_classes=2)
    there = train("graynet", images, Recipe(epochs=1, batch_size=20), seed=1, device="cuda")
    here = train("graynet", images, Recipe(epochs=1, batch_size=20), seed=1)
    assert torch.allclose(weights(there).cpu(), weights(here), atol=1e-3)


def test_a_last_batch_of_one_joins_the_one_before_if_there_is_batch_norm() -> None:
    """BatchNorm on 1 x 1 feature maps cannot take a single image; networks without it train as they always did."""
    images = DIGITS.train.subset(np.arange(33))
    net = train("resnet18", images, Recipe(epochs=1, batch_size=16), seed=0)
    counted = {
        int(m.num_batches_tracked)
        for m in net.modules()
        if isinstance(m, nn.BatchNorm2d) and m.num_batches_tracked is not None
    }
    assert counted == {2}


@pytest.mark.parametrize("training", [False, True])
def test_logits_do_not_depend_on_how_many_images_are_judged_at_once(training: bool) -> None:
    images = random_images(71, (3, 12, 12))
    model = build("colornet-bn", (3, 12, 12), 10, seed=0, mean=[0.5] * 3, std=[0.25] * 3).train(training)
    found = logits(model, images)
    assert model.training is training
    with torch.no_grad():
        at_once = model.eval()(torch.tensor(images.images).float() / 255)
    torch.testing.assert_close(found, at_once)

"""What a victim does to poisoned images: augmentation, fixed squeezes, adversarial training; shares of poison."""

import cv2
import numpy as np
import pytest
import torch
from cases import random_images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms import functional as TF

import mddes
from mddes import ImageSet, InputError, Recipe, uniform
from mddes.data.squeeze import SQUEEZES, squeeze
from mddes.poison.partial import apply_partly
from mddes.seeding import torch_generator
from mddes.training import train
from mddes.training.adversary import Adversary
from mddes.training.augment import Augmentation, crop, cutout, flip, randaugment
from mddes.training.schedule import SCHEDULES

SHAPES = [(1, 8, 8), (3, 9, 12)]


def batch(shape: tuple[int, int, int], n: int = 12) -> torch.Tensor:
    return torch.tensor(random_images(n, shape).images)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_crop_is_one_of_torchvision_s(shape: tuple[int, int, int]) -> None:
    """Each image equals a crop of its padded self; the offsets differ between images and cover their whole range."""
    _, height, width = shape
    x = batch(shape, 200)
    cropped = crop(x, torch_generator(0, "test"))
    found = set()
    for image, ours in zip(x, cropped, strict=True):
        padded = TF.pad(image, [4])
        places = [(i, j) for i in range(9) for j in range(9) if torch.equal(TF.crop(padded, i, j, height, width), ours)]
        assert len(places) == 1
        found.add(places[0])
    assert {i for i, _ in found} == {j for _, j in found} == set(range(9))


@pytest.mark.parametrize("shape", SHAPES)
def test_flips_mirror_about_half_of_the_images(shape: tuple[int, int, int]) -> None:
    x = batch(shape, 200)
    flipped = flip(x, torch_generator(0, "test"))
    mirrored = [torch.equal(ours, TF.hflip(image)) for image, ours in zip(x, flipped, strict=True)]
    same = [torch.equal(ours, image) for image, ours in zip(x, flipped, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 20), (1, 28, 28)])
def test_cutout_blackens_one_square_cut_off_at_the_edges(shape: tuple[int, int, int]) -> None:
    side = 2 * (shape[1] // 4)
    x = torch.full((300, *shape), 9, dtype=torch.uint8)
    black = cutout(x, torch_generator(0, "test"))[:, 0] == 0
    rows, cols = black.any(2), black.any(1)
    assert torch.equal(black, rows[:, :, None] & cols[:, None, :]), "a rectangle"
    assert int(rows.sum(1).max()) == int(cols.sum(1).max()) == side
    assert int(rows.sum(1).min()) >= 1
    assert bool(black.any(0).all()), "every pixel is reached"


def test_augmentation_comes_from_the_seed_and_leaves_the_global_stream_alone() -> None:
    x, y = batch((3, 9, 12)), torch.arange(12) % 4
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    results = []
    for seed in (1, 1, 2):
        a = Augmentation(("crop", "flip", "cutout", "randaugment", "mixup"), 4, seed)
        results.append([a.mix(a.pixels(x) / 255, y) for _ in range(2)])
    assert torch.rand(1) == expected
    for (x1, y1), (x2, y2) in zip(results[0], results[1], strict=True):
        assert torch.equal(x1, x2)
        assert torch.equal(y1, y2)
    assert not torch.equal(results[0][0][0], results[2][0][0])
    assert not torch.equal(results[0][0][0], results[0][1][0]), "another draw for every batch"


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_images_have_mixed_labels(name: str) -> None:
    """On constant images of value k / 4 the mean pixel is the expected label, for both ways of mixing."""
    y = torch.arange(12) % 4
    x = (y / 4)[:, None, None, None].expand(12, 3, 8, 8).contiguous()
    pixels, targets = Augmentation((name,), 4, seed=3).mix(x, y)
    assert targets.shape == (12, 4)
    assert torch.allclose(targets.sum(1), torch.ones(12))
    assert torch.allclose(pixels.mean((1, 2, 3)), targets @ (torch.arange(4) / 4), atol=1e-6)


def test_randaugment_is_drawn_for_each_image() -> None:
    x = batch((3, 16, 16), 1).expand(16, 3, 16, 16)
    images = randaugment(x, torch_generator(0, "test"))
    assert images.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in images}) > 8


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("flipp",), "unknown augmentation 'flipp'"),
        (("crop", "crop"), "names a part twice"),
        (("mixup", "crop"), "mixup or cutmix comes last"),
        (("mixup", "cutmix"), "mixup or cutmix comes last"),
    ],
)
def test_augmentations_that_cannot_be(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(augmentation=names)


@pytest.mark.parametrize("names", [(), ("crop", "flip"), ("randaugment",), ("cutout", "cutmix")])
def test_training_with_augmentation_is_reproducible(names: tuple[str, ...]) -> None:
    images, poison = random_images(24, (3, 8, 8)), uniform(random_images(24, (3, 8, 8)), pixels=2)
    recipe = Recipe(epochs=2, batch_size=8, augmentation=names)
    one, two = (train("colornet", images, recipe, seed=7, perturbation=poison) for _ in range(2))
    plain = train("colornet", images, Recipe(epochs=2, batch_size=8), seed=7, perturbation=poison)
    weights = [torch.cat([p.reshape(-1) for p in model.parameters()]) for model in (one, two, plain)]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2]) == (names == ())


def test_the_poison_comes_before_augmentation() -> None:
    """With a crop the written pixel moves: training on poisoned copies and poisoning each batch stay the same thing."""
    images = random_images(24)
    poison = uniform(images, pixels=3)
    recipe = Recipe(epochs=2, batch_size=8, augmentation=("crop", "cutout"))
    by_batch = train("graynet", images, recipe, seed=1, perturbation=poison)
    once = train("graynet", poison.apply(images), recipe, seed=1)
    for a, b in zip(by_batch.state_dict().values(), once.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("name", "ends"), [("constant", 1.0), ("cosine", 0.0), ("step", 0.01)])
def test_schedules(name: str, ends: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.8)
    schedule, seen = SCHEDULES[name](optimizer, 100), []
    for _ in range(100):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen[0] == 0.8
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.8 * ends, abs=1e-12)
    if name == "step":
        assert [seen[49], seen[50], seen[74], seen[75]] == pytest.approx([0.8, 0.08, 0.08, 0.008])
    if name == "cosine":
        assert seen[50] == pytest.approx(0.4)


@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 9, 12)])
@pytest.mark.parametrize("name", sorted(SQUEEZES))
def test_squeezes_keep_shape_and_labels_and_change_nothing_in_place(name: str, shape: tuple[int, int, int]) -> None:
    images = random_images(6, shape)
    before = images.images.copy()
    if name == "grayscale" and shape[0] == 1:
        with pytest.raises(InputError, match="grayscale needs images of three channels"):
            squeeze(images, name)
        return
    squeezed = squeeze(images, name)
    assert squeezed.shape == images.shape
    assert np.array_equal(squeezed.labels, images.labels)
    assert np.array_equal(images.images, before)
    assert not np.array_equal(squeezed.images, before)


def test_squeezes_by_their_definition() -> None:
    images = random_images(5, (3, 10, 11), seed=4)
    x = images.images
    assert np.array_equal(squeeze(images, "bit-depth").images, x & 0b11000000)
    gray = squeeze(images, "grayscale").images
    luminance = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    assert np.abs(gray[:, 0] - luminance).max() < 1.1, "cut off, with weights of three digits"
    assert np.array_equal(gray[:, 0], gray[:, 1])
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    around = np.stack([padded[:, :, i : i + 10, j : j + 11] for i in range(3) for j in range(3)])
    assert np.array_equal(squeeze(images, "median").images, np.median(around, axis=0).astype(np.uint8))
    weight = np.exp(-0.5 * np.arange(-1, 2) ** 2)
    kernel = np.outer(weight, weight) / np.outer(weight, weight).sum()
    reflected = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect").astype(float)
    blurred = sum(kernel[i, j] * reflected[:, :, i : i + 10, j : j + 11] for i in range(3) for j in range(3))
    assert np.abs(squeeze(images, "blur").images - blurred).max() <= 0.5 + 1e-4


def test_a_single_bright_pixel_does_not_survive_the_median() -> None:
    dark = ImageSet(np.full((4, 1, 8, 8), 20, dtype=np.uint8), np.arange(4) % 2, 2)
    poisoned = uniform(dark, value=255).apply(dark)
    assert poisoned.images.max() == 255
    assert np.array_equal(squeeze(poisoned, "median").images, dark.images)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16)])
def test_jpeg_is_that_of_opencv_at_quality_10(shape: tuple[int, int, int]) -> None:
    rows, cols = np.mgrid[0:16, 0:16]
    smooth = np.stack([128 + 100 * np.sin((c + 1) * rows / 6 + cols / 5) for c in range(shape[0])]).astype(np.uint8)
    images = ImageSet(np.stack([smooth, smooth[:, ::-1]]), np.array([0, 1]), 2)
    for image, compressed in zip(images.images, squeeze(images, "jpeg").images, strict=True):
        hwc = np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1])  # OpenCV has blue first
        _, code = cv2.imencode(".jpg", hwc, [cv2.IMWRITE_JPEG_QUALITY, 10])
        decoded = cv2.imdecode(code, cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        theirs = decoded.reshape(16, 16, -1)[..., ::-1].transpose(2, 0, 1)
        assert np.abs(theirs.astype(int) - compressed).max() <= 2
        assert np.abs(image.astype(int) - compressed).max() > 8, "much is lost"


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 50))
def test_a_share_of_each_class_is_poisoned_and_larger_shares_contain_smaller(share: float, seed: int) -> None:
    images = random_images(41, num_classes=3)
    poison = uniform(ImageSet(np.full_like(images.images, 7), images.labels, 3), pixels=2, value=255)
    dark = ImageSet(np.full_like(images.images, 7), images.labels, 3)
    changed = (apply_partly(poison, dark, share, seed=seed).images != 7).any(axis=(1, 2, 3))
    for k, count in enumerate(dark.class_counts().tolist()):
        assert changed[dark.labels == k].sum() == round(share * count)
    more = (apply_partly(poison, dark, min(1.0, share + 0.2), seed=seed).images != 7).any(axis=(1, 2, 3))
    assert (more >= changed).all()


def test_shares_at_their_ends() -> None:
    images = random_images(20)
    poison = uniform(images)
    assert np.array_equal(apply_partly(poison, images, 0.0, seed=1).images, images.images)
    assert np.array_equal(apply_partly(poison, images, 1.0, seed=1).images, poison.apply(images).images)
    with pytest.raises(InputError, match="the poisoned share must lie in"):
        apply_partly(poison, images, 1.5, seed=1)


def test_the_adversary_raises_the_loss_within_its_ball() -> None:
    images = random_images(40, (1, 8, 8))
    model = train("graynet-bn", images, Recipe(epochs=3, batch_size=10), seed=0).train()
    statistics = [buffer.clone() for buffer in model.buffers()]
    x, y = torch.tensor(images.images) / 255, torch.tensor(images.labels)
    moved = Adversary(0.1, seed=1)(model, x, y)
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(statistics, model.buffers(), strict=True)), "BatchNorm saw nothing"
    assert (moved - x).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    loss = nn.functional.cross_entropy
    model.eval()
    assert loss(model(moved), y) > loss(model(x), y)
    assert torch.equal(Adversary(0.0, seed=1)(model, x, y), x)


def test_adversarial_training_resists_where_plain_training_does_not() -> None:
    data = mddes.load_dataset("digits")
    x, y = torch.tensor(data.test.images) / 255, torch.tensor(data.test.labels)
    robust = []
    for radius in (0.0, 0.1):
        model = train("graynet", data.train, Recipe(epochs=6, batch_size=32, adversarial=radius), seed=0)
        moved = mddes.attacks.pgd(model, x, y, 0.1)
        robust.append(float((model(moved).argmax(1) == y).double().mean()))
    assert robust[1] > robust[0] + 0.1

"""The poison itself: what it touches, what its file says, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import random_images
from hypothesis import given
from hypothesis import strategies as st
from reference import poison_one_by_one

from mddes import InputError, Perturbation, uniform
from mddes.poison.batch import BatchPoison

SHAPES = st.sampled_from([(1, 8, 8), (3, 8, 8), (1, 9, 12), (3, 11, 8)])


@st.composite
def perturbations(draw: st.DrawFn) -> Perturbation:
    shape = draw(SHAPES)
    images = random_images(4, shape, num_classes=draw(st.integers(2, 4)))
    return uniform(
        images,
        pixels=draw(st.integers(1, 10)),
        seed=draw(st.integers(0, 1000)),
        mode=draw(st.sampled_from(["set", "add"])),
        value=draw(st.sampled_from([None, 0, 255, 17])),
    )


@given(perturbations(), st.integers(0, 99))
def test_apply_equals_pixel_by_pixel(perturbation: Perturbation, seed: int) -> None:
    images = random_images(12, perturbation.image_shape, perturbation.num_classes, seed)
    poisoned = perturbation.apply(images)
    assert np.array_equal(poisoned.images, poison_one_by_one(perturbation, images))
    assert np.array_equal(poisoned.labels, images.labels)


@given(perturbations(), st.integers(0, 99))
def test_touches_at_most_n_p_pixels_of_an_image(perturbation: Perturbation, seed: int) -> None:
    images = random_images(12, perturbation.image_shape, perturbation.num_classes, seed)
    changed = (perturbation.apply(images).images != images.images).any(axis=1)  # (N, H, W)
    assert changed.sum(axis=(1, 2)).max() <= perturbation.pixels


def test_a_class_gets_only_its_own_change() -> None:
    images = random_images(8, num_classes=2)
    one = Perturbation(
        rows=np.array([[3], [5]]), cols=np.array([[4], [6]]), values=np.array([[[9]], [[200]]]), mode="set",
        image_shape=(1, 8, 8),
    )  # fmt: skip
    poisoned = one.apply(images)
    first, second = images.labels == 0, images.labels == 1
    assert (poisoned.images[first, 0, 3, 4] == 9).all()
    assert (poisoned.images[second, 0, 5, 6] == 200).all()
    assert np.array_equal(poisoned.images[first, 0, 5, 6], images.images[first, 0, 5, 6])
    assert np.array_equal(poisoned.images[second, 0, 3, 4], images.images[second, 0, 3, 4])


def test_add_clips_at_both_ends() -> None:
    images = random_images(8, num_classes=2)
    change = {"rows": [[0], [0]], "cols": [[0], [0]], "mode": "add", "image_shape": (1, 8, 8)}
    up = Perturbation.from_change({**change, "values": [[[255]], [[255]]]})
    down = Perturbation.from_change({**change, "values": [[[-255]], [[-255]]]})
    assert (up.apply(images).images[:, 0, 0, 0] == 255).all()
    assert (down.apply(images).images[:, 0, 0, 0] == 0).all()


@given(perturbations(), st.integers(0, 99))
def test_a_batch_of_tensors_is_poisoned_alike(perturbation: Perturbation, seed: int) -> None:
    images = random_images(12, perturbation.image_shape, perturbation.num_classes, seed)
    batch = BatchPoison(perturbation, "cpu")(torch.tensor(images.images), torch.tensor(images.labels))
    assert batch.dtype == torch.uint8
    assert np.array_equal(batch.numpy(), perturbation.apply(images).images)


@given(perturbation=perturbations())
def test_a_file_gives_the_perturbation_back(
    tmp_path_factory: pytest.TempPathFactory, perturbation: Perturbation
) -> None:
    path = tmp_path_factory.mktemp("poison") / "perturbation.json"
    perturbation.save(path)
    loaded = Perturbation.load(path)
    assert loaded == perturbation
    assert hash(loaded) == hash(perturbation)
    assert loaded.provenance == perturbation.provenance
    assert loaded.values.dtype == np.int16


def test_the_file_is_for_people(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    uniform(random_images(), pixels=2, seed=0).save(path)
    text = path.read_text()
    content = json.loads(text)
    assert (content["format"], content["version"]) == ("mddes-perturbation", 1)
    assert content["image_shape"] == [1, 8, 8]
    assert content["provenance"] == {"method": "uniform", "seed": 0}
    assert sum('"pixels"' in line for line in text.splitlines()) == 4, "one line a class"
    assert [file.name for file in tmp_path.iterdir()] == ["p.json"], "no half-written file is left"


def test_equality_sees_every_pixel_and_not_the_provenance() -> None:
    images = random_images()
    one, other = uniform(images, seed=1), uniform(images, seed=2)
    assert one != other
    assert one != "something else"
    assert one == Perturbation.from_change(one.change(), {"from": "elsewhere"})


def test_arrays_are_read_only() -> None:
    one = uniform(random_images(), seed=1)
    with pytest.raises(ValueError, match="read-only"):
        one.rows[0, 0] = 3


GOOD: dict[str, Any] = {
    "rows": [[0], [1]],
    "cols": [[0], [1]],
    "values": [[[5]], [[6]]],
    "mode": "set",
    "image_shape": (1, 8, 8),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [[0], [8]]}, "row must lie in 0..7"),
        ({"cols": [[-1], [1]]}, "col must lie in 0..7"),
        ({"values": [[[5]], [[256]]]}, "value must lie in 0..255"),
        ({"values": [[[-1]], [[6]]]}, "value must lie in 0..255"),
        ({"values": [[[5.5]], [[6]]]}, "value must be an integer"),
        ({"values": [[[5, 5]], [[6, 6]]]}, "must be"),
        ({"rows": [0, 1]}, "must be"),
        ({"rows": [[0, 0], [1, 2]], "cols": [[0, 0], [1, 1]], "values": [[[1], [2]], [[3], [4]]]}, "class 0 names the"),
        ({"mode": "mul"}, "unknown write mode 'mul'"),
        ({"image_shape": (2, 8, 8)}, "1 or 3 channels"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Perturbation.from_change({**GOOD, **change})


def test_refuses_images_of_another_shape_or_class_count() -> None:
    one = uniform(random_images(num_classes=4), seed=1)
    for other in (random_images(shape=(1, 8, 9)), random_images(shape=(3, 8, 8)), random_images(num_classes=5)):
        with pytest.raises(InputError, match="does not fit"):
            one.apply(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no valid perturbation file"),
        ("\x80\x04\x95pickle", "cannot read|no valid"),
        ("[1, 2]", "does not say"),
        ('{"format": "mddes-perturbation"}', "lacks 'version'"),
        ('{"format": "mddes-perturbation", "version": 2}', "version 2"),
        ('{"format": "mddes-perturbation", "version": 1, "classes": [], "image_shape": [1, 8]}', "image_shape"),
        ('{"format": "mddes-perturbation", "version": 1, "classes": 3, "image_shape": [1, 8, 8]}', "no valid"),
        ('{"format": "mddes-perturbation", "version": NaN}', "contains NaN"),
        ("[" * 100_000, "no valid"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "damaged.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        Perturbation.load(path)
    assert "damaged.json" in str(caught.value)


@pytest.mark.parametrize("value", ["3", 1.5, None, [1], 10**30, True])
def test_a_file_with_a_wrong_number_is_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "p.json"
    uniform(random_images(), seed=1).save(path)
    content = json.loads(path.read_text())
    content["classes"][0]["pixels"][0]["value"] = [value]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"p\.json"):
        Perturbation.load(path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    """A pickled object that would create a file when loaded leaves no trace."""
    trace = tmp_path / "trace"
    path = tmp_path / "evil.json"
    path.write_bytes(b"cposix\nsystem\n(S'touch " + str(trace).encode() + b"'\ntR.")
    with pytest.raises(InputError, match=r"evil\.json"):
        Perturbation.load(path)
    assert not trace.exists()


def test_uniform_covers_the_image_evenly() -> None:
    """Every place is drawn with probability N_p / (H W): 4,000 draws, five standard deviations."""
    images = random_images()
    counts = np.zeros((8, 8))
    for seed in range(1000):
        one = uniform(images, pixels=3, seed=seed)
        np.add.at(counts, (one.rows, one.cols), 1)
    expected = 1000 * 4 * 3 / 64
    assert abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert uniform(images, seed=1) == uniform(images, seed=1)


@pytest.mark.parametrize("value", [None, 255])
def test_uniform_gives_no_two_classes_the_same_pixel_and_value(value: int | None) -> None:
    for seed in range(30):
        one = uniform(random_images(num_classes=6), pixels=9, seed=seed, value=value)
        pixels = {
            (int(one.rows[k, j]), int(one.cols[k, j]), *one.values[k, j].tolist()) for k in range(6) for j in range(9)
        }
        assert len(pixels) == 54
    with pytest.raises(InputError, match="cannot differ"):
        uniform(random_images(num_classes=6), pixels=11, value=255)


@pytest.mark.parametrize("pixels", [0, 65])
def test_uniform_refuses_more_pixels_than_there_are(pixels: int) -> None:
    with pytest.raises(InputError, match=r"pixels must lie in 1\.\.64"):
        uniform(random_images(), pixels=pixels)


def test_an_image_set_takes_no_labels_beside_its_own() -> None:
    images = random_images(6, (1, 8, 8), 3)
    with pytest.raises(InputError, match="an ImageSet has labels of its own"):
        uniform(images, pixels=1, seed=0).apply(images, images.labels)  # type: ignore[call-overload]

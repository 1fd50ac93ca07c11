"""Data sets: what is loaded, how it is split, and what is refused."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import random_images
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from mddes import Dataset, ImageSet, InputError, load_dataset
from mddes.data import SearchData, split


def test_digits_are_the_real_ones() -> None:
    data = load_dataset("digits")
    raw: Any = load_digits()
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert np.array_equal(data.test.labels, raw.target[-360:])
    expected = np.rint(raw.images[0] * 255 / 16).astype(np.uint8)
    assert np.array_equal(data.train.images[0, 0], expected)
    assert data.train.images.max() == 255
    assert data.train.images.dtype == np.uint8


def save_npz(path: Path, **changes: Any) -> Path:
    """Write a good .npz with some arrays replaced (None: left out)."""
    images = random_images(20, (1, 9, 12), 3)
    arrays: dict[str, Any] = {
        "train_images": images.images,
        "train_labels": images.labels,
        "test_images": images.images[:7],
        "test_labels": images.labels[:7],
    }
    np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})
    return path


def test_npz_of_any_size(tmp_path: Path) -> None:
    data = load_dataset(str(save_npz(tmp_path / "mine.npz")))
    assert (data.name, data.train.shape, data.train.num_classes) == ("mine", (1, 9, 12), 3)
    gray = random_images(20, (1, 9, 12), 3).images[:, 0]
    without_channel = load_dataset(str(save_npz(tmp_path / "gray.npz", train_images=gray)))
    assert np.array_equal(without_channel.train.images, data.train.images)
    moved = load_dataset("elsewhere/mine.npz", data_dir=tmp_path)
    assert moved.train.digest() == data.train.digest()


COLOUR = random_images(20, (3, 9, 12), 3).images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_labels": None}, "has no test_labels"),
        ({"train_labels": np.arange(19) % 3}, "20 images need labels"),
        ({"train_labels": np.arange(20.0) % 3}, "labels must be integers"),
        ({"train_labels": np.arange(20) % 3 - 1}, "train_labels must be 0, 1, ..., but the least is -1"),
        ({"train_labels": np.arange(20) % 3 * 2}, "none of the 20 training images is of class 1"),
        ({"train_labels": np.zeros(20, int)}, "at least 2 classes"),
        ({"train_labels": np.zeros(0, int)}, "train_labels must be integers"),
        ({"train_labels": np.array([0, 1] * 9 + [0, 2**62])}, "a label of 4611686018427387904 among 20"),
        ({"test_labels": np.full(7, 3)}, r"test: labels must lie in 0\.\.2"),
        ({"train_images": COLOUR / 255.0}, "images must be uint8"),
        ({"train_images": COLOUR.transpose(0, 2, 3, 1)}, r"look like \(N, H, W, C\)"),
        ({"train_images": COLOUR}, "do not fit"),
        ({"train_images": np.zeros((20, 2, 9, 12), np.uint8)}, "with C 1 or 3"),
        ({"train_images": np.zeros((20, 1, 7, 12), np.uint8)}, "7 x 12; the least is 8 x 8"),
        ({"train_images": np.array([{"not": "pixels"}], dtype=object)}, "cannot read"),
    ],
)
def test_an_npz_that_does_not_fit_is_one_clear_error(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = save_npz(tmp_path / "mine.npz", **change)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(str(path))
    assert "\n" not in str(caught.value)


def test_a_torn_npz(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "mine.npz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"cannot read .*mine\.npz"):
        load_dataset(str(path))


def test_other_files_under_the_name_of_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="cannot read"):
        load_dataset(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        for key in ("train_images", "train_labels", "test_images", "test_labels"):
            archive.writestr(key, b"no array")
    with pytest.raises(InputError, match="train_images is no array"):
        load_dataset(str(path))


@given(place=st.integers(0, 3000), byte=st.integers(0, 255))
def test_any_damaged_byte_is_an_input_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    """Never another exception, and never other images than those that were saved."""
    path = save_npz(tmp_path_factory.mktemp("fuzz") / "mine.npz")
    whole = load_dataset(str(path))
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] = byte
    path.write_bytes(raw)
    try:
        damaged = load_dataset(str(path))
    except InputError:
        return
    assert (damaged.train.digest(), damaged.test.digest()) == (whole.train.digest(), whole.test.digest())


def save_folder(root: Path, mode: str = "L", size: tuple[int, int] = (10, 8)) -> Path:
    """Write three classes of five training and two test pictures, each of one shade."""
    for part, count in (("train", 5), ("test", 2)):
        for k, name in enumerate(("ant", "bee", "cat")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new(mode, size, (50 * k + i) if mode == "L" else (50 * k, i, 9)).save(folder / f"{i}.png")
    return root


def test_folders_are_read_in_interleaved_order(tmp_path: Path) -> None:
    data = load_dataset(str(save_folder(tmp_path / "pets")))
    assert (data.name, data.class_names) == ("pets", ("ant", "bee", "cat"))
    assert data.train.shape == (1, 8, 10)
    assert data.train.labels.tolist() == [0, 1, 2] * 5
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 50, 100, 1, 51, 101, 2, 52, 102, 3, 53, 103, 4, 54, 104]
    assert load_dataset(str(tmp_path / "pets"), train_size=6).train.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_one_coloured_picture_makes_all_rgb(tmp_path: Path) -> None:
    root = save_folder(tmp_path / "pets")
    Image.new("RGB", (10, 8), (1, 2, 3)).save(root / "test" / "ant" / "0.png")
    data = load_dataset(str(root))
    assert data.train.shape == (3, 8, 10)
    assert data.train.images[1, :, 0, 0].tolist() == [50, 50, 50]
    assert data.test.images[0, :, 0, 0].tolist() == [1, 2, 3]


def break_size(root: Path) -> None:
    Image.new("L", (11, 8)).save(root / "train" / "bee" / "3.png")


def break_bytes(root: Path) -> None:
    (root / "train" / "bee" / "3.png").write_bytes(b"no picture")


def break_tail(root: Path) -> None:
    path = root / "train" / "bee" / "3.png"
    path.write_bytes(path.read_bytes()[:-20])


def break_mode(root: Path) -> None:
    Image.new("RGBA", (10, 8)).save(root / "train" / "bee" / "3.png")


def break_class(root: Path) -> None:
    for path in (root / "train" / "bee").iterdir():
        path.unlink()


def break_test_class(root: Path) -> None:
    (root / "test" / "dog").mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_size, "3.png is 8 x 11, but 0.png is 8 x 10"),
        (break_bytes, "cannot read .*3.png as a picture"),
        (break_tail, "cannot read .*3.png as a picture"),
        (break_mode, "3.png has mode RGBA"),
        (break_class, "no pictures in .*bee"),
        (break_test_class, "lacks: dog"),
    ],
)
def test_a_damaged_folder_is_one_clear_error(tmp_path: Path, damage: Any, message: str) -> None:
    root = save_folder(tmp_path / "pets")
    damage(root)
    with pytest.raises(InputError, match=message):
        load_dataset(str(root))


def test_small_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="7 x 10; the least is 8 x 8"):
        load_dataset(str(save_folder(tmp_path / "pets", size=(10, 7))))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnsit", "unknown data set 'mnsit' .did you mean 'mnist'"),
        ("no/such/place", "no data set at no/such/place"),
        ("missing.npz", "no data set at missing.npz"),
        (__file__, "is no .npz file"),
    ],
)
def test_an_unknown_data_set(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(name)


def test_a_folder_without_the_files_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mnist", "fashion-mnist", "svhn", "cifar10"):
        with pytest.raises(InputError, match=f"which {name} needs"):
            load_dataset(name, data_dir=tmp_path)
    monkeypatch.setenv("MDDES_DATA", str(tmp_path))
    with pytest.raises(InputError, match="which mnist needs"):
        load_dataset("mnist")
    assert not list(tmp_path.iterdir())


def test_damaged_files_in_torchvision_layout(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for kind in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{kind}-ubyte").write_bytes(b"\x00\x00\x08\x03 torn")
    with pytest.raises(InputError, match="cannot read mnist from"):
        load_dataset("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("size", [0, 1438])
def test_train_size_out_of_range(size: int) -> None:
    with pytest.raises(InputError, match=r"train_size must lie in 1\.\.1437"):
        load_dataset("digits", train_size=size)


def test_train_size_that_loses_a_class() -> None:
    with pytest.raises(InputError, match="none of the 5 training images is of class 5"):
        load_dataset("digits", train_size=5)


def test_split_is_fixed_stratified_and_takes_the_last_of_each_class() -> None:
    train = load_dataset("digits").train
    parts, again = split(train), split(train)
    assert parts.digest() == again.digest()
    assert len(parts.train) + len(parts.held_out) == len(train)
    share = parts.held_out.class_counts() / train.class_counts()
    assert abs(share - 0.2).max() < 0.005
    for k in range(10):
        own = train.images[train.labels == k]
        held = parts.held_out.images[parts.held_out.labels == k]
        assert np.array_equal(held, own[-len(held) :])


def test_split_holds_out_2000_at_most() -> None:
    big = random_images(12_000, num_classes=3)
    assert len(split(big).held_out) == 2001, "667 of each of three classes"
    assert len(split(random_images(4, num_classes=2)).held_out) == 2, "and one of every class at least"


def test_split_can_keep_the_whole() -> None:
    train = random_images()
    parts = split(train, whole=True)
    assert parts.train is train
    assert parts.held_out is train


def test_a_class_of_one_cannot_be_split() -> None:
    images = random_images(5, num_classes=4)
    with pytest.raises(InputError, match="class 1 has 1 training images"):
        split(images)


def test_a_search_cannot_reach_test_images() -> None:
    """What a search receives has two parts, made of training images; there is no way from it to the test set."""
    data = load_dataset("digits")
    parts = split(data.train)
    assert [field.name for field in dataclasses.fields(SearchData)] == ["train", "held_out"]
    seen = {image.tobytes() for part in (parts.train, parts.held_out) for image in part.images}
    assert seen == {image.tobytes() for image in data.train.images}
    for part in (parts.train, parts.held_out):
        assert [field.name for field in dataclasses.fields(part)] == ["images", "labels", "num_classes"]
        assert not np.shares_memory(part.images, data.test.images)


def test_image_sets_are_read_only_and_known_by_their_content() -> None:
    images = random_images()
    with pytest.raises(ValueError, match="read-only"):
        images.images[0, 0, 0, 0] = 1
    mine = np.zeros((4, 1, 8, 8), np.uint8)
    kept = ImageSet(mine, np.arange(4), 4)
    mine[:] = 9
    assert kept.images.max() == 0, "it does not change under anybody's hands"
    assert images.digest() == random_images().digest()
    changed = images.images.copy()
    changed[3, 0, 2, 2] ^= 1
    assert ImageSet(changed, images.labels, 4).digest() != images.digest()
    assert ImageSet(images.images, images.labels, 5).digest() != images.digest()


def test_channel_statistics_equal_numpy() -> None:
    images = random_images(50, (3, 9, 10))
    mean, std = images.channel_statistics()
    scaled = images.images / 255
    assert np.allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    assert np.allclose(std, scaled.std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_dataset_whose_parts_differ() -> None:
    with pytest.raises(InputError, match="do not fit"):
        Dataset("mine", random_images(), random_images(shape=(3, 8, 8)))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "test", "shape"),
    [
        ("mnist", 60_000, 10_000, (1, 28, 28)),
        ("fashion-mnist", 60_000, 10_000, (1, 28, 28)),
        ("cifar10_20k.npz", 16_000, 4_000, (3, 32, 32)),
        ("svhn_10k.npz", 8_000, 2_000, (3, 32, 32)),
    ],
)
def test_real_data(data_dir: Path, name: str, train: int, test: int, shape: tuple[int, int, int]) -> None:
    data = load_dataset(name, data_dir=data_dir)
    assert (len(data.train), len(data.test), data.train.shape) == (train, test, shape)
    assert data.train.num_classes == 10


@pytest.mark.data
def test_mnist_begins_with_a_five(data_dir: Path) -> None:
    first = load_dataset("mnist", data_dir=data_dir, train_size=10_000).train
    assert first.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert len(first) == 10_000

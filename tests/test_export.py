"""Poisoned training sets on disk: what torchvision, NumPy and plain scripts read is what was trained on."""

import csv
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from cases import random_images
from PIL import Image

import mddes
from mddes import Dataset, InputError, PoisonedDataset, export, read_export, uniform
from mddes.cli import main
from mddes.poison.export import LAYOUTS

GRAY, COLOUR = (1, 9, 12), (3, 8, 11)
NAMES = ("T-shirt/top", "Bag", "../x", "<script>")


def case(shape: tuple[int, int, int] = COLOUR, mode: str = "set", n: int = 23) -> tuple[Dataset, mddes.Perturbation]:
    train = random_images(n, shape, 4)
    return Dataset("odd", train, random_images(8, shape, 4, seed=1), NAMES), uniform(train, pixels=3, seed=5, mode=mode)


@pytest.mark.parametrize("shape", [GRAY, COLOUR])
@pytest.mark.parametrize("mode", ["set", "add"])
@pytest.mark.parametrize("layout", ["npz", "png", "flat-png"])
def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path: Path, shape: tuple[int, int, int], mode: str, layout: str
) -> None:
    dataset, p = case(shape, mode)
    back = read_export(export(p, dataset, tmp_path / "out", layout))
    expected = p.apply(dataset.train)
    assert np.array_equal(back.images, expected.images)
    assert np.array_equal(back.labels, expected.labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "no temporary folder stays"


@pytest.mark.parametrize("shape", [GRAY, COLOUR])
def test_torchvision_reads_the_image_folder(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """Labels in the right order, although the classes' names sort otherwise; names stay inside the folder."""
    dataset, p = case(shape)
    folder = export(p, dataset, tmp_path / "out", "png")
    read = torchvision.datasets.ImageFolder(str(folder), loader=lambda path: np.asarray(Image.open(path)))
    assert read.classes == ["0-T-shirt_top", "1-Bag", "2-.._x", "3-_script_"]
    expected = p.apply(dataset.train)
    assert len(read) == 23
    for (path, label), (pixels, _) in zip(read.samples, read, strict=True):
        index = int(Path(path).stem)
        assert label == expected.labels[index]
        assert np.array_equal(pixels.reshape(*shape[1:], -1).transpose(2, 0, 1), expected.images[index])


def test_an_image_folder_takes_no_empty_class(tmp_path: Path) -> None:
    dataset, p = case()
    few = dataclasses.replace(dataset, train=dataset.train.subset(np.flatnonzero(dataset.train.labels != 2)))
    with pytest.raises(InputError, match=r"takes no class without images, and there are none of \[2\]: use npz"):
        export(p, few, tmp_path / "out", "png")
    assert not (tmp_path / "out").exists()


def test_numpy_reads_the_arrays(tmp_path: Path) -> None:
    dataset, p = case()
    with np.load(export(p, dataset, tmp_path / "out", "npz") / "poisoned.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["images"], p.apply(dataset.train).images)
        assert arrays["labels"].dtype == np.int64
        assert arrays["indices"].tolist() == list(range(23))
        assert arrays["class_names"].tolist() == list(NAMES)


def test_flat_pictures_are_in_the_original_order_with_their_labels(tmp_path: Path) -> None:
    dataset, p = case()
    folder = export(p, dataset, tmp_path / "out", "flat-png")
    rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == [f"data/{i}.png" for i in range(23)]
    assert [int(row["label"]) for row in rows] == dataset.train.labels.tolist()
    assert rows[2]["class"] == "../x"
    expected = p.apply(dataset.train).images
    for i, row in enumerate(rows):
        assert np.array_equal(np.asarray(Image.open(folder / row["file"])).transpose(2, 0, 1), expected[i])


def test_flat_pictures_as_apbench_reads_them(tmp_path: Path) -> None:
    """Every entry of the folder is a picture there, whose index is its name up to the dot."""
    dataset, p = case()
    pictures = export(p, dataset, tmp_path / "out", "flat-png") / "data"
    indices = [int(name.split(".")[0]) for name in os.listdir(pictures)]  # noqa: PTH208, as it does
    assert sorted(indices) == list(range(23))


@pytest.mark.parametrize("negative", [False, True])
def test_an_added_change_as_unlearnable_examples_reads_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, negative: bool
) -> None:
    """That code multiplies by 255, clamps to 0 .. 255, adds to float images, clips, and cuts off to uint8."""
    dataset, p = case(mode="add")
    if not negative:
        p = dataclasses.replace(p, values=np.abs(p.values))
    noise = torch.load(export(p, dataset, tmp_path / "out", "pt") / "perturbation.pt", weights_only=True)
    assert noise.shape == (4, *COLOUR)
    added = dataset.train.images.astype(np.float32) + noise.mul(255).numpy()[dataset.train.labels]
    expected = p.apply(dataset.train).images
    assert np.array_equal(np.clip(added, 0, 255).astype(np.uint8), expected)
    theirs = dataset.train.images.astype(np.float32) + noise.mul(255).clamp(0, 255).numpy()[dataset.train.labels]
    assert np.array_equal(np.clip(theirs, 0, 255).astype(np.uint8), expected) != negative
    assert ("of its changes are negative" in caplog.text) == negative
    every = torch.arange(-255, 256)
    assert torch.equal((every.float() / 255).mul(255), every.float()), "every change there can be survives"


def test_a_set_change_is_written_for_every_image(tmp_path: Path) -> None:
    dataset, p = case()
    content = torch.load(export(p, dataset, tmp_path / "out", "pt") / "perturbation.pt", weights_only=True)
    clean, expected = dataset.train.images, p.apply(dataset.train).images
    assert content["delta"].dtype == torch.int16
    assert np.array_equal((clean + content["delta"].numpy()).astype(np.uint8), expected)
    y = content["labels"]
    by_mask = torch.where(content["mask"][y][:, None], content["value"][y], torch.tensor(clean))
    assert np.array_equal(by_mask.numpy(), expected)
    assert content["mask"].sum() == 12
    assert content["indices"].tolist() == list(range(23))


def test_a_manifest_says_what_it_is(tmp_path: Path) -> None:
    dataset, p = case()
    manifest = json.loads((export(p, dataset, tmp_path / "out", "flat-png") / "manifest.json").read_text())
    assert manifest["clean"] == dataset.train.digest()
    assert mddes.Perturbation.from_change(manifest["perturbation"]) == p
    assert manifest["perturbation"]["provenance"] == {"method": "uniform", "seed": 5}
    assert len(manifest["files"]) == 24


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "data/3.png").write_bytes(b"x"), "data/3.png has another checksum than its manifest says"),
        (lambda f: (f / "data/3.png").unlink(), "data/3.png is missing"),
        (lambda f: (f / "x.png").write_bytes(b"x"), "x.png is new"),
        (lambda f: (f / "manifest.json").unlink(), "is no export of mddes"),
        (lambda f: (f / "manifest.json").write_text("[]"), "is no export of mddes"),
        (lambda f: (f / "manifest.json").write_text("{}"), "is no export of mddes"),
    ],
)
def test_a_changed_export_is_noticed(tmp_path: Path, damage: object, message: str) -> None:
    folder = export(*case()[::-1], tmp_path / "out", "flat-png")
    assert callable(damage)
    damage(folder)
    with pytest.raises(InputError) as error:
        read_export(folder)
    assert message in str(error.value)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, layout: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists already and is not an empty folder"):
        export(*case()[::-1], tmp_path / "out", layout)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    assert (export(*case()[::-1], tmp_path / "empty", layout) / "manifest.json").exists()
    (tmp_path / "other disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "other disk")
    assert export(*case()[::-1], tmp_path / "link", layout) == (tmp_path / "other disk").resolve()
    assert (tmp_path / "link" / "manifest.json").exists()


def test_the_current_folder_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is the current folder, which cannot be replaced: name another one"):
        export(*case()[::-1], ".", "npz")
    assert not any(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mddes.poison.export._save", no_room)
    with pytest.raises(OSError, match="No space left"):
        export(*case()[::-1], tmp_path / "out", "png")
    assert [*tmp_path.iterdir()] == []


class Pictures(torch.utils.data.Dataset[tuple[object, int]]):
    """A user's data set: (image, label) in some form."""

    def __init__(self, dataset: Dataset, form: str) -> None:
        self.images, self.form = dataset.train, form

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[object, int]:
        chw = self.images.images[i]
        hwc = chw.transpose(1, 2, 0)
        forms: dict[str, object] = {"array": chw, "channels last": hwc, "tensor": torch.tensor(chw)}
        forms["picture"] = Image.fromarray(np.ascontiguousarray(hwc[..., 0] if len(chw) == 1 else hwc))
        return forms[self.form], int(self.images.labels[i])


@pytest.mark.parametrize("shape", [GRAY, COLOUR])
@pytest.mark.parametrize("form", ["array", "channels last", "tensor", "picture"])
def test_a_wrapped_data_set_gives_the_poisoned_images_to_its_transform(shape: tuple[int, int, int], form: str) -> None:
    dataset, p = case(shape)
    expected = p.apply(dataset.train).images
    wrapped = PoisonedDataset(Pictures(dataset, form), p, transform=lambda image: (type(image), np.asarray(image)))
    assert len(wrapped) == 23
    for i in range(23):
        (kind, pixels), label = wrapped[i]
        assert kind is type(Pictures(dataset, form)[i][0])
        chw = pixels if form in ("array", "tensor") else pixels.reshape(*shape[1:], -1).transpose(2, 0, 1)
        assert np.array_equal(chw, expected[i])
        assert label == dataset.train.labels[i]


def test_a_plain_training_loop_sees_the_poison() -> None:
    """torch's own loader, torchvision's own transform."""
    dataset, p = case()
    wrapped = PoisonedDataset(Pictures(dataset, "picture"), p, torchvision.transforms.ToTensor(), poisoned=range(10))
    batches = [x for x, _ in torch.utils.data.DataLoader(wrapped, batch_size=6)]
    seen = (torch.cat(batches) * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(seen[:10], p.apply(dataset.train).images[:10])
    assert np.array_equal(seen[10:], dataset.train.images[10:]), "the others are clean"


@pytest.mark.parametrize("layout", ["first", "last", "gray"])
def test_apply_takes_arrays_and_leaves_them_alone(layout: str) -> None:
    dataset, p = case(GRAY if layout == "gray" else COLOUR)
    turn = {"first": (0, 1, 2, 3), "last": (0, 2, 3, 1), "gray": (0, 2, 3, 1)}[layout]
    x = dataset.train.images.transpose(turn)
    x = x[..., 0] if layout == "gray" else x
    before = x.copy()
    poisoned, y = p.apply(x, dataset.train.labels.tolist())
    expected = p.apply(dataset.train).images.transpose(turn)
    assert np.array_equal(poisoned, expected[..., 0] if layout == "gray" else expected)
    assert np.array_equal(y, dataset.train.labels)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, *COLOUR), np.float32), [0, 1], "images must be uint8 in 0..255, not float32: poison before"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0, 1], "images of shape (3, 8, 8) do not fit"),
        (np.zeros((2, *COLOUR), np.uint8), [0], "2 images need integer labels of shape (2,)"),
        (np.zeros((2, *COLOUR), np.uint8), [0.0, 1.0], "2 images need integer labels"),
        (np.zeros((2, *COLOUR), np.uint8), [0, 4], "labels must lie in 0..3, but they span 0..4"),
        (np.zeros((2, *COLOUR), np.uint8), (), "2 images need integer labels"),
    ],
)
def test_arrays_that_do_not_fit(x: np.ndarray, y: list[int], message: str) -> None:
    _, p = case()
    with pytest.raises(InputError) as error:
        p.apply(x, y)
    assert message in str(error.value)


def test_ready_made_poisons_say_how_they_were_found() -> None:
    from mddes.poison.ready import ready_made

    assert {"digits-np1", "digits-np5", "mnist-np1", "fashion-mnist-np1"} <= {*ready_made()}
    for name in ready_made():
        p = mddes.load_poison(name)
        assert name.startswith(f"{p.provenance['dataset']}-np{p.pixels}")
        assert p.provenance["method"] == ("random-search" if name.endswith("-random") else "mdd-es")
        assert p.provenance["search"]["optimizer"] == ("sgd" if name.endswith("-sgd") else "adam")
        assert p.provenance["evaluations"] > 0
    with pytest.raises(InputError, match="unknown ready-made poison 'mnist-np7'"):
        mddes.load_poison("mnist-np7")


def test_the_ready_made_poison_of_the_digits_belongs_to_these_digits() -> None:
    data = mddes.load_dataset("digits")
    p = mddes.load_poison("digits-np5")
    assert p.provenance["data"] == mddes.data.split(data.train).digest()


def test_poison_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["poison", "digits-np5", "--format", "npz", "--out", out]) == 0
    assert main(["poison", "--verify", out]) == 0
    assert "as its manifest says" in capsys.readouterr().out
    expected = mddes.load_poison("digits-np5").apply(mddes.load_dataset("digits").train)
    assert read_export(out).digest() == expected.digest()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["poison"], "name a perturbation file, a run's folder or a ready-made poison"),
        (["poison", "digits-np9"], "unknown ready-made poison 'digits-np9'"),
        (["poison", "nowhere.json"], "cannot read a perturbation from nowhere.json"),
        (["poison", "."], "holds no perturbation.json: has its search ended?"),
        (["poison", "mnist-np1"], "a perturbation of 10 classes of (1, 28, 28) images does not fit 10 classes of"),
        (["poison", "digits-np5", "--format", "jpeg"], "invalid choice 'jpeg'"),
        (["poison", "--verify", "nowhere"], "nowhere is no export of mddes"),
        (["baseline", "uniform", "--out", "no/such/folder/p.json"], "no/such/folder"),
        (["baseline", "uniform", "--pixels", "65"], "pixels must lie in 1..64"),
        (["baseline", "left-column", "--seed", "1"], "--seed means nothing for left-column"),
        (["baseline", "uniform", "--score", "art"], "--score means nothing for uniform"),
        (["baseline", "one-pixel-shortcut", "--dataset", "nope"], "nope"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("method", ["uniform", "left-column", "one-pixel-shortcut"])
def test_baselines_from_the_command_line(tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.json"
    assert main(["baseline", method, "--pixels", "2", "--out", str(path)]) == 0
    train = mddes.load_dataset("digits").train
    functions = {"uniform": uniform, "left-column": mddes.left_column, "one-pixel-shortcut": mddes.one_pixel_shortcut}
    assert mddes.Perturbation.load(path) == functions[method](train, pixels=2)
    assert main(["baseline", method, "--out", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("poisoned", [range(20, 23), torch.arange(20, 23), [-3, -2, -1], np.arange(23) >= 20])
def test_any_kind_of_indices_choose_what_is_poisoned(poisoned: object) -> None:
    dataset, p = case()
    wrapped = PoisonedDataset(Pictures(dataset, "array"), p, poisoned=poisoned)
    loader = torch.utils.data.DataLoader(wrapped, sampler=torch.utils.data.SubsetRandomSampler(range(23)))
    changed = 0
    for place in [*range(23), *torch.arange(23), -1]:
        image, _ = wrapped[place]
        expected = p.apply(dataset.train) if int(place) % 23 >= 20 else dataset.train
        assert np.array_equal(image, expected.images[int(place) % 23])
        changed += int(place) % 23 >= 20
    assert changed == 7
    assert len(loader) == 23


@pytest.mark.parametrize("poisoned", [[23], [-24], [0.5], np.ones(5, dtype=bool)])
def test_indices_that_are_not_the_data_set_s(poisoned: object) -> None:
    dataset, p = case()
    with pytest.raises(InputError, match="poisoned must be indices"):
        PoisonedDataset(Pictures(dataset, "array"), p, poisoned=poisoned)


def test_every_layout_can_be_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for layout in LAYOUTS:
        out = tmp_path / layout
        assert main(["poison", "digits-np5", "--train-size", "40", "--format", layout, "--out", str(out)]) == 0
        assert main(["poison", "--verify", str(out)]) == 0
        (victim, *_) = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "manifest.json")
        victim.write_bytes(b"?")
        assert main(["poison", "--verify", str(out)]) == 2
    assert main(["poison", "digits-np5", "--verify", str(tmp_path)]) == 2
    assert "leave the perturbation out" in capsys.readouterr().err


@pytest.mark.parametrize("images", [[[1]], torch.zeros(2, *COLOUR, dtype=torch.uint8), None])
def test_apply_says_what_it_takes(images: object) -> None:
    with pytest.raises(InputError, match="images must be an ImageSet or a NumPy array"):
        case()[1].apply(images, [0, 1])  # type: ignore[call-overload]

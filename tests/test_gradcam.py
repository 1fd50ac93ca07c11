"""Where networks look: Grad-CAM against CAM by hand, numbers of constructed maps, and the study."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import lines, random_images
from torch import nn

import mddes
from mddes import InputError, Recipe, uniform
from mddes.cli import main
from mddes.data import shared_arrays
from mddes.measures import attention
from mddes.measures.attention import disc, enlarged, gradcam, last_convolution, measure
from mddes.models import build
from mddes.report.gradcam import gradcam_figures
from mddes.report.study_page import study_page
from mddes.seeding import derive
from mddes.studies.findings import Findings
from mddes.studies.gradcam import PRESETS, GradcamConfig
from mddes.study import resume_study, study
from mddes.training.predict import scaled

TINY: dict[str, Any] = {
    "train_size": 150,
    "test_size": 100,
    "poisons": ("uniform", "digits-np2"),
    "pixels": (2,),
    "seeds": 2,
    "epochs": 1,
    "batch_size": 50,
    "per_class": 4,
    "radius": 1.0,
    "border": 1,
    "places": 20,
    "singles": (3, 0),
    "workers": 0,
    "device": "cpu",
}


class Pooled(nn.Module):
    """A convolution, ReLU, global average pooling and one linear layer: there Grad-CAM is CAM, up to scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.unused = nn.Conv2d(1, 1, 1)
        self.head = nn.Linear(6, 4, bias=False)
        self.conv = nn.Conv2d(1, 6, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.conv(x).mean(dim=(2, 3)))
        return logits


def test_gradcam_is_cam_where_features_are_averaged() -> None:
    """CAM (Zhou et al. 2016) is sum_c W[y, c] A_c; Grad-CAM's weights are W[y, c] / (h w)."""
    model, images = Pooled(), random_images(30)
    x = scaled(torch.tensor(images.images))
    features = model.conv(x).detach().double()
    weights = model.head.weight.detach().double()[torch.tensor(images.labels)]
    by_hand = torch.einsum("nc,nchw->nhw", weights, features).clamp(min=0) / 64
    maps = gradcam(model, images)
    assert maps.shape == (30, 8, 8)
    np.testing.assert_allclose(maps, by_hand.numpy(), atol=1e-8)
    assert maps.max() > 1e-3


def test_the_network_is_left_as_it_was() -> None:
    model = Pooled().train()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    gradcam(model, random_images(5))
    assert model.training
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert model.conv.weight.grad is None
    assert not model.conv._forward_hooks


@pytest.mark.parametrize("name", ["graynet", "graynet-bn", "resnet20", "densenet40"])
def test_the_last_convolution_is_the_one_computed_last(name: str) -> None:
    images = random_images(2, (1, 12, 12))
    model = build(name, images.shape, 4, seed=0, mean=[0.0], std=[1.0])
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert last_convolution(model, images) is convolutions[-1]
    assert last_convolution(pooled := Pooled(), images) is pooled.conv, "by computation, not by declaration"
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_without_convolutions_is_told() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(InputError, match="needs a network with a convolution"):
        gradcam(flat, random_images(3))


def test_numbers_of_constructed_maps() -> None:
    point = np.zeros((6, 8))
    point[0, 3] = 5.0
    even = np.ones((6, 8))
    nothing = np.zeros((6, 8))
    two = np.zeros((6, 8))
    two[0, 0], two[3, 4] = 1.0, 3.0
    near = disc([0], [2], 6, 8, 1)
    found = measure(np.stack([point, even, nothing, two]), near, 1)
    assert found.near[:2].tolist() == [1.0, pytest.approx(4 / 48)]
    assert np.isnan(found.near[2])
    assert np.isnan(found.entropy[2])
    assert np.isnan(found.border[2])
    assert found.border[[0, 1, 3]].tolist() == [1.0, pytest.approx(24 / 48), 0.25]
    expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / np.log(48)
    assert found.entropy[[0, 1, 3]].tolist() == pytest.approx([0.0, 1.0, expected])
    assert measure(7 * two[None], near, 1).border[0] == 0.25, "a share has no scale"


def test_discs_are_unions_and_end_at_the_image() -> None:
    assert disc([1, 1], [1, 6], 4, 8, 1).sum() == 10
    assert disc([1, 1], [1, 2], 4, 8, 1).sum() == 8
    assert disc([0], [0], 4, 8, 2).sum() == 6
    assert disc([2], [3], 4, 8, 0).sum() == 1


def test_maps_grow_bilinearly_and_keep_what_is_even() -> None:
    assert np.allclose(enlarged(np.full((1, 3, 5), 0.3), 7, 9), 0.3)
    small = np.array([[[0.0, 1.0]]])
    assert enlarged(small, 1, 4)[0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]


def config(out: Path, **changes: Any) -> GradcamConfig:
    return GradcamConfig(**{**TINY, "out": str(out), **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return study("gradcam", config(tmp_path_factory.mktemp("runs")))


def test_the_study_is_what_one_does_by_hand(finished: Findings) -> None:
    data = mddes.load_dataset("digits", train_size=150)
    test = data.test.subset(range(100))
    chosen = np.concatenate([np.flatnonzero(test.labels == k)[:4] for k in range(10)])
    images = test.subset(chosen)
    seed = derive(0, "victims", 1)
    poison = uniform(data.train, pixels=2, seed=seed)
    (record,) = (
        r for r in lines(finished.run_dir / "trainings.jsonl") if r.get("poison") == "uniform" and r["victim"] == 1
    )
    recipe = Recipe(epochs=1, batch_size=50)
    models = {
        network: mddes.train("graynet", data.train, recipe, seed=seed, perturbation=perturbation)
        for network, perturbation in (("clean", None), ("poisoned", poison))
    }
    for network, model in models.items():
        assert record[network]["clean_test_accuracy"] == mddes.accuracy(model, test)
        assert record[network]["poisoned_test_accuracy"] == mddes.accuracy(model, poison.apply(test))
    for copy, own in (("clean", images), ("poisoned", poison.apply(images))):
        seen = {network: enlarged(gradcam(model, own), 8, 8) for network, model in models.items()}
        both = [i for i in range(len(own)) if all(maps[i].sum() > 0 for maps in seen.values())]
        for network, maps in seen.items():
            assert record[network][copy]["compared"] == len(both)
            per_class, border = [], []
            for k in range(10):
                shares = [maps[i] / maps[i].sum() for i in both if own.labels[i] == k]
                place = disc(poison.rows[k].tolist(), poison.cols[k].tolist(), 8, 8, 1.0)
                per_class.append(np.mean([share[place].sum() for share in shares]) if shares else None)
                border.append(np.mean([1 - share[1:-1, 1:-1].sum() for share in shares]) if shares else None)
            assert record[network][copy]["per_class"] == pytest.approx(per_class)
            known = [value for value in per_class if value is not None]
            assert record[network][copy]["near"] == pytest.approx(np.mean(known))
            assert record[network][copy]["border"] == pytest.approx(np.mean([b for b in border if b is not None]))
            assert record[network][copy]["zero"] == sum(m.sum() == 0 for m in maps)


def test_a_pair_is_compared_on_images_that_have_a_map_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: of each class's four images the clean network has no map of the first, the poisoned of the last."""
    point, even, none = np.zeros((8, 8)), np.ones((8, 8)), np.zeros((8, 8))
    point[0, 0] = 2.0
    by_hand = {"clean": [none, point, even, point], "poisoned": [even, even, point, none]}
    calls = iter(("clean", "clean", "poisoned", "poisoned"))
    monkeypatch.setattr(attention, "gradcam", lambda *_: np.stack(2 * by_hand[next(calls)]))
    images = random_images(8, num_classes=2)
    shared = shared_arrays(train=images, test=images)
    poison = uniform(images, pixels=1, seed=0)
    spec = {"model": "graynet", "recipe": Recipe(epochs=1).spec(), "seed": 0, "num_classes": 2, "singles": []}
    spec |= {"perturbation": poison.change(), "per_class": 4, "radius": 0.0, "border": 1, "places": 5}
    found = attention.compare_pair(spec, shared, "cpu")
    share = 28 / 64
    for copy in ("clean", "poisoned"):
        assert [found[name][copy]["border"] for name in ("clean", "poisoned")] == [(1 + share) / 2, (share + 1) / 2]
        assert [found[name][copy]["entropy"] for name in ("clean", "poisoned")] == [0.5, 0.5]
        assert {found[name][copy]["zero"] for name in found} == {2}
        assert {(found[name][copy]["compared"], found[name][copy]["images"]) for name in found} == {(4, 8)}
        for k in range(2):
            own = np.array(found["clean"][copy]["maps"][k])
            np.testing.assert_allclose([own[0, 0], own[1, 1]], [(2 + 1 / 64) / 3, 1 / 3 / 64], rtol=1e-3)
            own = np.array(found["poisoned"][copy]["maps"][k])
            np.testing.assert_allclose([own[0, 0], own[1, 1]], [(1 + 2 / 64) / 3, 2 / 3 / 64], rtol=1e-3)
    by_hand["poisoned"] = [even, none, none, none]
    calls = iter(("clean", "clean", "poisoned", "poisoned"))
    nothing = attention.compare_pair(spec, shared, "cpu")
    assert nothing["clean"]["clean"]["compared"] == 0
    assert nothing["clean"]["clean"]["near"] is None
    np.testing.assert_allclose(nothing["poisoned"]["clean"]["maps"], 1 / 64, rtol=1e-3)
    assert np.all(np.array(nothing["clean"]["clean"]["maps"])[:, 0, 0] > 0.6)


def test_a_network_without_maps_takes_no_picture_from_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter((0.0, 0.0, 1.0, 1.0))
    monkeypatch.setattr(attention, "gradcam", lambda *_: np.full((8, 8, 8), next(calls)))
    images = random_images(8, num_classes=2)
    spec = {"model": "graynet", "recipe": Recipe(epochs=1).spec(), "seed": 0, "num_classes": 2, "singles": []}
    spec |= {"perturbation": uniform(images, pixels=1, seed=0).change(), "per_class": 4}
    spec |= {"radius": 0.0, "border": 1, "places": 5}
    found = attention.compare_pair(spec, shared_arrays(train=images, test=images), "cpu")
    for copy in ("clean", "poisoned"):
        assert {found[network][copy]["near"] for network in found} == {None}
        assert not np.any(found["clean"][copy]["maps"])
        np.testing.assert_allclose(found["poisoned"][copy]["maps"], 1 / 64, rtol=1e-3)


def test_pictures_are_means_of_all_seeds_where_the_poison_is_one(finished: Findings) -> None:
    records = [r for r in lines(finished.run_dir / "trainings.jsonl") if r.get("status") == "done"]
    for label, poison, pairs in (("digits-np2, N_p = 2", "digits-np2", 2), ("uniform, N_p = 2", "uniform", 1)):
        own = sorted((r for r in records if r["poison"] == poison), key=lambda r: r["victim"])[:pairs]
        for row in (row for row in finished.rows if row["kind"] == "map" and row["row"] == label):
            assert row["pairs"] == pairs
            maps = [np.array(r[row["network"]][row["images"]]["maps"][row["class"]]) for r in own]
            known = [one for one in maps if one.any()]
            np.testing.assert_allclose(row["map"], np.mean(known, axis=0) if known else 0.0, rtol=1e-12)


@pytest.mark.parametrize("last", ["uniform", "digits-np2"])
def test_the_page_s_key_picture_is_of_the_poison_that_its_answer_speaks_of(finished: Findings, last: str) -> None:
    page = study_page(finished.run_dir, "gradcam", {"poisons": ["one-pixel-shortcut", last]}, [])
    assert page.key is not None
    assert page.key.caption.endswith(f"(gradcam-{last}-np2-graynet)")


def test_a_class_without_a_map_says_so_in_its_picture(finished: Findings) -> None:
    pictures = [row for row in finished.rows if row["kind"] == "image"]
    maps = [dict(row) for row in finished.rows if row["kind"] == "map" and row["row"] == "uniform, N_p = 2"]
    maps[3]["map"] = np.zeros((8, 8)).tolist()
    figure = gradcam_figures([*pictures, *maps])["gradcam-uniform-np2-graynet.png"]
    silent = [ax for ax in figure.axes if any(text.get_text() == "no map" for text in ax.texts)]
    assert len(silent) == sum(not np.any(row["map"]) for row in maps) > 0
    assert {len(ax.images) for ax in silent} == {1}, "the mean image alone"


def test_the_null_is_the_share_near_any_place(finished: Findings) -> None:
    """Where attention is even, it is the mean area of the discs; here it must lie between its least and its most."""
    for row in (row for row in finished.rows if row["kind"] == "look"):
        assert 0 < row["null_mean"] < 1
    from mddes.measures.attention import _at_random

    even = np.full((9, 9), 1 / 81)
    draw = np.random.default_rng(0)
    areas = [disc([r], [c], 9, 9, 1).sum() / 81 for r in range(9) for c in range(9)]
    got = _at_random(even, 1, {"places": 3000, "radius": 1.0}, draw)
    assert got == pytest.approx(np.mean(areas), abs=4 * np.std(areas) / np.sqrt(3000))


def test_rows_figures_and_tables(finished: Findings) -> None:
    looks = [row for row in finished.rows if row["kind"] == "look"]
    assert len(looks) == 2 * 2 * 2
    assert {row["n"] for row in looks} == {2}
    assert {row["maps"] for row in looks} == {2 * 40}
    singles = [row for row in finished.rows if row["kind"] == "single"]
    assert [row["index"] for row in singles[:1]] == [3]
    assert len(singles) == 2 * 2 * 2 * 2
    test = mddes.load_dataset("digits").test
    assert singles[0]["picture"] == test.images[3].tolist()
    assert singles[0]["class"] == test.labels[3]
    assert {path.name for path in (finished.run_dir / "figures").glob("*.png")} == {
        "gradcam-uniform-np2-graynet.png",
        "gradcam-digits-np2-np2-graynet.png",
        "gradcam-singles-uniform-np2-graynet.png",
        "gradcam-singles-digits-np2-np2-graynet.png",
        "gradcam-shares-graynet.png",
    }
    assert "near random places" in finished.markdown()
    there, without = finished.answer
    for said, copy in ((there, "poisoned"), (without, "clean")):
        values = {
            row["network"]: f"{100 * row['near_mean']:.1f} ± {100 * row['near_std']:.1f} %"
            for row in looks
            if (row["row"], row["images"]) == ("digits-np2, N_p = 2", copy)
        }
        assert f"{values['poisoned']} of the Grad-CAM of graynet trained on digits-np2, N_p = 2 lies" in said
        assert f"of a clean network's {values['clean']}" in said
    assert json.loads((finished.run_dir / "results.json").read_text())["answer"] == [there, without]
    header, *rows = (finished.run_dir / "rows.csv").read_text().splitlines()
    assert "near_mean" in header
    assert "[" not in "".join(rows), "maps are no columns"


def test_more_seeds_are_the_same_as_all_at_once(finished: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "copy"))
    assert resume_study(folder).rows == finished.rows
    more = resume_study(folder, seeds=3)
    assert more.rows == study("gradcam", config(tmp_path / "straight", seeds=3)).rows


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"poisons": ("clean", "uniform")}, "leave clean out"),
        ({"poisons": ("theirs.npz",)}, "theirs.npz"),
        ({"radius": -1.0}, "radius must be at least 0"),
        ({"border": 4}, "border must be less than half of the images' 8 x 8 pixels, not 4"),
        ({"per_class": 0}, "per_class must be at least 1"),
        ({"singles": (100,)}, "there are 100 test images, counted from 0; not 100"),
        ({"test_size": 8}, "has no test images to look at"),
        ({"places": 0}, "places must be at least 1"),
    ],
)
def test_bad_settings_are_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        study("gradcam", config(tmp_path, **changes))
    assert not [*tmp_path.iterdir()], "nothing was begun"


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--train-size", "150", "--seeds", "1", "--epochs", "1", "--per-class", "2", "--workers", "0"]
    assert main(["gradcam", "digits-np1", *few, "--border", "1", "--out", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "digits-np1" in out
    poison = tmp_path / "own.json"
    uniform(mddes.load_dataset("digits").train, pixels=1, seed=1).save(poison)
    assert main(["gradcam", str(poison), *few, "--border", "1", "--plan"]) == 0
    assert "1 trainings" in capsys.readouterr().out
    for wrong, said in (
        ([], "name a run's folder"),
        (["--dataset", "digits"], "name the poison first"),
        (["digits-np7"], "unknown ready-made poison"),
        ([str(tmp_path)], "holds no perturbation.json"),
        (["mnist-np1", "--dataset", "digits"], "fit"),
        (["digits-np1", "--poisons", "uniform"], "looks at the poison it names"),
    ):
        assert main(["gradcam", *wrong]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str) -> None:
    settings = GradcamConfig(**PRESETS[name])
    assert {key: getattr(settings, key) for key in PRESETS[name]} == PRESETS[name]

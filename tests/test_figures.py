"""The figures show the numbers of the files they are drawn from."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from cases import random_images
from matplotlib.figure import Figure

from mddes import ImageSet, Perturbation, uniform
from mddes.report.figures import CURVES, learning_curve, poison_examples, save
from mddes.report.style import from_zero

GENERATIONS = [
    {
        "generation": g,
        "evaluations": 19,
        "failed": 1,
        **{f"{name}_{kind}": round(0.1 * g + 0.01 * i + {"best": 0.3, "mean": 0.0, "std": 0.05}[kind], 3)
           for i, (name, _) in enumerate(CURVES) for kind in ("best", "mean", "std")},
    }
    for g in range(4)
]  # fmt: skip


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_an_axis_from_zero_has_room_above_and_bears_nothing_at_all() -> None:
    for values, top in (([2.0, 1.0], 2.12), ([0.0, 0.0], None), ([], None), ([math.nan], None)):
        ax = Figure().add_subplot()
        ax.plot(range(len(values)), values)
        from_zero(ax)
        low, high = ax.get_ylim()
        assert low == 0
        assert high == pytest.approx(top) if top else high > 0


def test_the_learning_curve_shows_mean_best_and_spread(tmp_path: Path) -> None:
    figure = learning_curve(write(tmp_path / "g.csv", GENERATIONS))
    assert len(figure.axes) == 4
    for ax, (name, label) in zip(figure.axes, CURVES, strict=True):
        assert ax.get_ylabel() == label
        mean, best = ax.lines
        assert mean.get_ydata() == pytest.approx([row[f"{name}_mean"] for row in GENERATIONS])
        assert best.get_ydata() == pytest.approx([row[f"{name}_best"] for row in GENERATIONS])
        assert mean.get_linestyle() != best.get_linestyle(), "told apart without colour"
        assert len(ax.collections) == 1
    assert [ax.get_xlabel() for ax in figure.axes[2:]] == ["generation"] * 2
    assert len(figure.legends) == 1


def test_a_term_that_was_switched_off_leaves_an_empty_panel(tmp_path: Path) -> None:
    rows = [
        {key: "" if key.startswith("domain_divergence") else value for key, value in row.items()} for row in GENERATIONS
    ]
    figure = learning_curve(write(tmp_path / "g.csv", rows))
    assert np.size(figure.axes[2].lines[0].get_xdata()) == 0
    save(figure, tmp_path / "g.png")
    assert (tmp_path / "g.png").stat().st_size > 10_000


def pictures(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 12)])
def test_the_poison_is_shown_on_one_image_per_class(shape: tuple[int, int, int]) -> None:
    images = random_images(40, shape, 4)
    poison = uniform(images, pixels=2, seed=1)
    shown = pictures(poison_examples(images, poison, ("a", "b", "c", "d")))
    assert len(shown) == 12
    poisoned = poison.apply(images)
    for k in range(4):
        for row, source in ((0, images), (1, poisoned)):
            expected = source.images[k].transpose(1, 2, 0).squeeze()
            assert np.array_equal(shown[4 * row + k], expected)
        changed = (images.images[k] != poisoned.images[k]).any(axis=0)
        difference = shown[8 + k].reshape(*changed.shape, -1)
        assert ((difference != 127).any(axis=2) <= changed).all(), "gray where nothing changed"


def test_many_classes_are_drawn_in_blocks() -> None:
    images = random_images(46, num_classes=23)
    figure = poison_examples(images, uniform(images), [str(k) for k in range(23)])
    assert len(pictures(figure)) == 3 * 23


def test_a_perturbation_that_does_not_fit() -> None:
    images: ImageSet = random_images()
    other: Perturbation = uniform(random_images(shape=(1, 9, 9)))
    with pytest.raises(ValueError, match="does not fit"):
        poison_examples(images, other, ("a", "b", "c", "d"))


def test_the_frame_of_a_pixel_lies_around_it() -> None:
    """On a large picture too, the pixel's own shade is to be seen."""
    images = random_images(shape=(1, 28, 28), num_classes=4)
    figure = poison_examples(images, uniform(images, pixels=1, seed=0), ["a", "b", "c", "d"])
    panels = [ax for ax in figure.axes if ax.images and ax.lines]
    assert len(panels) == 8, "poisoned and difference of four classes"
    for ax in panels:
        assert ax.get_xlim() == (-0.5, 27.5), "frames do not change the picture's place"
        points = 72 * ax.get_figure().get_size_inches()[0] / 4.9 * 1.68 / 28  # type: ignore[union-attr]
        for line in ax.lines:
            width = np.ptp(np.asarray(line.get_xdata(), dtype=float))
            assert width * points - line.get_linewidth() >= points * 0.98


@pytest.mark.filterwarnings("error")
def test_any_class_name_can_be_drawn(tmp_path: Path) -> None:
    images = random_images(num_classes=2)
    names = [r"$\frac{1}{$", "very long, and with an escape \x1b[31m"]
    figure = poison_examples(images, uniform(images, pixels=1, seed=0), names)
    save(figure, tmp_path / "p.png")
    vectors = (tmp_path / "p.svg").read_bytes()
    assert b"<svg" in vectors
    assert b"\x1b" not in vectors
    save(figure, tmp_path / "p.png")
    assert (tmp_path / "p.svg").read_bytes() == vectors
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == [r"$\frac{1}{$", "very long, …"]


def test_of_many_classes_the_first_forty_are_drawn() -> None:
    images = random_images(n=300, num_classes=100)
    figure = poison_examples(images, uniform(images, pixels=1, seed=0), [str(k) for k in range(100)])
    assert len(pictures(figure)) == 3 * 40
    assert "40 of 100 classes" in figure.get_suptitle()

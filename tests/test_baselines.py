"""Rivals that need no search: where they put their pixels, against slow and obvious versions."""

from pathlib import Path

import numpy as np
import pytest
from cases import random_images
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import one_pixel_shortcut_exhaustively

import mddes
from mddes import ImageSet, InputError, Perturbation, left_column, one_pixel_shortcut

SCORES = ("reference", "paper", "art")


def picked(p: Perturbation) -> list[list[tuple[int, int, tuple[int, ...]]]]:
    return [
        [
            (int(p.rows[k, j]), int(p.cols[k, j]), tuple((p.values[k, j] // 255).tolist()))
            for j in range(p.pixels)
        ]
        for k in range(p.num_classes)
    ]  # fmt: skip


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("collisions", ["skip", "allow"])
@settings(max_examples=8, deadline=None)
@given(
    shape=st.sampled_from([(1, 8, 8), (3, 8, 9), (1, 9, 11)]),
    classes=st.integers(2, 4),
    pixels=st.integers(1, 4),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([2, 4, 256]),
)
def test_shortcuts_equal_the_exhaustive_search(
    score: str, collisions: str, shape: tuple[int, int, int], classes: int, pixels: int, seed: int, levels: int
) -> None:
    """With few gray levels and a constant border many candidates tie, and the rule for equals decides."""
    images = random_images(4 * classes + 1, shape, classes, seed)
    pictures = images.images // (256 // levels) * (255 // (levels - 1))
    pictures[:, :, 0] = 0
    images = ImageSet(pictures, images.labels, classes)
    ours = one_pixel_shortcut(images, pixels=pixels, score=score, collisions=collisions)
    assert picked(ours) == one_pixel_shortcut_exhaustively(images, pixels, score, skip=collisions == "skip")


def test_each_score_has_the_rule_of_its_source() -> None:
    """On black borders all classes tie: reference moves on, paper and art write the same pixel for all."""
    pictures = np.zeros((8, 1, 8, 8), dtype=np.uint8)
    images = ImageSet(pictures, np.arange(8) % 4, 4)
    assert one_pixel_shortcut(images).cols.ravel().tolist() == [0, 1, 2, 3]
    for score in ("paper", "art"):
        p = one_pixel_shortcut(images, score=score)
        assert p.rows.ravel().tolist() == p.cols.ravel().tolist() == [0, 0, 0, 0]
    assert (one_pixel_shortcut(images).values == 255).all()


def test_sums_are_exact_however_the_images_are_cut_into_chunks() -> None:
    images = random_images(9000, (1, 8, 8), 2)
    doubled = ImageSet(np.repeat(images.images, 2, axis=0), np.repeat(images.labels, 2), 2)
    assert one_pixel_shortcut(images, pixels=5) == one_pixel_shortcut(doubled, pixels=5)


def test_a_single_image_has_no_variance_and_gives_its_most_extreme_pixel() -> None:
    images = random_images(2, (1, 8, 8), 2)
    p = one_pixel_shortcut(images)
    for k in range(2):
        own = images.images[k, 0].astype(int)
        farthest = abs(own[p.rows[k, 0], p.cols[k, 0]] - p.values[k, 0, 0])
        assert farthest == max(own.max(), 255 - own.min())


def test_a_planted_shortcut_is_found() -> None:
    """A pixel that is always dark in class 2 only is the farthest from white, with the least variance."""
    pictures = random_images(300, (3, 10, 12), 3).images.copy()
    labels = np.arange(300) % 3
    pictures[labels == 2, :, 4, 7] = 3
    for score in SCORES:
        p = one_pixel_shortcut(ImageSet(pictures, labels, 3), score=score)
        assert (int(p.rows[2, 0]), int(p.cols[2, 0]), p.values[2, 0].tolist()) == (4, 7, [255, 255, 255])


def test_left_column_is_binary_shift_mnist() -> None:
    mnist = ImageSet(np.zeros((10, 1, 28, 28), dtype=np.uint8), np.arange(10), 10)
    p = left_column(mnist)
    assert p.rows.ravel().tolist() == list(range(9, 19)), "r0 = (28 - 10) // 2"
    assert (p.cols == 0).all()
    assert (p.values == 255).all()
    assert left_column(mnist, pixels=3).cols.tolist() == [[0, 1, 2]] * 10


def test_left_column_with_more_classes_than_rows() -> None:
    images = ImageSet(np.zeros((100, 3, 32, 32), dtype=np.uint8), np.arange(100), 100)
    p = left_column(images, pixels=2)
    assert p.rows[:, 0].tolist() == [k % 32 for k in range(100)]
    assert p.cols[:, 0].tolist() == [k // 32 for k in range(100)]
    assert p.cols[:, 1].tolist() == [4 + k // 32 for k in range(100)]
    assert len({*zip(p.rows.ravel().tolist(), p.cols.ravel().tolist(), strict=True)}) == 200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: one_pixel_shortcut(x, score="papr"), "unknown score 'papr' (did you mean 'paper'?)"),
        (lambda x: one_pixel_shortcut(x, collisions="repair"), "unknown collision rule 'repair'"),
        (lambda x: one_pixel_shortcut(x, pixels=65), "pixels must lie in 1..64"),
        (lambda x: one_pixel_shortcut(x.subset([0, 1, 2])), r"classes [3] have no training image"),
        (lambda x: one_pixel_shortcut(x, pixels=64), "class 2 has no 64 pixels left that no earlier class uses"),
        (lambda x: left_column(x, pixels=9), "pixels of left-column must be at most 8: 4 classes take 1 columns each"),
    ],
)
def test_what_does_not_fit_is_said(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InputError) as error:
        call(random_images())
    assert message in str(error.value)


@pytest.mark.data
def test_mnist_s_border_gives_every_class_a_pixel_of_its_own(data_dir: Path) -> None:
    """The border is black in every image: with the paper's score all ten classes tie there, and take the same pixel."""
    train = mddes.load_dataset("mnist", data_dir=str(data_dir), train_size=10_000).train
    same = one_pixel_shortcut(train, score="paper")
    assert {(int(r), int(c)) for r, c in zip(same.rows[:, 0], same.cols[:, 0], strict=True)} == {(0, 0)}
    ours = one_pixel_shortcut(train)
    assert len({(int(r), int(c)) for r, c in zip(ours.rows[:, 0], ours.cols[:, 0], strict=True)}) == 10

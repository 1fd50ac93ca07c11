"""The genotype: vectors to perturbations and back, and the repair of collisions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mddes import InputError, Perturbation
from mddes.search.encoding import Encoding


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    return Encoding(
        image_shape=draw(st.sampled_from([(1, 8, 8), (3, 8, 10), (1, 12, 9)])),
        num_classes=draw(st.integers(2, 6)),
        pixels=draw(st.integers(1, 5)),
        mode=draw(st.sampled_from(["set", "add"])),
        value=draw(st.sampled_from([None, 255])),
    )


def crowded_vector(encoding: Encoding, seed: int, spread: float) -> np.ndarray:
    """Return a vector whose pixels lie close together: the smaller the spread, the more they collide."""
    draw = np.random.default_rng(seed)
    return np.clip(0.5 + spread * draw.standard_normal(encoding.dimension), 0, 1)


@given(encodings(), st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.1, 1.0]))
@settings(max_examples=200)
def test_decoded_pixels_differ_within_and_between_classes(encoding: Encoding, seed: int, spread: float) -> None:
    one = encoding.decode(crowded_vector(encoding, seed, spread))  # Perturbation itself checks within the class
    pixels = [
        (int(one.rows[k, j]), int(one.cols[k, j]), *one.values[k, j].tolist())
        for k in range(one.num_classes)
        for j in range(one.pixels)
    ]
    assert len(set(pixels)) == len(pixels)


@given(encodings(), st.integers(0, 10_000), st.sampled_from([0.05, 1.0]))
def test_encode_then_decode_gives_the_perturbation_back(encoding: Encoding, seed: int, spread: float) -> None:
    one = encoding.decode(crowded_vector(encoding, seed, spread))
    again = encoding.decode(encoding.encode(one))
    assert again == one


def test_known_cells() -> None:
    """u = 0, the inside of a cell, and u = 1 of an 8 x 10 image with 256 values."""
    encoding = Encoding(image_shape=(1, 8, 10), num_classes=2, pixels=1)
    one = encoding.decode(np.array([0.0, 0.0, 0.0, 1.0, 0.95, 0.5]))
    assert (one.rows.tolist(), one.cols.tolist()) == ([[0], [7]], [[0], [9]])
    assert one.values.tolist() == [[[0]], [[128]]]
    assert encoding.cell_widths().tolist() == [1 / 8, 1 / 10, 1 / 256] * 2


def test_add_covers_minus_255_to_255() -> None:
    encoding = Encoding(image_shape=(1, 8, 8), num_classes=2, pixels=1, mode="add")
    values = encoding.decode(np.array([0.1, 0.1, 0.0, 0.5, 0.5, 1.0])).values
    assert values.ravel().tolist() == [-255, 255]


@pytest.mark.parametrize(
    ("shape", "pixels", "value", "dimension"),
    [((1, 28, 28), 1, None, 30), ((3, 32, 32), 1, None, 50), ((3, 32, 32), 10, None, 500), ((1, 8, 8), 2, 255, 40)],
)
def test_dimension(shape: tuple[int, int, int], pixels: int, value: int | None, dimension: int) -> None:
    encoding = Encoding(image_shape=shape, num_classes=10, pixels=pixels, value=value)
    assert encoding.dimension == dimension


def test_a_collision_moves_the_later_class_to_the_nearest_free_pixel() -> None:
    encoding = Encoding(image_shape=(1, 8, 8), num_classes=2, pixels=1, value=255)
    one = encoding.decode(
        np.array([3.4, 3.9, 3.5, 3.9]) / 8
    )  # the point (3.5, 3.9) is nearest to cell (3, 4) after (3, 3)
    assert (one.rows[0, 0], one.cols[0, 0]) == (3, 3)
    assert (one.rows[1, 0], one.cols[1, 0]) == (3, 4)


def test_collisions_can_be_allowed_between_classes_only() -> None:
    encoding = Encoding(image_shape=(1, 8, 8), num_classes=3, pixels=2, value=255, collisions="allow")
    one = encoding.decode(np.full(encoding.dimension, 0.5))
    assert (one.rows == one.rows[0]).all()
    assert (one.cols == one.cols[0]).all(), "classes share their pixels"
    assert (one.rows[0, 0], one.cols[0, 0]) != (one.rows[0, 1], one.cols[0, 1])


def test_every_place_taken_changes_the_value() -> None:
    """More classes than pixels, all asking for the same pixel and value: repaired by values one off."""
    encoding = Encoding(image_shape=(1, 8, 8), num_classes=70, pixels=1)
    one = encoding.decode(np.full(encoding.dimension, 0.5))
    triples = {
        (int(r), int(c), int(v)) for r, c, v in zip(one.rows[:, 0], one.cols[:, 0], one.values[:, 0, 0], strict=True)
    }
    assert len(triples) == 70


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(InputError, match=r"pixels must lie in 1\.\.64"):
        Encoding(image_shape=(1, 8, 8), num_classes=2, pixels=65)
    with pytest.raises(InputError, match=r"value must lie in 0\.\.255"):
        Encoding(image_shape=(1, 8, 8), num_classes=2, pixels=1, value=256)
    with pytest.raises(InputError, match="cannot all differ"):
        Encoding(image_shape=(1, 8, 8), num_classes=65, pixels=1, value=255)
    with pytest.raises(InputError, match="collision rule"):
        Encoding(image_shape=(1, 8, 8), num_classes=2, pixels=1, collisions="ignore")


def test_starts_only_from_a_perturbation_of_its_kind() -> None:
    encoding = Encoding(image_shape=(1, 8, 8), num_classes=2, pixels=1, value=255)
    free = Encoding(image_shape=(1, 8, 8), num_classes=2, pixels=1)
    two = Encoding(image_shape=(1, 8, 8), num_classes=2, pixels=2)
    middling: Perturbation = free.decode(np.full(6, 0.5))
    with pytest.raises(InputError, match="fixed value 255"):
        encoding.encode(middling)
    with pytest.raises(InputError, match="cannot start from 1 pixels"):
        two.encode(middling)

"""Other people's poisoned training sets: read as they save them, refused where they do not fit."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import random_images

from mddes import Dataset, InputError, export, uniform
from mddes.poison.peers import load_peer

IMAGES = random_images(24, (3, 8, 9))
POISON = uniform(IMAGES, pixels=4, seed=2)
POISONED = POISON.apply(IMAGES)
DELTA = torch.tensor(POISONED.images.astype(np.int16) - IMAGES.images)


@pytest.mark.parametrize("layout", ["first", "last"])
def test_arrays_in_either_layout(tmp_path: Path, layout: str) -> None:
    x = POISONED.images if layout == "first" else POISONED.images.transpose(0, 2, 3, 1)
    np.savez(tmp_path / "p.npz", images=x, labels=IMAGES.labels)
    assert np.array_equal(load_peer(tmp_path / "p.npz", IMAGES).images, POISONED.images)


@pytest.mark.parametrize("layout", ["npz", "pt"])
@pytest.mark.parametrize("mode", ["set", "add"])
def test_our_own_exports(tmp_path: Path, layout: str, mode: str) -> None:
    poison = uniform(IMAGES, pixels=4, seed=2, mode=mode)
    folder = export(poison, Dataset("x", IMAGES, IMAGES), tmp_path / "out", layout)
    file = folder / ("poisoned.npz" if layout == "npz" else "perturbation.pt")
    assert np.array_equal(load_peer(file, IMAGES).images, poison.apply(IMAGES).images)


def test_a_sample_wise_change_as_unlearnable_examples_saves_it(tmp_path: Path) -> None:
    noise = torch.rand(24, 3, 8, 9) * 16 / 255 - 8 / 255
    torch.save(noise, tmp_path / "p.pt")
    expected = np.clip(np.rint(IMAGES.images + 255 * noise.double().numpy()), 0, 255)
    assert np.array_equal(load_peer(tmp_path / "p.pt", IMAGES).images, expected)


def test_a_change_that_was_saved_as_a_parameter(tmp_path: Path) -> None:
    torch.save(torch.nn.Parameter(torch.full((24, 3, 8, 9), 1 / 255)), tmp_path / "p.pt")
    assert np.array_equal(load_peer(tmp_path / "p.pt", IMAGES).images, np.minimum(IMAGES.images, 254) + 1)


def test_without_labels_the_order_is_seen_from_the_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", images=POISONED.images)
    assert np.array_equal(load_peer(tmp_path / "p.npz", IMAGES).images, POISONED.images)
    strong = np.random.default_rng(0).integers(0, 256, IMAGES.images.shape).astype(np.uint8)
    np.savez(tmp_path / "q.npz", images=strong, labels=IMAGES.labels)
    assert np.array_equal(load_peer(tmp_path / "q.npz", IMAGES).images, strong), "labels say that the order is right"


def save_pickle(path: Path) -> None:
    with path.open("wb") as file:
        pickle.dump(Path("x"), file)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("p.npz", lambda f: np.savez(f, images=POISONED.images[:5]), "it holds 5 images, and the training set 24"),
        ("p.npz", lambda f: np.savez(f, images=POISONED.images[:, :, :7]), "do not fit"),
        ("p.npz", lambda f: np.savez(f, images=POISONED.images / 255), "images must be uint8"),
        ("p.npz", lambda f: np.savez(f, other=POISONED.images), "images"),
        ("p.npz", lambda f: np.savez(f, images=POISONED.images, labels=IMAGES.labels[::-1]), "another order?"),
        ("p.npz", lambda f: np.savez(f, images=POISONED.images[::-1]), "no nearer to the training images of their"),
        (
            "p.npz",
            lambda f: np.savez(f, images=np.array([{}], dtype=object)),
            "it holds pickled objects",
        ),
        ("p.npz", lambda f: f.write_bytes(b"PK nonsense"), "p.npz"),
        ("p.pt", lambda f: torch.save(torch.zeros(5, 3, 8, 9), f), "does not fit images"),
        ("p.pt", lambda f: torch.save(torch.zeros(24, 3, 8, 9, dtype=torch.int16), f), "neither a float tensor"),
        ("p.pt", lambda f: torch.save(torch.full((24, 3, 8, 9), torch.nan), f), "NaN"),
        ("p.pt", lambda f: torch.save({"noise": torch.zeros(1)}, f), "delta"),
        (
            "p.pt",
            lambda f: torch.save({"delta": torch.rand(24, 3, 8, 9)}, f),
            "delta must be a tensor of whole numbers",
        ),
        (
            "p.pt",
            lambda f: torch.save({"delta": DELTA, "labels": torch.tensor(IMAGES.labels[::-1].copy())}, f),
            "its labels are not those of the training set: another order?",
        ),
        ("p.pt", lambda f: torch.save({"delta": [1, 2]}, f), "delta must be a tensor of whole numbers"),
        ("p.pt", lambda f: torch.save(torch.full((24, 3, 8, 9), 8.0), f), "a float change is in units of [0, 1]"),
        ("p.pt", lambda f: torch.save(torch.zeros(24, 3, 8, 9), f), "changes no image"),
        ("p.npz", lambda f: np.savez(f, images=IMAGES.images), "changes no image"),
        ("p.pt", lambda f: torch.save(Path("x"), f), "p.pt"),
        ("p.pt", save_pickle, "p.pt"),
        ("p.pt", lambda f: None, "p.pt"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(tmp_path: Path, name: str, write: object, message: str) -> None:
    assert callable(write)
    write(tmp_path / name)
    with pytest.raises(InputError) as error:
        load_peer(tmp_path / name, IMAGES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)

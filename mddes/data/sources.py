"""Named data sets, and `load_dataset`, which also takes a path.

`digits` is embedded in scikit-learn. The others come through torchvision: from `data_dir` (or `$MDDES_DATA`) when
one is given, and nothing is downloaded then; otherwise from `~/.cache/mddes`, where they are downloaded once.
torchvision checks the published MD5 sums of what it downloads. Both libraries are imported when they are needed:
a worker, and `--help`, need neither.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mddes.data.files import load_folder, load_npz, one_line
from mddes.data.images import Dataset, ImageSet
from mddes.errors import InputError, look_up

CACHE = Path("~/.cache/mddes")
DIGITS_TEST = 360  # the last 360 of 1,797: other writers than the rest


@dataclass(frozen=True)
class Source:
    """Where a named data set comes from. `load(folder, download)` returns it; `files` are what it needs there."""

    load: Callable[[Path, bool], Dataset]
    summary: str
    files: tuple[str, ...]
    cite: str


def load_dataset(name: str, *, data_dir: str | Path | None = None, train_size: int | None = None) -> Dataset:
    """Load a data set by name or path.

    Args:
        name: one of `DATASETS`; or an .npz file; or a folder with train/<class>/ and test/<class>/. A path that does
            not exist is also looked for in `data_dir`.
        data_dir: folder with files already there, in torchvision's layout; default `$MDDES_DATA`. Without either,
            named data sets are downloaded to ~/.cache/mddes.
        train_size: keep only the first so many training images.

    Returns:
        The data set, images uint8 (N, C, H, W).

    Raises:
        InputError: unknown name, missing or unreadable files, images or labels that do not fit.

    >>> load_dataset("digits").train.images.shape
    (1437, 1, 8, 8)
    """
    given = data_dir or os.environ.get("MDDES_DATA") or None
    folder = Path(given).expanduser() if given else None
    path = _find(name, folder)
    if path is None:
        data = _load_named(name, folder)
    else:
        data = load_folder(path) if path.is_dir() else load_npz(path)
    return _checked(data if train_size is None else _first(data, train_size))


def _find(name: str, folder: Path | None) -> Path | None:
    """Return the path that `name` is, or None when it is a data set's name."""
    if name in DATASETS:
        return None
    path = Path(name).expanduser()
    looks_like_path = path.suffix == ".npz" or len(path.parts) > 1
    for candidate in (path, folder / path.name if folder else path):
        if candidate.is_dir() or (candidate.is_file() and candidate.suffix == ".npz"):
            return candidate.resolve()
    if path.is_file():
        raise InputError(f"{name} is no .npz file: a data set is an .npz, a folder, or one of {', '.join(DATASETS)}")
    if looks_like_path:
        raise InputError(f"no data set at {name}: neither an .npz file nor a folder with train/ and test/")
    return None


def _load_named(name: str, folder: Path | None) -> Dataset:
    source = look_up("data set", name, DATASETS)
    root = folder or CACHE.expanduser()
    missing = [file for file in source.files if not (root / file).exists()]
    if folder and missing:
        raise InputError(
            f"{folder} has no {missing[0]}, which {name} needs; leave out --data-dir and MDDES_DATA to download it"
        )
    try:
        return source.load(root, bool(missing))
    except (
        OSError,
        RuntimeError,
        ValueError,
        AssertionError,
        EOFError,
    ) as error:  # torchvision's ways of failing
        deed = f"download {name} to" if missing else f"read {name} from"
        raise InputError(f"cannot {deed} {root}: {one_line(error)}") from error


def _first(data: Dataset, size: int) -> Dataset:
    if not 1 <= size <= len(data.train):
        raise InputError(f"train_size must lie in 1..{len(data.train)}, the training images of {data.name}, not {size}")
    return replace(data, train=data.train.subset(np.arange(size)))


def _checked(data: Dataset) -> Dataset:
    absent = np.flatnonzero(data.train.class_counts() == 0)
    if len(absent):
        raise InputError(
            f"{data.name}: none of the {len(data.train)} training images is of class {absent[0]} "
            f"(labels must be 0..{data.train.num_classes - 1} without gaps; a file sorted by class must be shuffled "
            "before its first images are taken)"
        )
    return data


def _digits(_folder: Path, _download: bool) -> Dataset:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    train, test = slice(None, -DIGITS_TEST), slice(-DIGITS_TEST, None)
    return Dataset(
        "digits",
        ImageSet(images[train], bunch.target[train], 10),
        ImageSet(images[test], bunch.target[test], 10),
    )


def _idx(name: str, kind: str, classes: tuple[str, ...] = ()) -> Callable[[Path, bool], Dataset]:
    """MNIST and Fashion-MNIST: `kind` is torchvision's class."""

    def load(folder: Path, download: bool) -> Dataset:
        import torchvision

        source = getattr(torchvision.datasets, kind)
        parts = (source(folder, train=part, download=download) for part in (True, False))
        train, test = (ImageSet(p.data.numpy()[:, None], p.targets.numpy(), 10) for p in parts)
        return Dataset(name, train, test, classes)

    return load


def _svhn(folder: Path, download: bool) -> Dataset:
    import torchvision

    parts = (torchvision.datasets.SVHN(folder, split=part, download=download) for part in ("train", "test"))
    train, test = (ImageSet(p.data, p.labels, 10) for p in parts)
    return Dataset("svhn", train, test)


def _cifar10(folder: Path, download: bool) -> Dataset:
    import torchvision

    parts = [torchvision.datasets.CIFAR10(folder, train=train, download=download) for train in (True, False)]
    train, test = (ImageSet(p.data.transpose(0, 3, 1, 2), np.array(p.targets), 10) for p in parts)
    return Dataset("cifar10", train, test, tuple(parts[0].classes))


def _raw(name: str) -> tuple[str, ...]:
    kinds = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(f"{name}/raw/{kind}-ubyte" for kind in kinds)


FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")

DATASETS: dict[str, Source] = {
    "digits": Source(
        _digits,
        "1,437 + 360 handwritten digits, 8 x 8, gray, 10 classes; embedded, no download",
        (),
        "Alpaydin & Kaynak 1998, UCI Optical Recognition of Handwritten Digits",
    ),
    "mnist": Source(
        _idx("mnist", "MNIST"),
        "60,000 + 10,000 handwritten digits, 28 x 28, gray, 10 classes",
        _raw("MNIST"),
        "LeCun, Cortes & Burges 1998",
    ),
    "fashion-mnist": Source(
        _idx("fashion-mnist", "FashionMNIST", FASHION),
        "60,000 + 10,000 pieces of clothing, 28 x 28, gray, 10 classes",
        _raw("FashionMNIST"),
        "Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747",
    ),
    "svhn": Source(
        _svhn,
        "73,257 + 26,032 house-number digits, 32 x 32, RGB, 10 classes; non-commercial use",
        ("train_32x32.mat", "test_32x32.mat"),
        "Netzer et al. 2011",
    ),
    "cifar10": Source(
        _cifar10,
        "50,000 + 10,000 photographs, 32 x 32, RGB, 10 classes",
        ("cifar-10-batches-py",),
        "Krizhevsky 2009",
    ),
}

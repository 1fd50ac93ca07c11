"""A user's own data: an .npz file, or a folder tree of images.

Both refuse what they cannot represent exactly (floats, 16-bit or transparent pictures, mixed sizes) with one line
that says what to change; nothing is rescaled, cropped or unpickled on the way.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mddes.data.images import Dataset, ImageSet
from mddes.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
NPZ_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_npz(path: Path) -> Dataset:
    """Read `train_images`, `train_labels`, `test_images`, `test_labels` from an .npz file.

    Images are (N, C, H, W) or (N, H, W) uint8, labels (N,) integers 0 .. K-1, where K is the largest training label
    plus one and every class has training images.
    """
    arrays = _read_arrays(path)
    labels = arrays["train_labels"]
    if labels.size == 0 or labels.dtype.kind not in "iu":
        raise InputError(
            f"{path}: train_labels must be integers, one for each image, not {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0:
        raise InputError(f"{path}: train_labels must be 0, 1, ..., but the least is {labels.min()}")
    if labels.max() >= labels.size:
        raise InputError(f"{path}: a label of {labels.max()} among {labels.size} leaves classes without images")
    num_classes = int(labels.max()) + 1
    parts: dict[str, ImageSet] = {}
    for part in ("train", "test"):
        images = arrays[f"{part}_images"]
        try:
            parts[part] = ImageSet(_with_channel(images), arrays[f"{part}_labels"], num_classes)
        except InputError as error:
            raise InputError(f"{path}: {part}: {error}") from None
    return Dataset(path.stem, parts["train"], parts["test"])


def load_folder(path: Path) -> Dataset:
    """Read `train/<class>/*` and `test/<class>/*`; class numbers follow the sorted names of the training folders.

    Pictures are 8-bit gray or RGB (palette pictures are expanded), all of one size. Classes are interleaved, so that
    the first N images of the set hold every class.
    """
    names = _class_names(path / "train")
    strangers = sorted(set(_class_names(path / "test")) - set(names))
    if strangers:
        raise InputError(f"{path / 'test'} has classes that {path / 'train'} lacks: {', '.join(strangers)}")
    files = {part: _interleaved(path / part, names) for part in ("train", "test")}
    gray = all(_is_gray(file) for rows in files.values() for file, _ in rows)
    parts: dict[str, ImageSet] = {}
    for part, rows in files.items():
        images = _stack([file for file, _ in rows], "L" if gray else "RGB", f"{path / part}")
        try:
            parts[part] = ImageSet(images, np.array([label for _, label in rows]), len(names))
        except InputError as error:
            raise InputError(f"{path / part}: {error}") from None
    return Dataset(path.name, parts["train"], parts["test"], tuple(names))


def one_line(error: BaseException) -> str:
    """Return an exception's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz file")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.files)
            arrays = {key: archive[key] for key in NPZ_KEYS if key in names}
    except Exception as error:
        why = one_line(error)
        if "pickle" in why:
            why = "it holds pickled objects, which are never loaded, or is no .npz"
        raise InputError(f"cannot read {path} as an .npz of plain arrays: {why}") from error
    if missing := [key for key in NPZ_KEYS if key not in arrays]:
        raise InputError(f"{path} has no {', '.join(missing)}; it holds {', '.join(names) or 'nothing'}")
    if strange := [key for key, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise InputError(f"{path}: {strange[0]} is no array")
    return arrays


def _with_channel(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        raise InputError(f"images {images.shape} look like (N, H, W, C); store (N, C, H, W)")
    return images[:, None] if images.ndim == 3 else images


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; a data set is train/<class>/* and test/<class>/*")
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _interleaved(folder: Path, names: list[str]) -> list[tuple[Path, int]]:
    """Return (file, label) with the first file of every class first, then the second of every class, and so on."""
    rows = []
    for label, name in enumerate(names):
        files = sorted(f for f in (folder / name).glob("*") if f.suffix.lower() in ENDINGS)
        if not files and folder.name == "train":
            raise InputError(f"no pictures in {folder / name}; known endings: {' '.join(ENDINGS)}")
        rows += [(rank, label, file) for rank, file in enumerate(files)]
    return [(file, label) for _, label, file in sorted(rows)]


def _is_gray(file: Path) -> bool:
    with _open(file) as picture:
        return picture.mode in ("1", "L")


def _open(file: Path) -> Image.Image:
    try:
        picture = Image.open(file)
    except Exception as error:
        raise InputError(f"cannot read {file} as a picture: {one_line(error)}") from error
    if picture.mode not in ("1", "L", "P", "RGB"):
        mode = picture.mode
        picture.close()
        raise InputError(f"{file} has mode {mode}; save it as 8-bit gray or RGB without transparency")
    return picture


def _stack(files: list[Path], mode: str, where: str) -> NDArray[np.uint8]:
    if not files:
        raise InputError(f"no pictures in {where}")
    stack: NDArray[np.uint8] | None = None
    for i, file in enumerate(files):
        with _open(file) as picture:
            try:
                pixels = np.atleast_3d(np.asarray(picture.convert(mode), dtype=np.uint8)).transpose(2, 0, 1)
            except (
                OSError,
                SyntaxError,
                ValueError,
            ) as error:  # what Pillow raises for a truncated or damaged file
                raise InputError(f"cannot read {file} as a picture: {one_line(error)}") from error
        if stack is None:
            stack = np.empty((len(files), *pixels.shape), dtype=np.uint8)
        if pixels.shape != stack.shape[1:]:
            sizes = f"{pixels.shape[1]} x {pixels.shape[2]}, but {files[0].name} is {stack.shape[2]} x {stack.shape[3]}"
            raise InputError(f"{file} is {sizes}: bring all pictures to one size first")
        stack[i] = pixels
    assert stack is not None
    return stack

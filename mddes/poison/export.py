"""Poisoned training sets as files that other tools read; lossless, with a checksum of every file.

    npz        poisoned.npz: images uint8 (N, C, H, W), labels int64 (N,), indices int64 (N,), class_names
    png        <class>/<index>.png, an ImageFolder; <index> is the image's place in the original training set
    flat-png   data/<index>.png in the original order and nothing else there, as APBench and ISS read it; labels.csv
    pt         perturbation.pt; "add": float32 (K, C, H, W), times 255 the change of a class (Unlearnable-Examples reads
               such a file, but takes all negative numbers for 0); "set", whose change depends on the image: a
               dictionary of delta int16 (N, C, H, W), mask bool (K, H, W), value uint8 (K, C, H, W), labels and indices
               int64 (N,)

A folder appears whole or not at all. Its manifest.json says what it is, which perturbation made it from which images,
and the SHA-256 of every file; `read_export` checks all of it.
"""

import csv
import hashlib
import io
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mddes.data import Dataset, ImageSet
from mddes.errors import InputError, look_up
from mddes.poison.perturbation import Perturbation
from mddes.version import __version__

MANIFEST, FORMAT, VERSION = "manifest.json", "mddes-export", 1
PICTURES = "data"  # peers' loaders take every entry of the folder they are given for a picture

log = logging.getLogger(__name__)


def export(perturbation: Perturbation, dataset: Dataset, folder: str | Path, layout: str) -> Path:
    """Write a data set's poisoned training images to a new folder and return it.

    Args:
        perturbation: what to write into them.
        dataset: its training images are poisoned.
        folder: must not exist, or be empty.
        layout: "npz", "png", "flat-png" or "pt".

    Raises:
        InputError: an unknown layout, a perturbation that does not fit, or a folder that holds something else.
        OSError: the folder cannot be written; nothing is left behind.
    """
    write = look_up("export format", layout, LAYOUTS)
    poisoned = perturbation.apply(dataset.train)
    target = Path(folder)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} exists already and is not an empty folder: name another one")
    target = target.resolve()  # the folder itself, when it is "." or a link
    if target == Path.cwd():
        raise InputError(f"{target} is the current folder, which cannot be replaced: name another one")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        write(part, perturbation, dataset, poisoned)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "mddes": __version__,
            "layout": layout,
            "dataset": dataset.name,
            "clean": dataset.train.digest(),
            "poisoned": poisoned.digest(),
            "image_shape": poisoned.shape,
            "images": len(poisoned),
            "class_names": dataset.class_names,
            "perturbation": {**perturbation.change(), "provenance": dict(perturbation.provenance)},
            "files": {str(path.relative_to(part)): _sha256(path) for path in sorted(part.rglob("*")) if path.is_file()},
        }
        (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        part.chmod(0o755)  # mkdtemp makes it private
        part.replace(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return target


def read_export(folder: str | Path) -> ImageSet:
    """Read an export of layout npz, png or flat-png back, in the original order, every checksum compared.

    Raises:
        InputError: no export, another version or layout, or a file that is missing, added or changed.
    """
    path, manifest = Path(folder), verify_export(folder)
    read = look_up("export format with images", manifest["layout"], READERS)
    try:
        images = read(path, len(manifest["class_names"]))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} was changed: it cannot be read as {manifest['layout']}: {error}") from error
    if images.digest() != manifest["poisoned"]:
        raise InputError(f"{path} was changed: its images are not those that were exported")
    return images


def verify_export(folder: str | Path) -> dict[str, Any]:
    """Return the manifest of an export of any layout, every checksum compared.

    Raises:
        InputError: no export, another version, or a file that is missing, added or changed.
    """
    path = Path(folder)
    try:
        manifest = dict(json.loads((path / MANIFEST).read_text(encoding="utf-8")))
        if manifest["format"] != FORMAT or manifest["version"] != VERSION:
            raise ValueError("another format or version")
        recorded = dict(manifest["files"])
        manifest |= {"layout": str(manifest["layout"]), "poisoned": str(manifest["poisoned"])}
        manifest["class_names"] = list(manifest["class_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no export of mddes: {error}") from error
    present = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} - {MANIFEST}
    if present != {*recorded}:
        odd = sorted(present ^ {*recorded})
        raise InputError(f"{path} was changed: {odd[0]} is {'new' if odd[0] in present else 'missing'}")
    for name, checksum in recorded.items():
        if _sha256(path / name) != checksum:
            raise InputError(f"{path} was changed: {name} has another checksum than its manifest says")
    return manifest


def _write_npz(folder: Path, _perturbation: Perturbation, dataset: Dataset, poisoned: ImageSet) -> None:
    np.savez_compressed(
        folder / "poisoned.npz",
        images=poisoned.images,
        labels=poisoned.labels,
        indices=np.arange(len(poisoned)),
        class_names=np.array(dataset.class_names),
    )


def _read_npz(folder: Path, k: int) -> ImageSet:
    with np.load(folder / "poisoned.npz", allow_pickle=False) as arrays:
        return ImageSet(arrays["images"], arrays["labels"], k)


def _write_png(folder: Path, _perturbation: Perturbation, dataset: Dataset, poisoned: ImageSet) -> None:
    if empty := np.flatnonzero(poisoned.class_counts() == 0).tolist():
        raise InputError(f"an ImageFolder takes no class without images, and there are none of {empty}: use npz")
    width = len(str(len(poisoned) - 1))
    names = folder_names(dataset.class_names)
    for name in names:
        (folder / name).mkdir()
    for i, (image, label) in enumerate(zip(poisoned.images, poisoned.labels, strict=True)):
        _save(image, folder / names[label] / f"{i:0{width}d}.png")


def _read_png(folder: Path, k: int) -> ImageSet:
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    found = sorted((int(path.stem), label, path) for label, own in enumerate(classes) for path in own.iterdir())
    return ImageSet(np.stack([_load(path) for *_, path in found]), np.array([label for _, label, _ in found]), k)


def _write_flat(folder: Path, _perturbation: Perturbation, dataset: Dataset, poisoned: ImageSet) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "index", "label", "class"))
    (folder / PICTURES).mkdir()
    for i, (image, label) in enumerate(zip(poisoned.images, poisoned.labels.tolist(), strict=True)):
        _save(image, folder / PICTURES / f"{i}.png")
        writer.writerow((f"{PICTURES}/{i}.png", i, label, dataset.class_names[label]))
    (folder / "labels.csv").write_text(text.getvalue(), encoding="utf-8")


def _read_flat(folder: Path, k: int) -> ImageSet:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = np.stack([_load(folder / PICTURES / f"{int(row['index'])}.png") for row in rows])
    return ImageSet(pictures, np.array([int(row["label"]) for row in rows]), k)


def _write_pt(folder: Path, perturbation: Perturbation, dataset: Dataset, poisoned: ImageSet) -> None:
    _, height, width = perturbation.image_shape
    content: Any
    value = torch.zeros((perturbation.num_classes, *perturbation.image_shape), dtype=torch.int16)
    mask = torch.zeros((perturbation.num_classes, height, width), dtype=torch.bool)
    for k in range(perturbation.num_classes):
        rows, cols = torch.tensor(perturbation.rows[k]), torch.tensor(perturbation.cols[k])
        value[k, :, rows, cols] = torch.tensor(perturbation.values[k]).T
        mask[k, rows, cols] = True
    if perturbation.mode == "add":
        if negative := int((value < 0).sum()):
            log.warning("%d of its changes are negative: Unlearnable-Examples' own reader takes those for 0", negative)
        content = value.to(torch.float32) / 255
    else:
        delta = poisoned.images.astype(np.int16) - dataset.train.images
        content = {
            "delta": torch.from_numpy(delta),
            "mask": mask,
            "value": value.to(torch.uint8),
            "labels": torch.tensor(poisoned.labels),
            "indices": torch.arange(len(poisoned)),
        }
    torch.save(content, folder / "perturbation.pt")


LAYOUTS: dict[str, Callable[[Path, Perturbation, Dataset, ImageSet], None]] = {
    "npz": _write_npz,
    "png": _write_png,
    "flat-png": _write_flat,
    "pt": _write_pt,
}
READERS: dict[str, Callable[[Path, int], ImageSet]] = {"npz": _read_npz, "png": _read_png, "flat-png": _read_flat}


def folder_names(class_names: tuple[str, ...]) -> list[str]:
    """Return a folder's name for each class, so that their alphabetical order is that of the labels.

    >>> folder_names(("cat", "dog")), folder_names(("T-shirt/top", "Bag"))
    (['cat', 'dog'], ['0-T-shirt_top', '1-Bag'])
    """
    plain = [re.sub(r"[^\w .+-]", "_", name) or "_" for name in class_names]
    kept = not any(name.startswith(".") for name in plain)
    if kept and plain == sorted({*plain}):
        return plain
    width = len(str(len(plain) - 1))
    return [f"{k:0{width}d}-{name}" for k, name in enumerate(plain)]


def _save(image: NDArray[np.uint8], path: Path) -> None:
    """Write (C, H, W) as a gray or RGB picture."""
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)


def _load(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

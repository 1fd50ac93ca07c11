"""A class-wise pixel perturbation: N_p pixels for each of K classes, 8-bit exact, a small JSON file.

Every image of class k gets the same change, x_p = x + eta_k (Chaudhury & Yamasaki 2020, section 2), here either as
`set` (the pixel becomes the value) or as `add` (the value is added, the sum clipped to 0..255). What a search
evaluates is what is saved, exported and trained on. Batch by batch: `batch.py`. Where perturbations come from:
`search/encoding.py`, `baselines.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mddes.data import ImageSet
from mddes.errors import InputError, look_up
from mddes.hypertext import table
from mddes.poison.arrays import channels_first, check_labels, check_none
from mddes.poison.perturbation_file import as_rows, read, to_text
from mddes.writing import replace_file

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

MODES = {"set": (0, 255), "add": (-255, 255)}  # write mode -> range of its values


def check_pixels(pixels: int, image_shape: tuple[int, int, int]) -> None:
    """Raise an `InputError` unless so many distinct pixels fit into an image."""
    _, height, width = image_shape
    if not isinstance(pixels, int | np.integer) or not 1 <= pixels <= height * width:
        raise InputError(f"pixels must lie in 1..{height * width} for {height} x {width} images, not {pixels}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Perturbation:
    """N_p pixels per class.

    Attributes:
        rows, cols: (K, N_p) integers inside the image, distinct places within a class.
        values: (K, N_p, C) int16, 0..255 for mode "set", -255..255 for "add".
        mode: "set" or "add".
        image_shape: (C, H, W) of the images it fits.
        provenance: how it came about, JSON; not part of equality.

    Raises:
        InputError: shapes, ranges or places that do not fit.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    values: NDArray[np.integer[Any]]
    mode: str
    image_shape: tuple[int, int, int]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = look_up("write mode", self.mode, MODES)
        rows, cols, values = (np.asarray(a) for a in (self.rows, self.cols, self.values))
        channels, height, width = self.image_shape
        if channels not in (1, 3):
            raise InputError(f"images have 1 or 3 channels, not {channels}")
        if rows.ndim != 2 or rows.size == 0 or cols.shape != rows.shape or values.shape != (*rows.shape, channels):
            raise InputError(
                f"rows, cols and values must be (K, N_p), (K, N_p) and (K, N_p, {channels}), "
                f"not {rows.shape}, {cols.shape} and {values.shape}"
            )
        for name, array, least, most in (
            ("row", rows, 0, height - 1),
            ("col", cols, 0, width - 1),
            ("value", values, low, high),
        ):
            if array.dtype.kind not in "iu":
                raise InputError(f"every {name} must be an integer, not {array.dtype}")
            if array.min() < least or array.max() > most:
                raise InputError(
                    f"every {name} must lie in {least}..{most}, but they span {array.min()}..{array.max()}"
                )
        for k, own in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
            if len(set(zip(*own, strict=True))) < len(own[0]):
                raise InputError(f"class {k} names the same pixel twice")
        for name, array, dtype in (
            ("rows", rows, np.int64),
            ("cols", cols, np.int64),
            ("values", values, np.int16),
        ):
            frozen = array.astype(dtype)
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.rows)

    @property
    def pixels(self) -> int:
        """N_p."""
        return int(self.rows.shape[1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Perturbation) and self.change() == other.change()

    def __hash__(self) -> int:
        return hash(json.dumps(self.change()))

    def __repr__(self) -> str:
        return f"Perturbation({self.pixels} pixels x {self.num_classes} classes, {self.mode}, {self.image_shape})"

    def _repr_html_(self) -> str:
        return table(as_rows(self.change()), repr(self))

    def check_fits(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """Raise an `InputError` unless the perturbation is made for such images and so many classes."""
        if (image_shape, num_classes) != (self.image_shape, self.num_classes):
            raise InputError(
                f"a perturbation of {self.num_classes} classes of {self.image_shape} images does not fit "
                f"{num_classes} classes of {image_shape} images"
            )

    @overload
    def apply(self, images: ImageSet) -> ImageSet: ...
    @overload
    def apply(self, images: Pixels, labels: ArrayLike) -> tuple[Pixels, Labels]: ...
    def apply(self, images: ImageSet | Pixels, labels: ArrayLike = ()) -> ImageSet | tuple[Pixels, Labels]:
        """Return a poisoned copy: every image of class k changed at class k's pixels, all else untouched.

        Args:
            images: an ImageSet; or uint8 (N, C, H, W), (N, H, W, C) or gray (N, H, W), with labels.
            labels: (N,) integers 0 .. K - 1, with such an array only; (poisoned, labels) is returned then.
        """
        if isinstance(images, ImageSet):
            check_none(labels)
            self.check_fits(images.shape, images.num_classes)
            poisoned = images.images.copy()
            self._write(poisoned, images.labels)
            return ImageSet(poisoned, images.labels, images.num_classes)
        y = check_labels(labels, len(channels_first(images, self.image_shape)), self.num_classes)
        poisoned = images.copy()
        self._write(channels_first(poisoned, self.image_shape), y)
        return poisoned, y

    def _write(self, images: Pixels, y: Labels) -> None:
        for j in range(self.pixels):
            at = (np.arange(len(images)), slice(None), self.rows[y, j], self.cols[y, j])  # (N, C)
            base = 0 if self.mode == "set" else images[at].astype(np.int16)
            images[at] = np.clip(base + self.values[y, j], 0, 255).astype(np.uint8)

    def change(self) -> dict[str, Any]:
        """Return what the perturbation does, without its provenance, as plain JSON values."""
        return {
            "mode": self.mode,
            "image_shape": list(self.image_shape),
            "rows": self.rows.tolist(),
            "cols": self.cols.tolist(),
            "values": self.values.tolist(),
        }

    @classmethod
    def from_change(cls, change: Mapping[str, Any], provenance: Mapping[str, Any] | None = None) -> "Perturbation":
        """Rebuild a perturbation from `change()`."""
        return cls(
            rows=np.array(change["rows"]),
            cols=np.array(change["cols"]),
            values=np.array(change["values"]),
            mode=change["mode"],
            image_shape=tuple(change["image_shape"]),
            provenance=provenance or {},
        )

    def save(self, path: str | Path) -> None:
        """Write human-readable JSON, one line a class; the file appears whole or not at all."""
        replace_file(path, to_text(self.change(), self.provenance))

    @classmethod
    def load(cls, path: str | Path) -> "Perturbation":
        """Read what `save` wrote. The file is data only: it is parsed as JSON and checked, never executed.

        Raises:
            InputError: no such file, not JSON, another format or version, or numbers that do not fit.
        """
        return read(path, cls.from_change)

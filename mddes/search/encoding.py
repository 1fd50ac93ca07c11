"""The genotype: points of the unit cube to perturbations and back.

Per class and pixel: (row, col, value[C]), so D = K N_p (2 + C); with a fixed value D = 2 K N_p. A coordinate u means
cell floor(u * size) of its axis. Exactly N_p distinct pixels a class come out, and (unless collisions are allowed)
no two classes share a pixel and its value: such a poison separates nothing. The strategy is always told the vector
it asked for, not the repaired one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mddes.errors import InputError, look_up
from mddes.poison.perturbation import MODES, Perturbation, check_pixels

COLLISIONS = ("repair", "allow")


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How vectors of one search are read.

    Attributes:
        image_shape: (C, H, W).
        num_classes: K.
        pixels: N_p, 1 .. H * W.
        mode: "set" or "add".
        value: the one value of every pixel, or None to search it.
        collisions: "repair" or "allow".
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    pixels: int
    mode: str = "set"
    value: int | None = None
    collisions: str = "repair"

    def __post_init__(self) -> None:
        _, height, width = self.image_shape
        low, high = look_up("write mode", self.mode, MODES)
        look_up("collision rule", self.collisions, dict.fromkeys(COLLISIONS))
        check_pixels(self.pixels, self.image_shape)
        if self.value is not None and not low <= self.value <= high:
            raise InputError(f"value must lie in {low}..{high} for mode {self.mode!r}, not {self.value}")
        wanted, levels = self.num_classes * self.pixels, 1 if self.value is not None else high - low + 1
        if self.collisions == "repair" and wanted > levels * height * width:
            raise InputError(
                f"{wanted} pixels of {levels} value(s) cannot all differ on {height} x {width} images: "
                "use fewer pixels, search the value too, or allow collisions"
            )

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Cells along each coordinate of one pixel: (rows, cols, values per channel): (2 + C,) or (2,)."""
        channels, height, width = self.image_shape
        low, high = MODES[self.mode]
        return np.array([height, width] + ([high - low + 1] * channels if self.value is None else []))

    @property
    def dimension(self) -> int:
        """D."""
        return self.num_classes * self.pixels * len(self.sizes)

    def cell_widths(self) -> NDArray[np.float64]:
        """Return the width of one cell along every coordinate, in search units: (D,)."""
        return np.tile(1 / self.sizes, self.num_classes * self.pixels)

    def decode(self, x: NDArray[np.float64]) -> Perturbation:
        """Return the perturbation of a vector x (D,) in [0, 1]."""
        genes = np.asarray(x, dtype=np.float64).reshape(self.num_classes, self.pixels, len(self.sizes))
        assert ((genes >= 0) & (genes <= 1)).all(), "the strategy keeps its bounds"
        cells = np.minimum((genes * self.sizes).astype(np.int64), self.sizes - 1)
        low, _ = MODES[self.mode]
        shape = (self.num_classes, self.pixels, self.image_shape[0])
        values = cells[..., 2:] + low if self.value is None else np.full(shape, self.value)
        places, values = self._separate(genes[..., :2] * self.sizes[:2], cells[..., :2], values)
        return Perturbation(
            rows=places[..., 0],
            cols=places[..., 1],
            values=values,
            mode=self.mode,
            image_shape=self.image_shape,
        )

    def encode(self, perturbation: Perturbation) -> NDArray[np.float64]:
        """Return the vector (D,) at the middle of the perturbation's cells.

        `decode` gives the perturbation back, but for pixels that collide and that it repairs.

        Raises:
            InputError: a perturbation of another shape, class count, N_p, mode or fixed value.
        """
        perturbation.check_fits(self.image_shape, self.num_classes)
        if (perturbation.pixels, perturbation.mode) != (self.pixels, self.mode):
            raise InputError(
                f"cannot start from {perturbation.pixels} pixels in mode {perturbation.mode!r}: "
                f"the search has {self.pixels} in mode {self.mode!r}"
            )
        if self.value is not None and (perturbation.values != self.value).any():
            raise InputError(f"cannot start from a perturbation with other values than the fixed value {self.value}")
        cells = [perturbation.rows[..., None], perturbation.cols[..., None]]
        if self.value is None:
            cells.append(perturbation.values.astype(np.int64) - MODES[self.mode][0])
        return ((np.concatenate(cells, axis=2) + 0.5) / self.sizes).ravel()

    def _separate(
        self, points: NDArray[np.float64], places: NDArray[np.int64], values: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Move pixels that collide with an earlier one to the nearest free place; the first comer stays."""
        places, values = places.copy(), values.copy()
        taken: set[tuple[int, ...]] = set()
        for k in range(self.num_classes):
            own: set[tuple[int, ...]] = set()
            for j in range(self.pixels):
                for place, value in self._nearest(points[k, j], places[k, j], values[k, j]):
                    if place not in own and (*place, *value) not in taken:
                        break
                own.add(place)
                if self.collisions == "repair":
                    taken.add((*place, *value))
                places[k, j], values[k, j] = place, value
        return places, values

    def _nearest(
        self, point: NDArray[np.float64], place: NDArray[np.int64], value: NDArray[np.int64]
    ) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Yield (place, value): the pixel itself, the others by distance, then the same with values one off, ..."""
        own_value = tuple(value.tolist())
        yield tuple(place.tolist()), own_value
        _, height, width = self.image_shape
        grid = np.indices((height, width)).reshape(2, -1).T
        order = np.argsort(((grid + 0.5 - point) ** 2).sum(axis=1), kind="stable")
        near = [tuple(cell) for cell in grid[order].tolist()]
        for cell in near:
            yield cell, own_value
        low, high = MODES[self.mode]
        for step in range(1, high - low + 1 if self.value is None else 1):
            for shifted in (value - step, value + step):
                for cell in near:
                    yield cell, tuple(np.clip(shifted, low, high).tolist())

"""OPS, the One-Pixel Shortcut (Wu et al., ICLR 2023, arXiv 2205.12141): the strongest published rival at N_p = 1.

For each class, exhaustively over places p and colours xi in {0, 1}^C, the pixel whose distance from the class's images
d(x) = |x(p) - xi| is large and varies little. Three scores are in circulation, and they pick different pixels:

    paper      mean d / var d     d summed over channels, statistics over images (eq. 2)
    reference  mean d / std d     statistics over images and channels together (the authors' code, APBench)
    art        mean d - var d     d averaged over channels, statistics over images (Adversarial Robustness Toolbox)

All three follow from each class's sums and products of channels, taken once, in whole numbers: equal scores are equal
bit for bit. The ratios get an epsilon, or every constant pixel (the black border of MNIST) would be infinite; of equals
the first wins, by row, then column, then colour. Several pixels are the best candidates at different places.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mddes.data import ImageSet
from mddes.errors import InputError, look_up
from mddes.poison.perturbation import Perturbation, check_pixels

EPSILON = 1e-8  # far below the standard deviation that one 8-bit step in one of a million images makes (4e-6)
CHUNK = 4096  # images at a time

Whole = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class _Moments:
    """Of one class: n images; sums (C, P) and products (C, C, P) of their channels at P places, in 0..255."""

    count: int
    sums: Whole
    products: Whole

    def first(self, colours: Whole) -> Whole:
        """Return the sum over images and channels of 255 d for every colour: (2^C, P)."""
        signs = 1 - 2 * colours
        return np.asarray(255 * self.count * colours.sum(1)[:, None] + signs @ self.sums)

    def variance_of_sum(self, colours: Whole) -> Whole:
        """Return n^2 times the variance over images of 255 d summed over channels: (2^C, P)."""
        signs = 1 - 2 * colours
        covariance = self.count * self.products - self.sums[:, None] * self.sums[None]
        return np.asarray(np.einsum("kc,kd,cdp->kp", signs, signs, covariance))

    def second(self, colours: Whole) -> Whole:
        """Return the sum over images and channels of (255 d)^2: (2^C, P)."""
        squares = np.einsum("ccp->cp", self.products)
        turned = 255**2 * self.count - 510 * self.sums + squares
        return np.asarray((1 - colours) @ squares + colours @ turned)


def _paper(moments: _Moments, colours: Whole) -> Scores:
    scale = 255 * moments.count
    mean = moments.first(colours) / scale
    variance = moments.variance_of_sum(colours) / scale**2
    return np.asarray(mean / (variance + EPSILON))


def _reference(moments: _Moments, colours: Whole) -> Scores:
    many = moments.count * colours.shape[1]
    first = moments.first(colours)
    std = np.sqrt(many * moments.second(colours) - first**2) / (255 * many)
    return np.asarray(first / (255 * many) / (std + EPSILON))


def _art(moments: _Moments, colours: Whole) -> Scores:
    scale = 255 * moments.count * colours.shape[1]
    return np.asarray(moments.first(colours) / scale - moments.variance_of_sum(colours) / scale**2)


# score -> (function, whether a place and colour that an earlier class uses is skipped)
SCORES: dict[str, tuple[Callable[[_Moments, Whole], Scores], str]] = {
    "reference": (_reference, "skip"),
    "paper": (_paper, "allow"),
    "art": (_art, "allow"),
}
COLLISIONS = ("skip", "allow")


def one_pixel_shortcut(
    images: ImageSet, *, pixels: int = 1, score: str = "reference", collisions: str | None = None
) -> Perturbation:
    """Return the One-Pixel Shortcut of a training set, mode "set", colours 0 or 255 per channel.

    Args:
        images: the training set; every class must occur.
        pixels: N_p, 1 .. H * W; the best candidates of each class at different places.
        score: "reference", "paper" or "art".
        collisions: "skip" a place and colour that an earlier class has, or "allow" it; default what the source of the
            score does: reference skips, paper and art allow.

    Raises:
        InputError: an unknown name, a class without images, or too many pixels.

    >>> from mddes.data import load_dataset
    >>> one_pixel_shortcut(load_dataset("digits").train)
    Perturbation(1 pixels x 10 classes, set, (1, 8, 8))
    """
    check_pixels(pixels, images.shape)
    scored, usual = look_up("score", score, SCORES)
    rule = usual if collisions is None else collisions
    look_up("collision rule", rule, dict.fromkeys(COLLISIONS))
    if empty := np.flatnonzero(images.class_counts() == 0).tolist():
        raise InputError(f"classes {empty} have no training image: a shortcut cannot be found for them")
    channels, _, width = images.shape
    colours = np.array(list(itertools.product((0, 1), repeat=channels)))  # (2^C, C)
    taken: set[int] = set()
    chosen = []
    for k in range(images.num_classes):
        ranking = scored(_moments(images, k), colours).T.ravel()  # place by place, colour by colour
        own = list(itertools.islice(_best(ranking, len(colours), taken if rule == "skip" else set()), pixels))
        if len(own) < pixels:
            raise InputError(f"class {k} has no {pixels} pixels left that no earlier class uses")
        taken.update(own)
        chosen.append(own)
    places, which = np.divmod(np.array(chosen), len(colours))
    rows, cols = np.divmod(places, width)
    provenance = {"method": "one-pixel-shortcut", "score": score, "collisions": rule, "data": images.digest()}
    return Perturbation(
        rows=rows,
        cols=cols,
        values=255 * colours[which],
        mode="set",
        image_shape=images.shape,
        provenance=provenance,
    )


def _moments(images: ImageSet, label: int) -> _Moments:
    """Return the sums and products of a class's images, exactly: partial sums stay far below 2^53."""
    channels, height, width = images.shape
    chosen = np.flatnonzero(images.labels == label)
    sums = np.zeros((channels, height * width), dtype=np.int64)
    products = np.zeros((channels, channels, height * width), dtype=np.int64)
    for begin in range(0, len(chosen), CHUNK):
        x = images.images[chosen[begin : begin + CHUNK]].reshape(-1, channels, height * width).astype(np.float64)
        sums += x.sum(0).astype(np.int64)
        for c, d in itertools.combinations_with_replacement(range(channels), 2):
            products[c, d] += np.einsum("np,np->p", x[:, c], x[:, d]).astype(np.int64)
            products[d, c] = products[c, d]
    return _Moments(len(chosen), sums, products)


def _best(ranking: Scores, colours: int, taken: set[int]) -> Iterator[int]:
    """Yield candidates (place * 2^C + colour), best first, that are not taken, each at a place of its own."""
    places: set[int] = set()
    for candidate in np.argsort(-ranking, kind="stable").tolist():
        if candidate not in taken and candidate // colours not in places:
            places.add(candidate // colours)
            yield candidate

"""Where a network looks: Grad-CAM maps (Selvaraju et al. 2017), and what share of them lies at the poison.

A map is ReLU(sum_c w_c A_c), A_c the channels of the last convolution and w_c the mean gradient of the true class's
logit over A_c. pytorch-grad-cam computes weights and sum; its rescaling of each map to [0, 1] is left out. Maps are
brought to the images' size by bilinear interpolation. Numbers are of each image's map divided by its sum; a map that is
zero everywhere has none, and is counted.

The question (Chaudhury & Yamasaki 2020, Fig. 2b): does a network that was trained on a poison look at the background?
`compare_pair` trains a clean and a poisoned network from the same initial weights and compares them on both copies of
the same test images: those of which neither network's map is zero, since which maps are zero depends on the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mddes.data import ImageSet
from mddes.errors import InputError
from mddes.poison import Perturbation
from mddes.seeding import numpy_generator
from mddes.threads import one_thread
from mddes.training import Recipe, accuracy, train
from mddes.training.predict import scaled

BATCH = 100
DIGITS = 4  # of the maps that a record keeps
Maps = NDArray[np.float64]


def last_convolution(model: nn.Module, images: ImageSet) -> nn.Module:
    """Return the convolution that is computed last for an image.

    Raises:
        InputError: the network has none.
    """
    found: list[nn.Module] = []
    hooks = [m.register_forward_hook(lambda m, _x, _y: found.append(m)) for m in model.modules() if _is_conv(m)]
    device, training = next(model.parameters()).device, model.training
    with torch.no_grad():
        model.eval()(scaled(torch.tensor(images.images[:1]).to(device)))
    model.train(training)
    for hook in hooks:
        hook.remove()
    if not found:
        raise InputError("Grad-CAM needs a network with a convolution, and this one has none")
    return found[-1]


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def gradcam(model: nn.Module, images: ImageSet, layer: nn.Module | None = None) -> Maps:
    """Return the raw Grad-CAM maps of the images for their own labels: (N, h, w), h x w the layer's size, 0 or more.

    Args:
        model: takes pixels (B, C, H, W) in [0, 1]; its mode, weights and gradients are left as they were.
        images: uint8 images and the labels whose logit is explained.
        layer: a convolution; default the last.

    Raises:
        InputError: no convolution.
    """
    from pytorch_grad_cam import GradCAM  # takes seconds, and few commands need it

    layer = layer or last_convolution(model, images)
    device, training = next(model.parameters()).device, model.training
    before = [p.grad for p in model.parameters()]
    model.zero_grad()  # to none: what is there is not added to
    parts: list[Maps] = []
    with one_thread(), GradCAM(model, [layer]) as cam:
        for i in range(0, len(images), BATCH):
            x = scaled(torch.tensor(images.images[i : i + BATCH]).to(device))
            y = torch.tensor(images.labels[i : i + BATCH]).to(device)
            outputs = cam.activations_and_grads(x)
            outputs.gather(1, y[:, None]).sum().backward()
            activations = cam.activations_and_grads.activations[0].numpy()
            gradients = cam.activations_and_grads.gradients[0].numpy()
            raw = cam.get_cam_image(x, layer, None, activations, gradients)
            parts.append(np.maximum(raw, 0).astype(np.float64))
    for p, gradient in zip(model.parameters(), before, strict=True):
        p.grad = gradient
    model.train(training)
    return np.concatenate(parts)


def enlarged(maps: Maps, height: int, width: int) -> Maps:
    """Return maps (N, h, w) at the images' size (N, H, W), bilinearly."""
    grown = F.interpolate(torch.tensor(maps)[:, None], size=(height, width), mode="bilinear", align_corners=False)
    return grown[:, 0].numpy()


@dataclass(frozen=True)
class Look:
    """Numbers of single maps, (N,) each; NaN for a map that is zero everywhere.

    Attributes:
        near: share within a radius of the poison's pixels.
        border: share on the outermost pixels.
        entropy: of the map as a distribution over pixels, over log(H W): 1 is even, 0 a single pixel.
    """

    near: NDArray[np.float64]
    border: NDArray[np.float64]
    entropy: NDArray[np.float64]


def measure(maps: Maps, near: NDArray[np.bool_], border: int) -> Look:
    """Return the numbers of maps.

    Args:
        maps: (N, H, W), 0 or more.
        near: (H, W), or (N, H, W) for a place of each map's own.
        border: how many outermost rows and columns count as border.
    """
    total = maps.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = maps / total[:, None, None]
        logs = np.where(share > 0, share * np.log(np.where(share > 0, share, 1)), 0.0).sum(axis=(1, 2))
    edge = np.ones(maps.shape[1:], dtype=bool)
    edge[border : maps.shape[1] - border, border : maps.shape[2] - border] = False
    entropy = np.where(total > 0, -logs / np.log(maps.shape[1] * maps.shape[2]), np.nan)
    return Look((share * near).sum(axis=(1, 2)), (share * edge).sum(axis=(1, 2)), entropy)


def disc(rows: Sequence[int], cols: Sequence[int], height: int, width: int, radius: float) -> NDArray[np.bool_]:
    """Return where (H, W) one of some pixels is at most `radius` away (Euclidean).

    >>> disc([0], [1], 3, 4, 1).astype(int).tolist()
    [[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    """
    y, x = np.mgrid[:height, :width]
    away = [(y - row) ** 2 + (x - col) ** 2 <= radius**2 for row, col in zip(rows, cols, strict=True)]
    found: NDArray[np.bool_] = np.any(away, axis=0)
    return found


def compare_pair(spec: Mapping[str, Any], shared: Mapping[str, NDArray[Any]], device: str) -> dict[str, Any]:
    """Train a clean and a poisoned network from the same initial weights, and measure where they look.

    Args:
        spec: model, recipe (a dict), seed, num_classes, perturbation (`Perturbation.change()`), per_class (the first so
            many test images of each class), radius, border, places (random places of the null), singles (indices of
            test images whose maps are kept).
        shared: train_images, train_labels, test_images, test_labels.
        device: "cpu" or "cuda".

    Returns:
        clean and poisoned, a dict for each network: clean_test_accuracy, poisoned_test_accuracy (on poisoned copies),
        singles, if any (copy -> (n, h, w)); and, again by name, for clean and poisoned copies of the images: near,
        null (`near` at random places), border, entropy, means over classes of the means over images; per_class, near of
        each; all of them of the images that have a map in both networks; compared, how many those are; images, of how
        many; zero, this network's maps that are zero; maps (K, h, w), for the eye: the mean of each class of all maps
        that this network has, each as a distribution, and zero where it has none.
    """
    k = spec["num_classes"]
    training = ImageSet(shared["train_images"], shared["train_labels"], k)
    whole = ImageSet(shared["test_images"], shared["test_labels"], k)
    chosen = [np.flatnonzero(whole.labels == c)[: spec["per_class"]] for c in range(k)]
    test = whole.subset(np.concatenate(chosen))
    singles = whole.subset(np.array(spec["singles"], dtype=int)) if spec["singles"] else None
    poison = Perturbation.from_change(spec["perturbation"])
    recipe = Recipe(**spec["recipe"])
    found: dict[str, Any] = {}
    maps: dict[str, dict[str, Maps]] = {}
    for name, perturbation in (("clean", None), ("poisoned", poison)):
        model = train(spec["model"], training, recipe, seed=spec["seed"], perturbation=perturbation, device=device)
        found[name] = {
            "clean_test_accuracy": accuracy(model, whole),
            "poisoned_test_accuracy": accuracy(model, poison.apply(whole)),
            **({"singles": _singles(model, singles, poison)} if singles else {}),
        }
        maps[name] = {"clean": gradcam(model, test), "poisoned": gradcam(model, poison.apply(test))}
    for copy in ("clean", "poisoned"):
        pair = [maps[name][copy] for name in maps]
        both = np.all([own.any(axis=(1, 2)) for own in pair], axis=0)
        for name, own in zip(maps, pair, strict=True):
            numbers = _looked(own[both], test.labels[both], poison, spec)
            counts = {"compared": int(both.sum()), "images": len(test), "zero": int((~own.any(axis=(1, 2))).sum())}
            found[name][copy] = {**numbers, **counts, "maps": _short(_mean_maps(own, test.labels, k))}
    return found


def _singles(model: nn.Module, images: ImageSet, poison: Perturbation) -> dict[str, Any]:
    copies = {"clean": images, "poisoned": poison.apply(images)}
    return {copy: _short(_as_shares(gradcam(model, own))) for copy, own in copies.items()}


def _looked(maps: Maps, labels: NDArray[Any], poison: Perturbation, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of one network on one copy of the images: maps (n, h, w), none of them zero, by label (n,)."""
    _, height, width = poison.image_shape
    grown = enlarged(maps, height, width)
    draw = numpy_generator(spec["seed"], "places")
    near, null, border, entropy = [], [], [], []
    for c in range(spec["num_classes"]):
        own = grown[labels == c]
        place = disc(poison.rows[c].tolist(), poison.cols[c].tolist(), height, width, spec["radius"])
        numbers = measure(own, place, spec["border"])
        near.append(_mean(numbers.near))
        border.append(_mean(numbers.border))
        entropy.append(_mean(numbers.entropy))
        null.append(_at_random(_as_shares(own).mean(axis=0), poison.pixels, spec, draw) if len(own) else None)
    return {
        "near": _mean(near),
        "null": _mean(null),
        "border": _mean(border),
        "entropy": _mean(entropy),
        "per_class": near,
    }


def _mean_maps(maps: Maps, labels: NDArray[Any], num_classes: int) -> Maps:
    """Return the mean (K, h, w) of each class's maps (N, h, w) that are not zero, each as a distribution."""
    seen = maps.any(axis=(1, 2))
    shares = _as_shares(maps)
    counts = [max(1, int((seen & (labels == c)).sum())) for c in range(num_classes)]
    return np.stack([shares[labels == c].sum(axis=0) / counts[c] for c in range(num_classes)])


def _at_random(shares: NDArray[np.float64], pixels: int, spec: Mapping[str, Any], draw: np.random.Generator) -> float:
    """Return the mean share of a mean map near as many pixels at uniformly drawn places."""
    height, width = shares.shape
    found = []
    for _ in range(spec["places"]):
        flat = draw.choice(height * width, pixels, replace=False)
        found.append(
            shares[disc((flat // width).tolist(), (flat % width).tolist(), height, width, spec["radius"])].sum()
        )
    return float(np.mean(found))


def _as_shares(maps: Maps) -> Maps:
    total = maps.sum(axis=(1, 2), keepdims=True)
    shares: Maps = np.divide(maps, total, out=np.zeros_like(maps), where=total > 0)
    return shares


def _mean(values: Sequence[float | None] | NDArray[np.float64]) -> float | None:
    """Return the mean of what is a number; None of nothing."""
    known = [float(v) for v in values if v is not None and not np.isnan(v)]
    return float(np.mean(known)) if known else None


def _short(maps: Maps) -> list[Any]:
    """Return maps as JSON, with a few digits: they are for the eye."""
    return [[[float(f"{v:.{DIGITS}g}") for v in row] for row in one] for one in maps]

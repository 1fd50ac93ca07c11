"""The task of a pair of solutions: train both from one initialisation, judge the line between them, measure both ends.

Both networks have the same initial weights and see the same batches in the same order; only optimizer, learning rate
and how long they train differ. So the line does not have to cross the permutations of units that independent networks
differ by. Read first: `interpolation.py`, `curvature.py`, `sharpness.py`, `surface.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mddes.data import ImageSet
from mddes.measures import MEASURES, Estimate
from mddes.measures.interpolation import Judged, blend, has_batch_norm, judge, recalibrate
from mddes.measures.objective import batches, cross_entropy, flat
from mddes.measures.surface import filter_normalised, slice_1d, slice_2d
from mddes.models import build
from mddes.poison import Perturbation
from mddes.seeding import numpy_generator
from mddes.threads import one_thread
from mddes.training import Recipe, train


def between(spec: Mapping[str, Any], shared: Mapping[str, NDArray[Any]], device: str) -> dict[str, Any]:
    """Train the two solutions of a pair and return what lies between and around them.

    Args:
        spec: model, recipes (two dicts), seed, num_classes, perturbation (`Perturbation.change()`, or None); images, if
            they are others' (name among the shared arrays); alphas (0 and 1 among them); line_size (images of each
            kind that the line is judged on, None for all) and measure_size (training images that the ends are measured
            on), drawn by subset_seed; measures (by a name of one's own: measure, and its settings); slice_steps and
            surface_steps (distances in filter norms, may be empty).
        shared: train_images, train_labels, test_images, test_labels.
        device: "cpu" or "cuda".

    Returns:
        Lists of two are of the ends. Along the line, with statistics recomputed where there is BatchNorm:
        line_train_loss, _accuracy (poisoned training images), line_test_loss, _accuracy (clean test images), and the
        same with raw_ in front (None without BatchNorm); None in place of a loss that is not finite. Of the ends as
        they were trained:
        train_loss, train_accuracy, test_loss, test_accuracy; a value of each measure, with _error and _details; norm
        and distance_from_init of the parameters; distance between the two; line_curvature, d'Hd / ||d||^2 along
        d = w_B - w_A; slices, and surfaces with a row for each step along the second direction.

    Raises:
        ArithmeticError: a training diverged.
    """
    training, test = _images(spec, shared)
    on_line = [chosen(images, spec["line_size"], spec["subset_seed"]) for images in (training, test)]
    measured = chosen(training, spec["measure_size"], spec["subset_seed"])
    recipes = [Recipe(**recipe) for recipe in spec["recipes"]]
    ends = [train(spec["model"], training, recipe, seed=spec["seed"], device=device) for recipe in recipes]
    with one_thread():
        judged = [[judge(network, images) for images in on_line] for network in ends]
        for recipe, (loss, _) in zip(recipes, judged, strict=True):
            if not np.isfinite(loss.loss):
                raise ArithmeticError(f"training with {recipe.optimizer} diverged: the loss is not finite")
        return {
            **_line(ends, spec["alphas"], on_line),
            **_named("train", [end[0] for end in judged]),
            **_named("test", [end[1] for end in judged]),
            **_measures(ends, measured, spec),
            **_distances(ends, training, spec, measured),
            **_slices(ends, measured, spec),
        }


def chosen(images: ImageSet, size: int | None, seed: int) -> ImageSet:
    """Return so many of the images, drawn without replacement, in random order: those of a larger size come first."""
    order = numpy_generator(seed, "measured images").permutation(len(images))
    return images.subset(order[:size])


def _images(spec: Mapping[str, Any], shared: Mapping[str, NDArray[Any]]) -> tuple[ImageSet, ImageSet]:
    """Return the training images, poisoned, and the clean test images."""
    k = spec["num_classes"]
    training = ImageSet(shared[spec.get("images", "train_images")], shared["train_labels"], k)
    if spec["perturbation"]:
        training = Perturbation.from_change(spec["perturbation"]).apply(training)
    return training, ImageSet(shared["test_images"], shared["test_labels"], k)


def _line(ends: Sequence[nn.Module], alphas: Sequence[float], images: Sequence[ImageSet]) -> dict[str, Any]:
    normed = has_batch_norm(ends[0])
    raw, recomputed = [], []
    for alpha in alphas:
        network = blend(ends[0], ends[1], alpha).eval()
        raw.append([judge(network, part) for part in images])
        if normed:
            recalibrate(network, (x for x, _ in batches(network, images[0])))
            recomputed.append([judge(network, part) for part in images])
    result: dict[str, Any] = {}
    for i, name in enumerate(("train", "test")):
        result |= _named(f"line_{name}", [point[i] for point in (recomputed or raw)])
        result |= _named(f"raw_line_{name}", [point[i] for point in raw] if normed else None)
    return result


def _named(name: str, points: Sequence[Judged] | None) -> dict[str, Any]:
    if points is None:
        return {f"{name}_loss": None, f"{name}_accuracy": None}
    return {
        f"{name}_loss": [_finite(point.loss) for point in points],
        f"{name}_accuracy": [point.accuracy for point in points],
    }


def _measures(ends: Sequence[nn.Module], images: ImageSet, spec: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, settings in spec["measures"].items():
        own = {key: value for key, value in settings.items() if key != "measure"}
        found: list[Estimate] = [
            MEASURES[settings["measure"]].estimate(network, images, seed=spec["seed"], **own) for network in ends
        ]
        result[name] = [_finite(estimate.value) for estimate in found]
        result[f"{name}_error"] = [_finite(estimate.standard_error) for estimate in found]
        result[f"{name}_details"] = [{k: _finite(v) for k, v in estimate.details.items()} for estimate in found]
    return result


def _distances(
    ends: Sequence[nn.Module], training: ImageSet, spec: Mapping[str, Any], measured: ImageSet
) -> dict[str, Any]:
    mean, std = training.channel_statistics()
    start = build(spec["model"], training.shape, training.num_classes, seed=spec["seed"], mean=mean, std=std)
    first, second = (flat(list(network.parameters())) for network in ends)
    initial = flat(list(start.parameters())).to(first.device)
    apart = float((second - first).norm())
    curvatures: list[float | None] = []
    for network in ends:
        objective = cross_entropy(network, measured)
        along = flat([p for p in ends[1].parameters() if p.requires_grad])
        along -= flat([p for p in ends[0].parameters() if p.requires_grad])
        square = float(along @ along)
        curvatures.append(_finite(float(along @ objective.hessian_times(along)) / square) if square else None)
    return {
        "distance": apart,
        "distance_from_init": [float((end - initial).norm()) for end in (first, second)],
        "norm": [float(end.norm()) for end in (first, second)],
        "line_curvature": curvatures,
    }


def _slices(ends: Sequence[nn.Module], images: ImageSet, spec: Mapping[str, Any]) -> dict[str, Any]:
    slices, surfaces = [], []
    for network in ends:
        objective = cross_entropy(network, images)
        first, second = (filter_normalised(objective.parameters, seed=spec["seed"], number=i) for i in range(2))
        slices.append([_finite(loss) for loss in slice_1d(objective, first, spec["slice_steps"])])
        rows = slice_2d(objective, first, second, spec["surface_steps"])
        surfaces.append([[_finite(loss) for loss in row] for row in rows])
    return {"slices": slices, "surfaces": surfaces}


def _finite(number: float | torch.Tensor | None) -> float | None:
    return None if number is None or not np.isfinite(number) else float(number)

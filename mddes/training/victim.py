"""The task of a victim: train on a (poisoned) training set, judge on clean test images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mddes.data import ImageSet, split
from mddes.data.squeeze import squeeze
from mddes.poison import Perturbation
from mddes.poison.partial import apply_partly
from mddes.seeding import numpy_generator
from mddes.training.loop import train
from mddes.training.predict import accuracy, logits
from mddes.training.recipe import Recipe


def train_and_test(spec: Mapping[str, Any], shared: Mapping[str, NDArray[Any]], device: str) -> dict[str, Any]:
    """Train one victim as `spec` says and return how it does.

    Args:
        spec: model, recipe (a dict), seed, num_classes, perturbation (`Perturbation.change()`, or None for clean); and,
            if wanted: images (name of other, already poisoned training images among the shared arrays), share (of
            each class that is poisoned, 0 .. 1), squeeze (a name of `data.squeeze.SQUEEZES`), curve (True: clean test
            accuracy after every epoch), held_out (True: leave a slice of the training images out, as a search does, and
            judge on it too), checkpoints (epochs after which the network is judged as it is at the end).
        shared: train_images, train_labels, test_images, test_labels.
        device: "cpu" or "cuda".

    Returns:
        clean_test_accuracy, and per class; poisoned_train_accuracy and poisoned_train_loss (mean cross-entropy, nats)
        on what it was trained on; pixel_follow_rate: how often it predicts the class whose pixels were written on a
        test image, that class drawn uniformly from all K (None without a perturbation); with a squeeze,
        squeezed_test_accuracy on test images that went through it too; with a curve, clean_test_accuracy_by_epoch; with
        held_out, held_out_poisoned_accuracy, _loss and held_out_clean_accuracy; with checkpoints, by_epoch: a dict with
        all of it for each. Accuracies are fractions.

    Raises:
        ArithmeticError: training diverged.
    """
    images = _images(spec, shared)
    curve: list[float] = []
    checkpoints: list[dict[str, Any]] = []

    def watch(model: nn.Module, epoch: int) -> None:
        if spec.get("curve"):
            curve.append(accuracy(model, images.test))
        if epoch in spec.get("checkpoints", ()):
            checkpoints.append({"epoch": epoch, **_judged(model, spec, images)})

    recipe = Recipe(**spec["recipe"])
    model = train(spec["model"], images.training, recipe, seed=spec["seed"], device=device, after_epoch=watch)
    result = _judged(model, spec, images)
    if spec.get("curve"):
        result["clean_test_accuracy_by_epoch"] = curve
    if spec.get("checkpoints"):
        result["by_epoch"] = checkpoints
    return result


@dataclass(frozen=True)
class _Images:
    """What a victim is trained and judged on; `held_out` and `held_out_clean` are copies of the same images."""

    training: ImageSet
    test: ImageSet
    held_out: ImageSet | None
    held_out_clean: ImageSet | None


def _images(spec: Mapping[str, Any], shared: Mapping[str, NDArray[Any]]) -> _Images:
    k, labels = spec["num_classes"], shared["train_labels"]
    training = ImageSet(shared[spec.get("images", "train_images")], labels, k)
    held_out = held_out_clean = None
    if perturbation := _perturbation(spec):
        training = apply_partly(perturbation, training, spec.get("share", 1.0), seed=spec["seed"])
    if spec.get("held_out"):
        parts = split(training)
        training, held_out = parts.train, parts.held_out
        held_out_clean = split(ImageSet(shared["train_images"], labels, k)).held_out
    if squeezed := spec.get("squeeze"):
        training = squeeze(training, squeezed)
    return _Images(training, ImageSet(shared["test_images"], shared["test_labels"], k), held_out, held_out_clean)


def _perturbation(spec: Mapping[str, Any]) -> Perturbation | None:
    return Perturbation.from_change(spec["perturbation"]) if spec["perturbation"] else None


def _judged(model: nn.Module, spec: Mapping[str, Any], images: _Images) -> dict[str, Any]:
    """Return how a network does."""
    perturbation, test = _perturbation(spec), images.test
    on_test, on_training = logits(model, test), logits(model, images.training)
    if not (on_test.isfinite().all() and on_training.isfinite().all()):
        raise ArithmeticError("training diverged: the network's outputs are not finite")
    right = (on_test.argmax(1) == torch.tensor(test.labels)).numpy()
    trained, loss = _accuracy_and_loss(on_training, images.training)
    result = {
        "clean_test_accuracy": float(right.mean()),
        "clean_test_accuracy_per_class": [
            float(right[test.labels == c].mean()) if (test.labels == c).any() else None for c in range(test.num_classes)
        ],
        "poisoned_train_accuracy": trained,
        "poisoned_train_loss": loss,
        "pixel_follow_rate": follow_rate(model, test, perturbation, spec["seed"]) if perturbation else None,
    }
    if images.held_out and images.held_out_clean:
        held, loss = _accuracy_and_loss(logits(model, images.held_out), images.held_out)
        result |= {"held_out_poisoned_accuracy": held, "held_out_poisoned_loss": loss}
        result["held_out_clean_accuracy"] = accuracy(model, images.held_out_clean)
    if squeezed := spec.get("squeeze"):
        result["squeezed_test_accuracy"] = accuracy(model, squeeze(test, squeezed))
    return result


def _accuracy_and_loss(outputs: torch.Tensor, images: ImageSet) -> tuple[float, float]:
    """Return accuracy (a fraction) and mean cross-entropy (nats) of logits (N, K)."""
    labels = torch.tensor(images.labels)
    right = (outputs.argmax(1) == labels).double().mean()
    return float(right), float(F.cross_entropy(outputs.double(), labels))


def follow_rate(model: nn.Module, images: ImageSet, perturbation: Perturbation, seed: int) -> float:
    """Return how often the model predicts the class whose pixels it is shown.

    Each image gets the pixels of a class drawn uniformly from all K, its own included: a network that ignores them
    scores 1 / K, one that sees nothing else 1 (the diagnostic of Wu et al. 2023).
    """
    drawn = numpy_generator(seed, "follow").integers(0, images.num_classes, len(images))
    shown = perturbation.apply(ImageSet(images.images, drawn.astype(np.int64), images.num_classes))
    return accuracy(model, shown)

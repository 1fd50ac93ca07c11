"""The task of a victim: train on a (poisoned) training set, judge on clean test images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mddes.data import ImageSet
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
            accuracy after every epoch).
        shared: train_images, train_labels, test_images, test_labels.
        device: "cpu" or "cuda".

    Returns:
        clean_test_accuracy, and per class; poisoned_train_accuracy and poisoned_train_loss (mean cross-entropy, nats)
        on what it was trained on; pixel_follow_rate: how often it predicts the class whose pixels were written on a
        test image, that class drawn uniformly from all K (None without a perturbation); with a squeeze,
        squeezed_test_accuracy on test images that went through it too; with a curve, clean_test_accuracy_by_epoch.
        Accuracies are fractions.

    Raises:
        ArithmeticError: training diverged.
    """
    k = spec["num_classes"]
    training = ImageSet(shared[spec.get("images", "train_images")], shared["train_labels"], k)
    test = ImageSet(shared["test_images"], shared["test_labels"], k)
    perturbation = Perturbation.from_change(spec["perturbation"]) if spec["perturbation"] else None
    if perturbation:
        training = apply_partly(perturbation, training, spec.get("share", 1.0), seed=spec["seed"])
    if squeezed := spec.get("squeeze"):
        training = squeeze(training, squeezed)
    curve: list[float] = []

    def watch(model: nn.Module, _epoch: int) -> None:
        if spec.get("curve"):
            curve.append(accuracy(model, test))

    recipe = Recipe(**spec["recipe"])
    model = train(spec["model"], training, recipe, seed=spec["seed"], device=device, after_epoch=watch)
    on_test, on_training = logits(model, test), logits(model, training)
    if not (on_test.isfinite().all() and on_training.isfinite().all()):
        raise ArithmeticError("training diverged: the network's outputs are not finite")
    right = (on_test.argmax(1) == torch.tensor(test.labels)).numpy()
    labels = torch.tensor(training.labels)
    result = {
        "clean_test_accuracy": float(right.mean()),
        "clean_test_accuracy_per_class": [
            float(right[test.labels == c].mean()) if (test.labels == c).any() else None for c in range(k)
        ],
        "poisoned_train_accuracy": float((on_training.argmax(1) == labels).double().mean()),
        "poisoned_train_loss": float(F.cross_entropy(on_training.double(), labels)),
        "pixel_follow_rate": follow_rate(model, test, perturbation, spec["seed"]) if perturbation else None,
    }
    if squeezed:
        result["squeezed_test_accuracy"] = accuracy(model, squeeze(test, squeezed))
    return {**result, "clean_test_accuracy_by_epoch": curve} if spec.get("curve") else result


def follow_rate(model: nn.Module, images: ImageSet, perturbation: Perturbation, seed: int) -> float:
    """Return how often the model predicts the class whose pixels it is shown.

    Each image gets the pixels of a class drawn uniformly from all K, its own included: a network that ignores them
    scores 1 / K, one that sees nothing else 1 (the diagnostic of Wu et al. 2023).
    """
    drawn = numpy_generator(seed, "follow").integers(0, images.num_classes, len(images))
    shown = perturbation.apply(ImageSet(images.images, drawn.astype(np.int64), images.num_classes))
    return accuracy(model, shown)

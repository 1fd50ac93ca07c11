"""The task of a victim: train on a (poisoned) training set, judge on clean test images."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from mddes.data import ImageSet
from mddes.poison import Perturbation
from mddes.training.loop import accuracy, train
from mddes.training.recipe import Recipe


def train_and_test(spec: Mapping[str, Any], shared: Mapping[str, NDArray[Any]], device: str) -> dict[str, Any]:
    """Train one victim as `spec` says and return its accuracies.

    Args:
        spec: model, recipe (a dict), seed, num_classes, perturbation (`Perturbation.change()`, or None for clean).
        shared: train_images, train_labels, test_images, test_labels.
        device: "cpu" or "cuda".

    Returns:
        clean_test_accuracy, and poisoned_train_accuracy on the (poisoned) training set; fractions.
    """
    training = ImageSet(shared["train_images"], shared["train_labels"], spec["num_classes"])
    test = ImageSet(shared["test_images"], shared["test_labels"], spec["num_classes"])
    if spec["perturbation"] is not None:
        training = Perturbation.from_change(spec["perturbation"]).apply(training)
    model = train(spec["model"], training, Recipe(**spec["recipe"]), seed=spec["seed"], device=device)
    return {
        "clean_test_accuracy": accuracy(model, test),
        "poisoned_train_accuracy": accuracy(model, training),
    }

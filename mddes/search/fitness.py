"""The fitness of one candidate: train a network on the poisoned data, then F = w_m F_m + w_d F_d (maximised).

F_m is the semantic mismatch, F_d the domain divergence of `divergence.py` (Chaudhury & Yamasaki 2020, section 3.3).
Both are measured on the held-out slice of the training set; a search has no test images. `evaluate` is the task
that a pool runs, here or on a worker; `evaluation.py` makes such tasks. Read next: `driver.py`, which asks for them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mddes.data import ImageSet
from mddes.poison import Perturbation
from mddes.search.divergence import discriminator_error, domain_divergence
from mddes.training import Recipe, logits, train

LOSS_CLIP = 10.0  # nats per image: one confidently wrong image must not outweigh F_d


def gap(clean: torch.Tensor, poisoned: torch.Tensor, labels: torch.Tensor) -> float:
    """Return mean CE(F(x), y) - mean CE(F(x_p), y): the generalization gap of equation 1. Logits (N, K)."""
    return _loss(clean, labels) - _loss(poisoned, labels)


def mismatch(clean: torch.Tensor, poisoned: torch.Tensor, _labels: torch.Tensor) -> float:
    """Return mean CE of F(x) against the class predicted on x_p."""
    return _loss(clean, poisoned.argmax(1))


def clean_ce(clean: torch.Tensor, _poisoned: torch.Tensor, labels: torch.Tensor) -> float:
    """Return mean CE(F(x), y)."""
    return _loss(clean, labels)


MISMATCHES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], float]] = {
    "gap": gap,
    "mismatch": mismatch,
    "clean_ce": clean_ce,
}


def evaluate(spec: Mapping[str, Any], shared: Mapping[str, NDArray[Any]], device: str) -> dict[str, Any]:
    """Train on the poisoned data and score the poison.

    Args:
        spec: perturbation (`Perturbation.change()`), seed, model, recipe (a dict), mismatch (a name of `MISMATCHES`),
            w_m, w_d, discriminator (a name of `DISCRIMINATORS`).
        shared: train_images, train_labels, held_out_images, held_out_labels.
        device: "cpu" or "cuda".

    Returns:
        fitness; semantic_mismatch (F_m) and every reading of it (gap, mismatch, clean_ce: nats, per-image loss
        clipped at 10); domain_divergence (F_d), discriminator_error (eps), proxy_a_distance, all None when w_d is 0;
        clean_accuracy and poisoned_accuracy on the held-out slice, and the clean one per class.

    Raises:
        ArithmeticError: training diverged.
    """
    perturbation = Perturbation.from_change(spec["perturbation"])
    k = perturbation.num_classes
    training = ImageSet(shared["train_images"], shared["train_labels"], k)
    clean = ImageSet(shared["held_out_images"], shared["held_out_labels"], k)
    poisoned = perturbation.apply(clean)
    recipe = Recipe(**spec["recipe"])
    model = train(spec["model"], training, recipe, seed=spec["seed"], perturbation=perturbation, device=device)
    on_clean, on_poisoned = logits(model, clean), logits(model, poisoned)
    if not (on_clean.isfinite().all() and on_poisoned.isfinite().all()):
        raise ArithmeticError("training diverged: the network's outputs are not finite")
    labels = torch.tensor(clean.labels)
    readings = {name: reading(on_clean, on_poisoned, labels) for name, reading in MISMATCHES.items()}
    f_m, f_d, eps = readings[spec["mismatch"]], None, None
    if spec["w_d"] != 0:
        eps = discriminator_error(clean, poisoned, kind=spec["discriminator"], seed=spec["seed"], device=device)
        f_d = domain_divergence(eps)
    right = (on_clean.argmax(1) == labels).numpy()
    return {
        "fitness": spec["w_m"] * f_m + spec["w_d"] * (f_d or 0.0),
        "semantic_mismatch": f_m,
        **readings,
        "domain_divergence": f_d,
        "discriminator_error": eps,
        "proxy_a_distance": None if f_d is None else 2 * f_d,
        "clean_accuracy": float(right.mean()),
        "poisoned_accuracy": float((on_poisoned.argmax(1) == labels).double().mean()),
        "clean_accuracy_per_class": [float(np.mean(right[clean.labels == c])) for c in range(k)],
    }


def _loss(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean cross-entropy in nats, each image's clipped at 10, in float64."""
    return float(F.cross_entropy(outputs.double(), labels, reduction="none").clamp(max=LOSS_CLIP).mean())

"""How well clean and poisoned images can be told apart: the second half of the fitness.

F_d = 1 - 2 eps, where eps is the error of a discriminator between poisoned (label 0) and clean images (label 1)
(Chaudhury & Yamasaki 2020, section 3.3); the proxy A-distance is 2 (1 - 2 eps) (Ben-David et al. 2007). eps is
measured on images the discriminator has not seen: the images are cut into two halves, a clean image and its
poisoned copy always in the same one; each half is judged by a discriminator trained on the other, and the two
errors are averaged and clamped to [0, 0.5].
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mddes.data import ImageSet
from mddes.errors import look_up
from mddes.seeding import derive, numpy_generator
from mddes.threads import one_thread
from mddes.training import Recipe, logits, train

# (clean train, poisoned train, clean test, poisoned test, seed, device) -> error on the test part
HeldOutError = Callable[[ImageSet, ImageSet, ImageSet, ImageSet, int, str], float]


def domain_divergence(eps: float) -> float:
    """Return F_d = 1 - 2 eps, in [0, 1] for eps in [0, 0.5].

    >>> domain_divergence(0.5), domain_divergence(0.0)
    (0.0, 1.0)
    """
    return 1 - 2 * eps


def discriminator_error(
    clean: ImageSet, poisoned: ImageSet, *, kind: str = "linear", seed: int = 0, device: str = "cpu"
) -> float:
    """Return eps in [0, 0.5], the two-fold held-out error of a discriminator between the two sets.

    Args:
        clean, poisoned: the same images before and after poisoning, at least two, in the same order.
        kind: "linear" (logistic regression on pixels) or "cnn" (a small network; it saturates sooner).
        seed: of the halves, and of the network.
        device: where the network is trained.
    """
    held_out_error = look_up("discriminator", kind, DISCRIMINATORS)
    order = numpy_generator(seed, "discriminator halves").permutation(len(clean))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    errors = []
    for fold, (fit, judge) in enumerate((halves, halves[::-1])):
        parts = clean.subset(fit), poisoned.subset(fit), clean.subset(judge), poisoned.subset(judge)
        errors.append(held_out_error(*parts, derive(seed, "discriminator", fold), device))
    return min(sum(errors) / 2, 0.5)


def logistic_error(
    clean_train: NDArray[np.float64],
    poisoned_train: NDArray[np.float64],
    clean_test: NDArray[np.float64],
    poisoned_test: NDArray[np.float64],
) -> float:
    """Fit a logistic regression on features (n, d) and return its error on the test features.

    On unit Gaussians whose means are mu apart the error of the best linear discriminator is Phi(-mu / 2).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([clean_train, poisoned_train])
    y = np.repeat([1, 0], [len(clean_train), len(poisoned_train)])
    with one_thread(), warnings.catch_warnings():  # a limit set before scikit-learn was imported does not hold for it
        warnings.simplefilter("ignore", ConvergenceWarning)  # its held-out error is true wherever the fit stopped
        fitted = LogisticRegression(max_iter=200).fit(x, y)
    wrong = (fitted.predict(clean_test) != 1).sum() + (fitted.predict(poisoned_test) != 0).sum()
    return float(wrong) / (len(clean_test) + len(poisoned_test))


def _linear(
    clean_train: ImageSet,
    poisoned_train: ImageSet,
    clean_test: ImageSet,
    poisoned_test: ImageSet,
    _s: int,
    _d: str,
) -> float:
    parts = (clean_train, poisoned_train, clean_test, poisoned_test)
    return logistic_error(*(part.images.reshape(len(part), -1) / 255 for part in parts))


def _cnn(
    clean_train: ImageSet,
    poisoned_train: ImageSet,
    clean_test: ImageSet,
    poisoned_test: ImageSet,
    seed: int,
    device: str,
) -> float:
    model = train(_small_cnn, _labelled(clean_train, poisoned_train), CNN_RECIPE, seed=seed, device=device)
    test = _labelled(clean_test, poisoned_test)
    return float((logits(model, test).argmax(1) != torch.tensor(test.labels)).double().mean())


CNN_RECIPE = Recipe(optimizer="adam", lr=2e-3, epochs=8, batch_size=32)

DISCRIMINATORS: dict[str, HeldOutError] = {"linear": _linear, "cnn": _cnn}


def _small_cnn(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), num_classes),
    )


def _labelled(clean: ImageSet, poisoned: ImageSet) -> ImageSet:
    """Return both sets as one of two classes: poisoned 0, clean 1."""
    labels = np.repeat([1, 0], [len(clean), len(poisoned)])
    return ImageSet(np.concatenate([clean.images, poisoned.images]), labels, 2)

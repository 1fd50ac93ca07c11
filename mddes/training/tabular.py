"""The task of a multilayer perceptron on feature vectors: the setting of "Multi-Perturbation SAM" (section 4).

Its data are drawn anew (`sklearn.datasets.make_classification`) or are images laid flat; 60/20/20 for training,
validation and test, in every class alike; features standardised by the training part; training ends when the validation
loss has not fallen for some epochs, and the weights of its lowest point are judged. Data, split, initial weights, batch
order and shift depend on the seed alone, so that two optimizers of one seed differ in nothing else.

The paper's distribution shift is "added noise and modified feature correlations", no more. Here, at severity t from 0
to 1, of standardised test features x (the partner of a feature: another one, in one random cycle through all):

    x'_j = sqrt(1 - t^2) x_j + t x_partner(j) + t z_j,    z ~ N(0, 1)

Two uncorrelated features keep their variance under the first two terms, and become correlated by t sqrt(1 - t^2).
Read next: `studies/sam.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mddes.optim import make
from mddes.seeding import derive, global_draws, numpy_generator, torch_generator
from mddes.threads import one_thread
from mddes.training.recipe import Recipe

LEAST_OF_A_CLASS = 5  # three for training, one for validation, one for the test
Features = NDArray[np.float64]
Labels = NDArray[np.int64]


def train_and_test(spec: Mapping[str, Any], shared: Mapping[str, NDArray[Any]], device: str) -> dict[str, Any]:
    """Train one network as `spec` says and return how it does.

    Args:
        spec: seed; recipe (a dict; its epochs are the most there can be); patience (epochs); hidden (units of each
            hidden layer); severities of the shift; and synthetic (samples, features, informative, classes,
            separation), or None for the images.
        shared: train_images, train_labels, test_images, test_labels, pooled and split anew; not looked at for
            synthetic data.
        device: "cpu" or "cuda".

    Returns:
        test_accuracy, validation_accuracy, validation_loss (mean cross-entropy, nats), train_accuracy, all at the kept
        epoch; generalization_gap (train_accuracy - test_accuracy); shifted_accuracy for every severity; kept_epoch
        (from 1) and epochs trained; steps, and passes: forward and backward, of a batch. Accuracies are fractions.

    Raises:
        ArithmeticError: training diverged.
    """
    seed, recipe = spec["seed"], Recipe(**spec["recipe"])
    x, y = synthetic(spec["synthetic"], seed) if spec["synthetic"] else flat_images(shared)
    indices = split(y, seed)
    x = standardised(x, indices[0])
    parts, labels = [x[index] for index in indices], [torch.tensor(y[index]).to(device) for index in indices]
    training, validation, test = (torch.tensor(part, dtype=torch.float32).to(device) for part in parts)
    with one_thread():
        network = perceptron([x.shape[1], *spec["hidden"], int(y.max()) + 1], seed).to(device)
        keeper = Keeper(spec["patience"])
        passes = _fit(network, recipe, seed, (training, labels[0]), (validation, labels[1]), keeper)
        network.load_state_dict(keeper.weights)
        right = [_accuracy(network, *pair) for pair in zip((training, validation, test), labels, strict=True)]
        shifted = [
            _accuracy(network, torch.tensor(shift(parts[2], t, seed), dtype=torch.float32).to(device), labels[2])
            for t in spec["severities"]
        ]
    return {
        "test_accuracy": right[2],
        "validation_accuracy": right[1],
        "validation_loss": keeper.loss,
        "train_accuracy": right[0],
        "generalization_gap": right[0] - right[2],
        "shifted_accuracy": shifted,
        "kept_epoch": keeper.epoch,
        "epochs": keeper.seen,
        "steps": keeper.seen * math.ceil(len(training) / recipe.batch_size),
        "passes": passes,
    }


@dataclass
class Keeper:
    """Keeps the weights of the epoch with the lowest validation loss, of equal ones the first.

    Attributes:
        patience: epochs without a lower loss after which training ends.
        loss, epoch, weights: the lowest so far, its epoch (from 1), and the weights then.
        seen: epochs so far.
    """

    patience: int
    loss: float = math.inf
    epoch: int = 0
    seen: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def look(self, network: nn.Module, loss: float) -> bool:
        """Take in the next epoch's validation loss; return whether training goes on.

        Raises:
            ArithmeticError: it is not finite.
        """
        if not math.isfinite(loss):
            raise ArithmeticError("training diverged: the validation loss is not finite")
        self.seen += 1
        if loss < self.loss:
            self.loss, self.epoch = loss, self.seen
            self.weights = {name: value.clone() for name, value in network.state_dict().items()}
        return self.seen - self.epoch < self.patience


def synthetic(settings: Mapping[str, Any], seed: int) -> tuple[Features, Labels]:
    """Draw a classification of feature vectors: clusters at the corners of a hypercube, one for each class."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        n_samples=settings["samples"],
        n_features=settings["features"],
        n_informative=settings["informative"],
        n_redundant=(settings["features"] - settings["informative"]) // 2,  # linear combinations; the rest is noise
        n_classes=settings["classes"],
        n_clusters_per_class=2,
        class_sep=settings["separation"],
        random_state=derive(seed, "synthetic") % 2**32,
    )
    return x, y.astype(np.int64)


def flat_images(shared: Mapping[str, NDArray[Any]]) -> tuple[Features, Labels]:
    """Return training and test images as one: (N, C H W) in [0, 1], and their labels."""
    images = np.concatenate([shared["train_images"], shared["test_images"]])
    return images.reshape(len(images), -1) / 255, np.concatenate([shared["train_labels"], shared["test_labels"]])


def split(labels: Labels, seed: int) -> tuple[Labels, Labels, Labels]:
    """Return the indices for training, validation and test: 60, 20 and 20 % of each class, drawn by the seed.

    >>> [len(part) for part in split(np.repeat([0, 1], 50), seed=0)]
    [60, 20, 20]
    """
    random = numpy_generator(seed, "split")
    parts: tuple[list[Labels], ...] = ([], [], [])
    for k in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == k))
        fifth = round(len(own) / 5)
        for part, chosen in zip(parts, np.split(own, [len(own) - 2 * fifth, len(own) - fifth]), strict=True):
            part.append(chosen)
    training, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return training, validation, test


def standardised(x: Features, training: Labels) -> Features:
    """Return features of mean 0 and standard deviation 1 over the training part; constant ones are only centred."""
    mean, std = x[training].mean(axis=0), x[training].std(axis=0)
    own: Features = (x - mean) / np.where(std > 0, std, 1.0)
    return own


def shift(x: Features, severity: float, seed: int) -> Features:
    """Return standardised features (N, D) under the distribution shift; severity 0 changes nothing."""
    random = numpy_generator(seed, "shift")
    cycle = random.permutation(x.shape[1])
    partner = np.empty_like(cycle)
    partner[cycle] = np.roll(cycle, 1)
    noise = random.standard_normal(x.shape)
    shifted: Features = math.sqrt(1 - severity**2) * x + severity * x[:, partner] + severity * noise
    return shifted


def perceptron(sizes: Sequence[int], seed: int) -> nn.Sequential:
    """Return a network of linear layers with ReLU between them, its initial weights a pure function of the seed."""
    with global_draws(derive(seed, "weights")):  # layers initialise themselves from the global generator
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def _fit(
    network: nn.Module,
    recipe: Recipe,
    seed: int,
    training: tuple[torch.Tensor, torch.Tensor],
    validation: tuple[torch.Tensor, torch.Tensor],
    keeper: Keeper,
) -> int:
    """Train until the keeper has seen enough; return how often a batch went through the network and back."""
    assert recipe.lr is not None
    optimizer = make(
        recipe.optimizer,
        network.parameters(),
        recipe.lr,
        recipe.weight_decay,
        rho=recipe.rho,
        perturbations=recipe.perturbations,
        seed=derive(seed, "perturbations"),
    )
    x, y = training
    order, passes = torch_generator(seed, "batches"), 0
    for _ in range(recipe.epochs):
        for batch in torch.split(torch.randperm(len(x), generator=order).to(x.device), recipe.batch_size):
            inputs, targets = x[batch], y[batch]

            def closure(inputs: torch.Tensor = inputs, targets: torch.Tensor = targets) -> torch.Tensor:
                nonlocal passes
                passes += 1
                optimizer.zero_grad()
                loss = F.cross_entropy(network(inputs), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            optimizer.step(closure)  # type: ignore[arg-type]
        with torch.no_grad():
            loss = float(F.cross_entropy(network(validation[0]).double(), validation[1]))
        if not keeper.look(network, loss):
            break
    return passes


@torch.no_grad()
def _accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float((network(x).argmax(1) == y).double().mean())

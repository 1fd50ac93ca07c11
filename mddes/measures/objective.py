"""The mean loss as a function of the weights: its value, gradient and Hessian-vector products, summed in float64.

L(w) = 1/n sum_i l_i(w) over a fixed measurement set: no shuffling, no augmentation, every image counted once (never a
mean of batch means). Hv is the gradient of <grad L, v>, by differentiating twice. Read next: `curvature.py`,
`sharpness.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mddes.data import ImageSet
from mddes.training.predict import scaled

BATCH = 128  # images at a time; small ones stay in the processor's cache


@dataclass(frozen=True)
class Objective:
    """A mean loss.

    Attributes:
        parameters: the weights that it is a function of, as they are now.
        parts: sums of the loss over parts of the measurement set, each a differentiable scalar.
        n: the number of terms in all parts together.
    """

    parameters: Sequence[torch.Tensor]
    parts: Callable[[], Iterator[torch.Tensor]]
    n: int

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum(parameter.numel() for parameter in self.parameters)

    def value(self) -> float:
        """Return L at the weights."""
        with torch.no_grad():
            return sum(float(part) for part in self.parts()) / self.n

    def gradient(self) -> torch.Tensor:
        """Return grad L: (size,) float64."""
        total = self._zeros()
        with torch.enable_grad():
            for part in self.parts():
                total += flat(self._gradients(part, self.parameters))
        return total / self.n

    def hessian_times(self, vector: torch.Tensor) -> torch.Tensor:
        """Return Hv at the weights: (size,) float64, of a vector (size,)."""
        pieces = unflat(vector, self.parameters)
        total = self._zeros()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # other kernels of attention have no second derivative
            for part in self.parts():
                slopes = self._gradients(part, self.parameters, create_graph=True)
                along = torch.stack([(g * v).sum() for g, v in zip(slopes, pieces, strict=True)]).sum()
                total += flat(self._gradients(along, self.parameters))
        return total / self.n

    def _zeros(self) -> torch.Tensor:
        return torch.zeros(self.size, dtype=torch.float64, device=self.parameters[0].device)

    @staticmethod
    def _gradients(
        of: torch.Tensor, parameters: Sequence[torch.Tensor], *, create_graph: bool = False
    ) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(of, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True)


def cross_entropy(model: nn.Module, images: ImageSet, batch_size: int = BATCH) -> Objective:
    """Return the mean cross-entropy (nats) of a model as a function of its trainable parameters.

    Args:
        model: takes pixels (B, C, H, W) in [0, 1], returns logits (B, K); in evaluation mode.
        images: the measurement set.
        batch_size: images at a time; no part of the result, but for its last digits.
    """

    def parts() -> Iterator[torch.Tensor]:
        for x, y in batches(model, images, batch_size):
            yield F.cross_entropy(model(x).double(), y, reduction="sum")

    return Objective([p for p in model.parameters() if p.requires_grad], parts, len(images))


def batches(model: nn.Module, images: ImageSet, batch_size: int = BATCH) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield pixels (B, C, H, W) in [0, 1] and labels (B,), in order, on the model's device and in its precision."""
    weights = next(model.parameters())
    for i in range(0, len(images), batch_size):
        x, y = (torch.tensor(part[i : i + batch_size]).to(weights.device) for part in (images.images, images.labels))
        yield scaled(x).to(weights.dtype), y


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return all numbers of the tensors, one after the other: (size,) float64."""
    return torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors])


def unflat(vector: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the parts of a vector, in the shapes and the precision of the tensors."""
    parts = torch.split(vector, [tensor.numel() for tensor in like])
    return [part.view(tensor.shape).to(tensor) for part, tensor in zip(parts, like, strict=True)]


@contextmanager
def displaced(parameters: Sequence[torch.Tensor], by: torch.Tensor) -> Iterator[None]:
    """Have weights w + d in the body, rounded once from float64; bit for bit as they were afterwards."""
    before = [parameter.detach().clone() for parameter in parameters]
    moved = unflat(flat(before) + by, before)
    try:
        with torch.no_grad():
            for parameter, there in zip(parameters, moved, strict=True):
                parameter.copy_(there)
        yield
    finally:
        with torch.no_grad():
            for parameter, there in zip(parameters, before, strict=True):
                parameter.copy_(there)

"""Randomness derived from (root seed, purpose, indices); torch's global stream is put back wherever it must be used.

A seed depends only on what it is for, so a task computes the same numbers in this process, on a Ray worker, in a
fused population and after a resume. Example: the training seed of generation 3 is `derive(root, "train", 3)`.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(root: int, purpose: str, *indices: int) -> int:
    """Return a seed in [0, 2**63) that is a pure function of the arguments.

    >>> derive(0, "train", 3) == derive(0, "train", 3)
    True
    >>> len({derive(0, "train", 3), derive(0, "train", 4), derive(0, "split", 3), derive(1, "train", 3)})
    4
    """
    text = "/".join([str(root), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(root: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return a NumPy generator seeded by `derive(root, purpose, *indices)`."""
    return np.random.default_rng(derive(root, purpose, *indices))


def torch_generator(root: int, purpose: str, *indices: int) -> torch.Generator:
    """Return a CPU torch generator seeded by `derive(root, purpose, *indices)`."""
    return torch.Generator().manual_seed(derive(root, purpose, *indices))


@contextmanager
def global_draws(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global streams for a while, and put them back as they were.

    For what draws from nowhere else: initial weights of layers, dropout, torchvision's augmentations. The seed is one
    that was derived for this purpose, or drawn from its generator.

    >>> with global_draws(3):
    ...     first = torch.rand(2)
    >>> with global_draws(3):
    ...     assert torch.equal(torch.rand(2), first)
    """
    where = torch.device(device)
    gpus = [] if where.type != "cuda" else [torch.cuda.current_device() if where.index is None else where.index]
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(seed)
        yield

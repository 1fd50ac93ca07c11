"""Adversarial training (Madry et al. 2018): every batch is replaced by its PGD images before the step."""

import torch
from torch import nn

from mddes.attacks import pgd
from mddes.seeding import torch_generator

STEPS = 7
STEP_SHARE = 1 / 4  # of epsilon: 2/255 for 8/255


class Adversary:
    """PGD in the L-infinity ball of a radius, from random starts, against the network in evaluation mode.

    Evaluation mode keeps the attack's batches out of BatchNorm's statistics. A radius of 0 changes nothing.
    """

    def __init__(self, epsilon: float, seed: int) -> None:
        self.epsilon, self.draw = epsilon, torch_generator(seed, "adversary")

    def __call__(self, network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return x (B, C, H, W) in [0, 1], moved to where the network does worst on y."""
        if self.epsilon == 0:
            return x
        network.eval()
        moved = pgd(network, x, y, self.epsilon, step=STEP_SHARE * self.epsilon, steps=STEPS, generator=self.draw)
        network.train()
        return moved.contiguous(memory_format=torch.channels_last)

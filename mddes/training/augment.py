"""Random augmentation of a batch, after it was poisoned: a poison is in the data, augmentation is the victim's.

Named parts are applied in the order in which they are given. Crops, flips and Cutout are drawn for each image;
RandAugment, Mixup and CutMix are torchvision's, at its defaults (2 operations of magnitude 9; Beta(1, 1)). Mixing makes
labels soft, and comes last. All randomness comes from the seed: the same recipe and seed give the same batches.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from mddes.errors import InputError, look_up
from mddes.seeding import global_draws, torch_generator

PADDING = 4

Part = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def crop(x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Pad (B, C, H, W) with 4 zeros on each side, and cut a random H x W window out of each image."""
    count, _, height, width = x.shape
    padded = F.pad(x, (PADDING,) * 4)
    down, right = torch.randint(2 * PADDING + 1, (2, count), generator=draw).to(x.device)
    rows = (down[:, None] + torch.arange(height, device=x.device))[:, :, None]
    cols = (right[:, None] + torch.arange(width, device=x.device))[:, None, :]
    everyone = torch.arange(count, device=x.device)[:, None, None]
    return padded[everyone, :, rows, cols].permute(0, 3, 1, 2)


def flip(x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Mirror each image left to right with probability one half."""
    chosen = (torch.rand(len(x), generator=draw) < 0.5).to(x.device)
    return torch.where(chosen[:, None, None, None], x.flip(3), x)


def cutout(x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Blacken a square of half the height around a random pixel of each image (DeVries & Taylor 2017)."""
    count, _, height, width = x.shape
    half = height // 4
    row = torch.randint(height, (count, 1), generator=draw).to(x.device)
    col = torch.randint(width, (count, 1), generator=draw).to(x.device)
    in_rows = (torch.arange(height, device=x.device) - row + half).clamp(-1, 2 * half)
    in_cols = (torch.arange(width, device=x.device) - col + half).clamp(-1, 2 * half)
    rows, cols = (in_rows >= 0) & (in_rows < 2 * half), (in_cols >= 0) & (in_cols < 2 * half)
    return x.masked_fill((rows[:, :, None] & cols[:, None, :])[:, None], 0)


def randaugment(x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Apply torchvision's RandAugment to each image."""
    with global_draws(_next_seed(draw)):
        operations = v2.RandAugment()
        return torch.stack([operations(image) for image in x])


PARTS: dict[str, Part] = {"crop": crop, "flip": flip, "cutout": cutout, "randaugment": randaugment}
MIXING: dict[str, type[v2.MixUp] | type[v2.CutMix]] = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
AUGMENTATIONS = (*PARTS, *MIXING)


def check_augmentation(names: Sequence[str]) -> None:
    """Raise an `InputError` unless these are names of `AUGMENTATIONS`, each once, at most one of them mixing, last."""
    for name in names:
        look_up("augmentation", name, dict.fromkeys(AUGMENTATIONS))
    if len({*names}) < len(names):
        raise InputError(f"augmentation names a part twice: {', '.join(names)}")
    if any(name in MIXING for name in names[:-1]):
        raise InputError(f"mixup or cutmix comes last, and only one of them: {', '.join(names)}")


class Augmentation:
    """The augmentation of one training.

    Args:
        names: of `AUGMENTATIONS`.
        num_classes: K.
        seed: of the training.
    """

    def __init__(self, names: Sequence[str], num_classes: int, seed: int) -> None:
        check_augmentation(names)
        self.parts = [PARTS[name] for name in names if name in PARTS]
        self.mixed = next((MIXING[name](num_classes=num_classes) for name in names if name in MIXING), None)
        self.draw = torch_generator(seed, "augmentation")

    def pixels(self, x: torch.Tensor) -> torch.Tensor:
        """Return a batch (B, C, H, W) uint8, augmented image by image."""
        for part in self.parts:
            x = part(x, self.draw)
        return x

    def mix(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float pixels (B, C, H, W) and targets: labels (B,), or probabilities (B, K) where images are mixed."""
        if self.mixed is None:
            return x, y
        with global_draws(_next_seed(self.draw)):
            pixels, targets = self.mixed(x, y)
        return pixels, targets


def _next_seed(draw: torch.Generator) -> int:
    return int(torch.randint(2**62, (1,), generator=draw))

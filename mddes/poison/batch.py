"""The same change as `Perturbation.apply`, on a batch of tensors, by label: a scatter of N_p pixels from a table."""

import torch

from mddes.poison.perturbation import Perturbation


class BatchPoison:
    """A perturbation's pixels as tensors on a device; calling it poisons one batch."""

    def __init__(self, perturbation: Perturbation, device: torch.device | str) -> None:
        self.rows = torch.tensor(perturbation.rows, device=device)
        self.cols = torch.tensor(perturbation.cols, device=device)
        self.values = torch.tensor(perturbation.values, device=device)
        self.add = perturbation.mode == "add"

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Poison `images` (B, C, H, W) uint8 in place by `labels` (B,) int64, and return it."""
        everyone = torch.arange(len(images), device=images.device)[:, None]
        at = (everyone, slice(None), self.rows[labels], self.cols[labels])  # (B, N_p, C)
        values = self.values[labels]
        if self.add:
            values = (images[at].to(torch.int16) + values).clamp(0, 255)
        images[at] = values.to(torch.uint8)
        return images

"""DenseNet-40 with growth rate 12, without bottlenecks or compression (Huang et al., CVPR 2017, section 4, CIFAR)."""

import torch
from torch import nn
from torch.nn import functional as F

from mddes.models.resnet import initialised

GROWTH, FIRST, LAYERS = 12, 16, 12  # k; channels of the first convolution; layers in each of the three blocks


class _Layer(nn.Module):
    """BN-ReLU-Conv3x3, its k new channels appended to what it was given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.convolution = nn.Conv2d(channels, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, channels + k, H, W) of x (B, channels, H, W)."""
        return torch.cat([x, self.convolution(F.relu(self.norm(x)))], dim=1)


def densenet40(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return DenseNet-40 (k = 12).

    >>> sum(p.numel() for p in densenet40((3, 32, 32), 10).parameters())  # 1.0 M
    1019722
    """
    channels = FIRST
    layers: list[nn.Module] = [nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=False)]
    for block in range(3):
        for _ in range(LAYERS):
            layers.append(_Layer(channels))
            channels += GROWTH
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if block < 2:
            layers += [nn.Conv2d(channels, channels, 1, bias=False), nn.AvgPool2d(2)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    return initialised(nn.Sequential(*layers))

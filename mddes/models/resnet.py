"""Residual networks for small images.

ResNet-20 and ResNet-32 as He, Zhang, Ren and Sun (CVPR 2016, section 4.2) built them for CIFAR-10: 3x3 convolutions,
three stages of 16, 32 and 64 channels, shortcuts without parameters (their option A), global average pooling. ResNet-18
is torchvision's with a 3x3 stem and no pooling after it, the variant that the poisoning literature trains on CIFAR-10.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18 as torchvision_resnet18


class _Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to a shortcut without parameters."""

    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, wide, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(wide)
        self.second = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(wide)
        self.stride, self.added = stride, wide - channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, wide, H / stride, W / stride) of x (B, channels, H, W)."""
        out = F.relu(self.first_norm(self.first(x)))
        out = self.second_norm(self.second(out))
        shortcut = x[:, :, :: self.stride, :: self.stride]  # option A: every other pixel, new channels are zero
        return F.relu(out + F.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2)))


def cifar_resnet(image_shape: tuple[int, int, int], num_classes: int, *, blocks: int) -> nn.Module:
    """Return a residual network of 6 `blocks` + 2 layers.

    >>> sum(p.numel() for p in cifar_resnet((3, 32, 32), 10, blocks=3).parameters())  # ResNet-20, 0.27 M
    269722
    """
    layers: list[nn.Module] = [nn.Conv2d(image_shape[0], 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for wide in (16, 32, 64):
        for i in range(blocks):
            layers.append(_Block(channels, wide, stride=2 if i == 0 and wide > 16 else 1))
            channels = wide
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    return initialised(nn.Sequential(*layers))


def resnet18(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return ResNet-18 for small images.

    >>> sum(p.numel() for p in resnet18((3, 32, 32), 10).parameters())
    11173962
    """
    network = torchvision_resnet18(num_classes=num_classes)
    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return initialised(network)


def initialised(network: nn.Module) -> nn.Module:
    """Draw the convolutions' weights as He et al. (ICCV 2015): normal, variance 2 / fan-out. Returns the network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network

"""The two search networks of Chaudhury & Yamasaki (2020), section 4.

GrayNet is 24C3-P-48C3-P-256FC-KS, ColorNet is 32C3-32C3-P-64C3-64C3-P-128C3-128C3-P-512FC-KS: 3x3 convolutions with
same padding, 2x2 max-pooling, ReLU, and a linear layer whose softmax is part of the loss. The paper names no
BatchNorm and no dropout; BatchNorm is an option. Where a pooling follows, it stands before the ReLU: the same
function, a quarter of the work.
"""

from torch import nn


def graynet(image_shape: tuple[int, int, int], num_classes: int, *, batch_norm: bool = False) -> nn.Module:
    """Return GrayNet for images of any size from 8 x 8.

    >>> sum(p.numel() for p in graynet((1, 28, 28), 10).parameters())
    615594
    """
    return _convnet(image_shape, num_classes, blocks=((24,), (48,)), hidden=256, batch_norm=batch_norm)


def colornet(image_shape: tuple[int, int, int], num_classes: int, *, batch_norm: bool = False) -> nn.Module:
    """Return ColorNet for images of any size from 8 x 8.

    >>> sum(p.numel() for p in colornet((3, 32, 32), 10).parameters())
    1341226
    """
    return _convnet(
        image_shape, num_classes, blocks=((32, 32), (64, 64), (128, 128)), hidden=512, batch_norm=batch_norm
    )


def _convnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    blocks: tuple[tuple[int, ...], ...],
    hidden: int,
    batch_norm: bool,
) -> nn.Module:
    channels, height, width = image_shape
    layers: list[nn.Module] = []
    for block in blocks:
        for i, wide in enumerate(block):
            layers.append(nn.Conv2d(channels, wide, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(wide))
            if i == len(block) - 1:
                layers.append(nn.MaxPool2d(2))
            layers.append(nn.ReLU())
            channels = wide
        height, width = height // 2, width // 2
    layers += [
        nn.Flatten(),
        nn.Linear(channels * height * width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    ]
    return nn.Sequential(*layers)

"""GrayNet and ColorNet as the paper names them, normalisation first, weights from the seed."""

import numpy as np
import pytest
import torch
from torch import nn

from mddes import InputError
from mddes.models import MODELS, Normalize, build, colornet, graynet


def parameters_by_hand(widths: list[int], channels: int, places: int, hidden: int, classes: int) -> int:
    """Count 3x3 convolutions, then two linear layers, all with biases."""
    count = 0
    for wide in widths:
        count += 9 * channels * wide + wide
        channels = wide
    return count + channels * places * hidden + hidden + hidden * classes + classes


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (9, 30)])
@pytest.mark.parametrize("classes", [2, 10, 17])
def test_graynet_is_24c3_p_48c3_p_256fc(size: tuple[int, int], classes: int) -> None:
    net = graynet((1, *size), classes)
    places = (size[0] // 4) * (size[1] // 4)
    assert sum(p.numel() for p in net.parameters()) == parameters_by_hand([24, 48], 1, places, 256, classes)
    assert net(torch.zeros(2, 1, *size)).shape == (2, classes)


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (11, 17)])
def test_colornet_is_two_of_32_64_128_and_512fc(size: tuple[int, int]) -> None:
    net = colornet((3, *size), 10)
    places = (size[0] // 8) * (size[1] // 8)
    widths = [32, 32, 64, 64, 128, 128]
    assert sum(p.numel() for p in net.parameters()) == parameters_by_hand(widths, 3, places, 512, 10)
    assert net(torch.zeros(2, 3, *size)).shape == (2, 10)


def test_graynet_computes_what_the_paper_writes() -> None:
    """Convolution, ReLU, pooling in the textbook's order: bit for bit the same as pooling before the ReLU."""
    net = build("graynet", (1, 12, 12), 5, seed=0, mean=[0.3], std=[0.2])
    weights = dict(net.named_parameters())
    x = torch.rand(7, 1, 12, 12)
    h = (x - 0.3) / 0.2
    for i in (0, 3):
        h = nn.functional.conv2d(h, weights[f"network.{i}.weight"], weights[f"network.{i}.bias"], padding=1)
        h = nn.functional.max_pool2d(torch.relu(h), 2)
    h = torch.relu(h.flatten(1) @ weights["network.7.weight"].T + weights["network.7.bias"])
    expected = h @ weights["network.9.weight"].T + weights["network.9.bias"]
    assert torch.allclose(net(x), expected, atol=1e-6)


def test_batch_norm_is_an_option() -> None:
    assert not any(isinstance(m, nn.BatchNorm2d) for m in graynet((1, 8, 8), 2).modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in MODELS["graynet-bn"]((1, 8, 8), 2).modules()) == 2
    assert sum(isinstance(m, nn.BatchNorm2d) for m in MODELS["colornet-bn"]((3, 8, 8), 2).modules()) == 6


def test_normalisation_is_the_first_layer() -> None:
    net = build("colornet", (3, 8, 8), 4, seed=0, mean=[0.1, 0.2, 0.3], std=[1.0, 0.5, 0.25])
    first = next(net.children())
    assert isinstance(first, Normalize)
    out = first(torch.full((1, 3, 8, 8), 0.5))[0, :, 0, 0]
    assert torch.allclose(out, torch.tensor([0.4, 0.6, 0.8]))


def test_weights_are_a_function_of_the_seed_alone() -> None:
    def weights(seed: int) -> np.ndarray:
        net = build("graynet", (1, 8, 8), 4, seed=seed, mean=[0.0], std=[1.0])
        return torch.cat([p.flatten() for p in net.parameters()]).detach().numpy()

    torch.manual_seed(1)
    first = weights(7)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert np.array_equal(weights(7), first)
    assert torch.equal(before, torch.get_rng_state()), "the global generator is left alone"
    assert not np.array_equal(weights(8), first)


def test_a_user_s_own_network() -> None:
    def builder(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(image_shape)), num_classes))

    net = build(builder, (1, 8, 9), 3, seed=0, mean=[0.0], std=[1.0])
    assert net(torch.zeros(2, 1, 8, 9)).shape == (2, 3)


def test_unknown_model() -> None:
    with pytest.raises(InputError, match=r"unknown model 'greynet' .did you mean 'graynet'"):
        build("greynet", (1, 8, 8), 2, seed=0, mean=[0.0], std=[1.0])


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet20", 0.27), ("resnet32", 0.46), ("densenet40", 1.0), ("resnet18", 11.2)]
)
def test_victims_have_as_many_parameters_as_their_papers_say(name: str, millions: float) -> None:
    network = MODELS[name]((3, 32, 32), 10)
    count = sum(p.numel() for p in network.parameters())
    assert round(count / 1e6, 2 if millions < 1 else 1) == millions


@pytest.mark.parametrize(("name", "layers"), [("resnet20", 20), ("resnet32", 32), ("densenet40", 40), ("resnet18", 18)])
def test_victims_have_as_many_layers_as_their_names_say(name: str, layers: int) -> None:
    """Convolutions on the way (not the projections of shortcuts) and the last linear layer."""
    modules = dict(MODELS[name]((3, 32, 32), 10).named_modules())
    counted = [key for key, m in modules.items() if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in key]
    assert len(counted) == layers


@pytest.mark.parametrize("name", ["resnet20", "densenet40", "resnet18"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 9, 13)])
def test_victims_take_images_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    net = build(name, shape, 7, seed=0, mean=[0.5] * shape[0], std=[0.2] * shape[0])
    out = net(torch.rand(4, *shape))
    assert out.shape == (4, 7)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_a_shortcut_without_parameters_is_every_other_pixel_with_new_channels_of_zero() -> None:
    """With its convolutions' last BatchNorm at zero a block is its shortcut, after a ReLU (He et al., option A)."""
    from mddes.models.resnet import _Block

    block = _Block(4, 8, stride=2)
    nn.init.zeros_(block.second_norm.weight)
    x = torch.rand(2, 4, 6, 8)
    out = block(x)
    assert out.shape == (2, 8, 3, 4)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 6:].any()


def test_a_dense_layer_keeps_what_it_was_given() -> None:
    from mddes.models.densenet import GROWTH, _Layer

    x = torch.rand(2, 5, 6, 6)
    out = _Layer(5)(x)
    assert out.shape == (2, 5 + GROWTH, 6, 6)
    assert torch.equal(out[:, :5], x)

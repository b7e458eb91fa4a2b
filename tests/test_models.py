"""The classifiers are the known ones: their sizes by independent arithmetic, their shapes, their seeds."""

import pytest
import torch

from cmw_pipeline.config.schema import Network
from cmw_pipeline.models.registry import NETWORKS, build

NAMES = sorted(NETWORKS)


def count(name, channels=3, classes=10, width=None):
    return sum(p.numel() for p in build(Network(name=name, width=width), channels, classes, 0).parameters())


def conv(inputs, outputs, size=3):
    return inputs * outputs * size * size


def norm(channels):
    return 2 * channels


def resnet32_size(channels, classes, w):
    """A stem, then 15 blocks of two convolutions; option A shortcuts have no parameters."""
    layers = [conv(channels, w), norm(w)]
    before = w
    for width in (w, 2 * w, 4 * w):
        for block in range(5):
            first = before if block == 0 else width
            layers += [conv(first, width), norm(width), conv(width, width), norm(width)]
        before = width
    return sum(layers) + 4 * w * classes + classes


def preact18_size(channels, classes, w):
    """A stem, then 8 blocks that normalise first; 1 x 1 shortcuts where the width grows."""
    layers = [conv(channels, w), norm(w)]
    before = w
    for width in (w, 2 * w, 4 * w, 8 * w):
        for block in range(2):
            first = before if block == 0 else width
            layers += [norm(first), conv(first, width), norm(width), conv(width, width)]
            layers += [conv(first, width, 1)] if first != width else []
        before = width
    return sum(layers) + 8 * w * classes + classes


def test_resnet32_has_the_known_464154_parameters():
    assert count("resnet32") == resnet32_size(3, 10, 16) == 464_154
    assert count("resnet32", classes=100) == resnet32_size(3, 100, 16)
    assert count("resnet32", channels=1, width=4) == resnet32_size(1, 10, 4)


def test_preact_resnet18_has_the_known_11_million_parameters():
    assert count("preact-resnet18") == preact18_size(3, 10, 64) == 11_171_146 + norm(64)  # + the stem's norm
    assert count("preact-resnet18", channels=1, classes=100, width=4) == preact18_size(1, 100, 4)


def test_small_cnn_has_the_size_of_three_convolutions():
    layers = [conv(1, 32), norm(32), conv(32, 64), norm(64), conv(64, 64), norm(64), 64 * 10, 10]
    assert count("small-cnn", channels=1) == sum(layers)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "classes"), [(32, 100), (8, 10)])
@pytest.mark.parametrize("name", NAMES)
def test_any_picture_becomes_one_logit_a_class(name, side, classes, channels):
    model = build(Network(name=name, width=4), channels, classes, 0)
    images = torch.randn(3, channels, side, side)
    for training in (True, False):
        z = model.train(training)(images)
        assert z.shape == (3, classes)
        assert bool(torch.isfinite(z).all())
    assert model(images[:1]).shape == (1, classes)  # a single picture, in evaluation mode


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_every_weight_and_the_global_generator_is_left_alone(name):
    network = Network(name=name, width=4)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = build(network, 3, 10, 1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)  # whatever was drawn in between
    second, other = (build(network, 3, 10, seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    weights = [key for key, t in first.items() if t.ndim > 1]
    assert all(not torch.equal(first[key], other[key]) for key in weights)


def test_option_a_shortcuts_subsample_and_pad_with_zero_channels():
    """With its residual branch silenced, a block that halves the picture shows its bare shortcut."""
    from cmw_pipeline.models.resnet32 import BasicBlock

    block = BasicBlock(2, 6, 2).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 2, 8, 8)
    out = block(x).detach()
    assert out.shape == (1, 6, 4, 4)
    assert torch.equal(out[:, 2:4], x[:, :, ::2, ::2])
    assert float(out[:, [0, 1, 4, 5]].abs().max()) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    model = build(Network(name=name, width=4), 3, 10, 0)
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []

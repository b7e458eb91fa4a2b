"""VGG-19-BN is torchvision's, B-CNN's pooling what it is by definition; their sizes by arithmetic."""

import itertools

import numpy as np
import pytest
import torch
import torchvision
from torch._subclasses.fake_tensor import FakeTensorMode

from cmw_pipeline.config.schema import Network
from cmw_pipeline.meta.tangent import Forward
from cmw_pipeline.models.bcnn import bilinear
from cmw_pipeline.models.registry import build

VGG19 = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]
VGG16 = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]


def convolutions(widths, norm):
    """3 x 3 kernels and biases; batch norm's scale and shift."""
    return sum(9 * a * b + b * (3 if norm else 1) for a, b in itertools.pairwise(widths))


def size(name, classes, channels=3):
    with torch.device("meta"):
        return sum(p.numel() for p in build(Network(name=name), channels, classes, 0).parameters())


def test_vgg19_bn_has_the_known_139_6_million_parameters():
    hidden = 512 * 7 * 7 * 4096 + 4096 + 4096 * 4096 + 4096
    known = convolutions(VGG19, norm=True) + hidden + 4096 * 10 + 10
    assert size("vgg19-bn", 10) == known == 139_622_218
    assert size("vgg19-bn", 10, channels=1) == known - 2 * 9 * 64


def test_bcnn_is_vgg16s_convolutions_and_one_layer_on_their_products():
    assert size("bcnn", 200) == convolutions(VGG16, norm=False) + 512 * 512 * 200 + 200


def test_vgg19_bn_is_torchvisions_layer_by_layer():
    with FakeTensorMode():
        ours = build(Network(name="vgg19-bn"), 3, 10, 0)
        theirs = torchvision.models.vgg19_bn(num_classes=10)
        assert ours(torch.empty(2, 3, 64, 64)).shape == (2, 10)
        assert ours.embed(torch.empty(2, 3, 64, 64)).shape == (2, 4096)
    layers = [[repr(m) for m in net.modules() if not list(m.children())] for net in (ours, theirs)]
    assert layers[0] == layers[1] and "Dropout(p=0.5, inplace=False)" in layers[0]


def test_bilinear_pooling_written_out_for_every_place():
    features = np.random.default_rng(0).random((2, 3, 4, 5))
    expected = []
    for sample in features:
        outer = sum(np.outer(v, v) for v in sample.reshape(3, -1).T) / 20
        rooted = np.sqrt(outer.ravel() + 1e-5)
        expected.append(rooted / np.linalg.norm(rooted))
    np.testing.assert_allclose(bilinear(torch.from_numpy(features)), expected)


def test_the_meta_step_knows_the_way_through_bilinear_pooling():
    """The tangent of a bilinear head by the record equals PyTorch's own forward mode."""

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU())
            self.classifier = torch.nn.Linear(9, 2)

        def forward(self, images):
            return self.classifier(bilinear(self.features(images)))

    torch.manual_seed(0)
    model = Small().double()
    forward = Forward(model, torch.randn(4, 1, 6, 6, dtype=torch.float64))
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    torch.testing.assert_close(forward.tangent(direction), forward.repeated(direction))


@pytest.mark.parametrize("name", ["vgg19-bn", "bcnn"])
def test_they_have_one_width(name):
    with pytest.raises(ValueError, match="one width"):
        Network(name=name, width=64)

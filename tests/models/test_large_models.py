"""The networks for large pictures: their published sizes, their seeds, and the meta-gradient through them."""

import pytest
import torch
from torch.func import functional_call, jvp

from cmw_pipeline.config.schema import Network
from cmw_pipeline.meta.tangent import Forward, copied_buffers
from cmw_pipeline.models.registry import LARGE, build

PUBLISHED = {
    "resnet50": (25_557_032, 2048, 32),
    "resnext50": (25_028_904, 2048, 32),
    "inception-resnet-v2": (55_843_464, 1536, 75),
}
"""Parameters with 1000 classes, features, and the smallest picture."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_sizes_are_the_published_ones(name):
    assert name in LARGE
    size, features, side = PUBLISHED[name]
    whole = build(Network(name=name), 3, 1000, seed=0)
    assert sum(p.numel() for p in whole.parameters()) == size
    small = build(Network(name=name), 3, 50, seed=0)
    assert sum(p.numel() for p in small.parameters()) == size - 950 * (features + 1)
    again = build(Network(name=name), 3, 50, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), again.parameters(), strict=True))
    with torch.no_grad():
        assert small.eval()(torch.zeros(1, 3, side, side)).shape == (1, 50)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_recorded_tangent_is_forward_mode(name):
    """What the meta step needs of a network: the directional derivative of its training logits."""
    side = PUBLISHED[name][2]
    model = build(Network(name=name), 3, 4, seed=0).double().train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, side, side, dtype=torch.float64, generator=generator)
    weights = dict(model.named_parameters())
    move = {
        key: torch.randn(p.shape, dtype=p.dtype, generator=generator) * p.detach().abs().mean()
        for key, p in weights.items()
    }

    def network(w):
        return functional_call(model, (w, copied_buffers(model)), (images,))

    _, tangent = jvp(network, (weights,), (move,))
    recorded = Forward(model, images).tangent(move)
    torch.testing.assert_close(recorded, tangent, rtol=1e-7, atol=1e-7 * float(tangent.abs().max()))


def test_a_large_network_has_one_width():
    with pytest.raises(ValueError, match="has one width"):
        Network(name="resnet50", width=8)

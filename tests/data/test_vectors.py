"""Samples that are vectors: their scale, their store, and the networks for them."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmw_pipeline.config.schema import Network
from cmw_pipeline.data.loader import Draws
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.data.vectors import VectorStore
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.models.registry import build

CPU = torch.device("cpu")


def vectors(count=50, dimensions=6, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, dimensions)) * 10.0 ** rng.integers(-3, 4, dimensions)).astype(np.float32)


@settings(max_examples=25)
@given(st.integers(2, 60), st.integers(1, 40), st.integers(0, 1000))
def test_scaled_vectors_have_mean_zero_and_the_same_length_whatever_their_units(count, dimensions, seed):
    values = vectors(count, dimensions, seed)
    scaled = Scale.of(values).apply(values)
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-4)
    assert np.sqrt((scaled.astype(np.float64) ** 2).sum(axis=1).mean()) == pytest.approx(4, rel=1e-3)


def test_a_constant_feature_counts_for_nothing():
    values = vectors()
    values[:, 2] = 7e4
    scaled = Scale.of(values).apply(values)
    assert (scaled[:, 2] == 0).all() and np.isfinite(scaled).all()
    assert (Scale.of(values[:1]).apply(values[:1]) == 0).all()


def test_every_view_of_a_vector_is_the_vector():
    values = vectors()
    store = VectorStore.put(values, Scale.of(values), CPU)
    rows = torch.tensor([3, 1, 1])
    expected = torch.from_numpy(Scale.of(values).apply(values))
    assert torch.equal(store.plain(rows), expected[rows])
    assert torch.equal(store.augmented(Draws.still(rows)), expected[rows])
    assert torch.equal(torch.cat(list(store.in_order(range(4, 50)))), expected[4:])
    with pytest.raises(ConfigError, match="no strong view"):
        store.strong(Draws.still(rows))


@pytest.mark.parametrize("name", ["linear", "mlp"])
@pytest.mark.parametrize("head", ["linear", "cosine", "abstain"])
def test_networks_for_vectors_give_a_logit_a_class(name, head):
    model = build(Network(name=name), 6, 3, seed=0, head=head).eval()
    assert model(torch.randn(5, 6)).shape == (5, 3)
    again = build(Network(name=name), 6, 3, seed=0, head=head)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_store_is_frozen():
    store = VectorStore(torch.zeros(1, 1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        store.values = torch.ones(1, 1)

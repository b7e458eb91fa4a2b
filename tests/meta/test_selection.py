"""Meta-sets that are picked from the training set: who is in them."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmw_pipeline.meta.selection import lowest_per_class, place_in_class, random_per_class

LABELS = np.repeat(np.arange(4), [3, 5, 8, 20])[np.random.default_rng(0).permutation(36)]


@given(st.integers(0, 2**31 - 1), st.integers(1, 10))
@settings(max_examples=30)
def test_the_smallest_losses_of_each_class_class_by_class(seed, per_class):
    losses = np.random.default_rng(seed).normal(size=36)
    expected = []
    for label in range(4):
        members = [row for row in range(36) if LABELS[row] == label]
        expected += sorted(members, key=lambda row: losses[row])[:per_class]
    assert lowest_per_class(LABELS, losses, per_class).tolist() == expected


def test_random_ones_are_equally_many_of_each_class_and_every_sample_equally_often():
    drawn = np.zeros(36)
    for seed in range(1000):
        rows = random_per_class(LABELS, 2, np.random.default_rng(seed))
        assert LABELS[rows].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        drawn[rows] += 1
    assert drawn.sum() == 8000, "no sample twice in one set"
    rate = 2 / np.bincount(LABELS)[LABELS]
    assert (np.abs(drawn / 1000 - rate) <= 5 * np.sqrt(rate * (1 - rate) / 1000)).all()


def test_random_ones_depend_on_the_stream_alone():
    one, again, other = (random_per_class(LABELS, 3, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_the_place_of_a_sample_is_how_many_of_its_class_are_smaller(seed):
    values = np.random.default_rng(seed).normal(size=36)
    found = place_in_class(torch.from_numpy(LABELS), torch.from_numpy(values))
    assert found.tolist() == [int(((LABELS[i] == LABELS) & (values < values[i])).sum()) for i in range(36)]

"""RoLT: the split by prototypes on planted clusters, its guesses, and its targets by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.methods.rolt import near, split_by_prototypes
from cmw_pipeline.models.trunk import WithFeatures
from tests.support.tiny import loss_of, network, options


def planted(sizes, wrong_share, seed=0):
    """Features in well-separated clusters, the true classes, and labels some of which are another class's."""
    draw = torch.Generator().manual_seed(seed)
    true = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    centres = 5 * torch.randn(len(sizes), 16, generator=draw)
    features = centres[true] + 0.5 * torch.randn(len(true), 16, generator=draw)
    labels = true.clone()
    for label, size in enumerate(sizes):
        swapped = (true == label).nonzero()[: int(wrong_share * size), 0]
        labels[swapped] = (label + 1) % len(sizes)
    return features, true, labels


@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_told_apart_in_a_class_of_twenty_too(seed):
    features, true, labels = planted([100, 60, 20], 0.2, seed)
    clean, distances = split_by_prototypes(features, labels, 3)
    right = clean == (labels == true)
    for label in range(3):
        assert right[labels == label].float().mean() > 0.95
    assert (distances.argmin(dim=1) == true).float().mean() > 0.95


def test_without_wrong_labels_more_than_half_is_clean_in_the_mean_over_classes_and_draws():
    """Not in each class: a single Gaussian may be split anywhere."""
    shares = []
    for seed in range(8):
        features, _, labels = planted([100, 60, 40], 0.0, seed)
        clean, _ = split_by_prototypes(features, labels, 3)
        shares += [clean[labels == label].float().mean() for label in range(3)]
    assert torch.stack(shares).mean() > 0.5


def test_distances_are_those_to_the_mean_of_the_clean_part():
    features, _, labels = planted([30, 30], 0.2)
    clean, distances = split_by_prototypes(features, labels, 3)
    unit = F.normalize(features - features.mean(0))
    for label in range(2):
        # The last prototypes are of the first split, whose clean part is here that of the second.
        prototype = unit[clean & (labels == label)].mean(0)
        torch.testing.assert_close(
            distances[:, label], (unit - prototype).square().sum(1), rtol=1e-3, atol=1e-4
        )
    assert (distances[:, 2] >= distances[:, :2].amax(dim=1)).all()  # a class without samples


@pytest.mark.parametrize("few", [[], [0.3], [0.3, 0.9], [0.5] * 7])
def test_what_cannot_be_split_is_clean(few):
    assert near(torch.tensor(few)).all()


def test_the_nearer_part_is_clean():
    assert near(torch.tensor([0.1, 0.12, 0.11, 0.9, 0.92])).tolist() == [True, True, True, False, False]


K = 3


def method(labels, **changes):
    made = build(options("rolt", **({"start_epoch": 0} | changes)), Problem(K, labels), seed=0)
    made.begin_epoch(1)
    return made


def networks(logits, features):
    return Networks(nn.Identity(), None, lambda model: torch.cat([logits, features], dim=1))


def test_targets_of_clean_samples_are_their_labels_and_of_others_sum_to_one():
    features, true, labels = planted([60, 40, 20], 0.2)
    logits = 3.0 * F.one_hot((true + 1) % K, K)
    made = method(labels)
    made.between_epochs(0, networks(logits, features))
    clean, distances = split_by_prototypes(features, labels, K)
    assert not clean.all()
    assert torch.equal(made.targets[clean], F.one_hot(labels, K)[clean].float())
    torch.testing.assert_close(made.targets.sum(dim=1), torch.ones(len(labels)))
    row = int((~clean).nonzero()[0])
    expected = torch.full((K,), 0.2 / K)
    expected[(true[row] + 1) % K] += 0.4
    expected[distances[row].argmin()] += 0.2
    expected[labels[row]] += 0.2
    torch.testing.assert_close(made.targets[row], expected)


def test_guesses_are_of_running_means():
    features, true, labels = planted([60, 40, 20], 0.0)
    first, second = 1.0 * F.one_hot(true, K), 1.2 * F.one_hot((true + 1) % K, K)
    made = method(labels, memory=0.6)
    made.between_epochs(0, networks(first, features))
    torch.testing.assert_close(made.mean_logits, first)
    made.between_epochs(1, networks(second, features))
    torch.testing.assert_close(made.mean_logits, 0.6 * first + 0.4 * second)


def test_where_all_is_clean_and_before_it_starts_it_is_cross_entropy():
    labels = torch.arange(6) % K
    z = torch.randn(6, K, generator=torch.Generator().manual_seed(0))
    batch = Batch(torch.empty(0), labels, torch.arange(6))
    torch.testing.assert_close(loss_of(method(labels), z, batch), F.cross_entropy(z, labels))
    late = method(labels, start_epoch=2)
    late.targets.fill_(1 / K)
    torch.testing.assert_close(loss_of(late, z, batch), F.cross_entropy(z, labels))


def test_a_classifier_with_features_gives_both_and_stays_in_its_mode():
    model = network(dropout=0.0).eval()
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    both = WithFeatures(model)
    given = both(images)
    assert not both.training
    assert torch.equal(given[:, :4], model(images))
    assert torch.equal(given[:, 4:], model.embed(images))

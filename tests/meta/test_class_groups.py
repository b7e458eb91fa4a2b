"""Class groups: the published assignments, the true optimum of k-means, and no surprises at the edges."""

import itertools
import warnings

import numpy as np
import pytest
from sklearn.cluster import KMeans

from cmw_pipeline.meta.class_groups import group_classes

SMALL, MODERATE, LARGE = 0, 1, 2


def long_tail(largest, factor, classes):
    """Counts of the long tail as the published generator truncates them."""
    return [int(largest * (1 / factor) ** (j / (classes - 1))) for j in range(classes)]


def members(groups, group):
    return np.flatnonzero(np.asarray(groups) == group).tolist()


def inertia(counts, groups):
    counts, groups = np.asarray(counts, dtype=float), np.asarray(groups)
    return sum(((counts[groups == g] - counts[groups == g].mean()) ** 2).sum() for g in set(groups.tolist()))


CIFAR10 = [
    (10, "5000 3871 2997 2320 1796 1391 1077 834 645 500", [0, 1], [2, 3, 4]),
    (20, "5000 3584 2569 1842 1320 946 678 486 348 250", [0, 1], [2, 3]),
    (50, "5000 3237 2096 1357 878 568 368 238 154 100", [0], [1, 2]),
    (100, "5000 2997 1796 1077 645 387 232 139 83 50", [0], [1, 2]),
    (200, "5000 2775 1540 854 474 263 146 81 45 25", [0], [1, 2]),
]


@pytest.mark.parametrize(("factor", "counts", "large", "moderate"), CIFAR10)
def test_long_tailed_cifar10_has_the_published_groups(factor, counts, large, moderate):
    counts = [int(count) for count in counts.split()]
    assert counts == long_tail(5000, factor, 10)
    groups = group_classes(counts, 3)
    assert members(groups, LARGE) == large
    assert members(groups, MODERATE) == moderate
    assert members(groups, SMALL) == list(range(moderate[-1] + 1, 10))


@pytest.mark.parametrize(
    ("factor", "total", "last_large", "last_moderate"),
    [
        (10, 19573, 19, 47),
        (20, 15907, 16, 42),
        (50, 12608, 13, 36),
        (100, 10847, 12, 33),
        (200, 9502, 10, 29),
    ],
)
def test_long_tailed_cifar100_has_the_published_group_boundaries(factor, total, last_large, last_moderate):
    counts = long_tail(500, factor, 100)
    assert sum(counts) == total
    groups = group_classes(counts, 3)
    assert members(groups, LARGE) == list(range(last_large + 1))
    assert members(groups, MODERATE) == list(range(last_large + 1, last_moderate + 1))
    assert members(groups, SMALL) == list(range(last_moderate + 1, 100))


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6, 0.8])
def test_asymmetric_noise_is_told_by_the_groups(rate):
    """Sources of the flips are small, their targets large, and the classes apart are moderate."""
    counts = np.full(10, 5000)
    for source, target in {9: 1, 2: 0, 4: 7, 3: 5}.items():
        counts[source] -= round(5000 * rate)
        counts[target] += round(5000 * rate)
    groups = group_classes(counts, 3)
    assert members(groups, SMALL) == [2, 3, 4, 9]
    assert members(groups, MODERATE) == [6, 8]
    assert members(groups, LARGE) == [0, 1, 5, 7]


def test_feature_dependent_plus_asymmetric_noise_has_the_published_groups():
    groups = group_classes([6026, 5754, 3368, 5129, 3047, 4938, 4070, 5308, 4150, 3210], 3)
    assert members(groups, SMALL) == [2, 4, 9]
    assert members(groups, MODERATE) == [6, 8]
    assert members(groups, LARGE) == [0, 1, 3, 5, 7]


@pytest.mark.parametrize("case", range(12))
def test_no_restart_of_scikit_learns_kmeans_finds_a_better_split(case):
    rng = np.random.default_rng(case)
    counts = rng.integers(1, [20, 600, 5001][case % 3], rng.integers(6, 40))
    num_groups = 2 + case % 4
    ours = inertia(counts, group_classes(counts, num_groups))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = KMeans(num_groups, n_init=60, random_state=0).fit(counts[:, None]).inertia_
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("case", range(8))
def test_equals_the_best_of_all_possible_splits(case):
    rng = np.random.default_rng(100 + case)
    counts = np.sort(rng.integers(1, 5000, 9))
    best = min(
        inertia(counts, np.searchsorted(ends, np.arange(9), side="right"))
        for ends in itertools.combinations(range(1, 9), 2)
    )
    assert inertia(counts, group_classes(counts, 3)) == pytest.approx(best, rel=1e-9)


def test_groups_are_numbered_by_size_smallest_first():
    rng = np.random.default_rng(5)
    for _ in range(50):
        counts = rng.integers(1, 1000, 12)
        groups = group_classes(counts, 3)
        assert (np.diff(groups[np.argsort(counts, kind="stable")]) >= 0).all()
        assert set(groups.tolist()) == {0, 1, 2}


def test_permuting_the_classes_permutes_their_groups():
    rng = np.random.default_rng(6)
    for _ in range(50):
        counts = rng.integers(1, 40, 15)
        order = rng.permutation(15)
        assert (group_classes(counts[order], 3) == group_classes(counts, 3)[order]).all()


def test_classes_of_equal_count_are_never_torn_apart():
    counts = np.repeat([7, 7, 8, 300, 300, 301], 3)
    groups = group_classes(counts, 3)
    for count in set(counts.tolist()):
        assert len(set(groups[counts == count].tolist())) == 1


@pytest.mark.parametrize(("num_groups", "middle"), [(1, 0), (2, 1), (3, 1), (5, 2)])
def test_equal_counts_share_the_middle_group_without_a_warning(num_groups, middle):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert group_classes([500] * 10, num_groups).tolist() == [middle] * 10


def test_two_distinct_counts_use_the_outermost_groups():
    assert group_classes([500, 100, 500, 100], 3).tolist() == [LARGE, SMALL, LARGE, SMALL]


def test_fewer_classes_than_groups_are_no_error():
    assert group_classes([10, 4], 5).tolist() == [4, 0]
    assert group_classes([10], 3).tolist() == [1]


def test_a_class_without_samples_belongs_to_the_smallest():
    assert group_classes([0, 1000, 500, 3], 3).tolist() == [SMALL, LARGE, MODERATE, SMALL]

"""Bias generators and the inject stage: counts, rates, transitions, determinism."""

import hashlib
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cmw_pipeline.bias.asymmetric import asymmetric
from cmw_pipeline.bias.compose import apply_bias
from cmw_pipeline.bias.long_tail import class_sizes, long_tail
from cmw_pipeline.bias.symmetric import symmetric
from cmw_pipeline.config.bias_names import BiasStep, parse_bias
from cmw_pipeline.config.contracts import Biased, Raw
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.config.schema import Params
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.manifests import open_stored, publish
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.stages import inject
from cmw_pipeline.stages.base import make
from cmw_pipeline.types import TEST, TRAIN, UNUSED

CIFAR10 = np.repeat(np.arange(10, dtype=np.int16), 5000)
CIFAR100 = np.repeat(np.arange(100, dtype=np.int16), 500)
DIGITS = np.random.default_rng(5).integers(0, 10, 1437).astype(np.int16)
LABEL_SETS = {"cifar10": CIFAR10, "cifar100": CIFAR100, "digits": DIGITS}
NOISE = ["sym-0.4", "other:sym-0.4", "asym-0.4"]

small_labels = st.lists(st.integers(0, 3), max_size=40).map(lambda rows: np.array(rows, dtype=np.int16))
rates = st.floats(0, 1)
seeds = st.integers(0, 2**31 - 1)


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def sha256(labels):
    return hashlib.sha256(np.ascontiguousarray(labels, dtype="<i2").tobytes()).hexdigest()


# --- noise by class sizes


def by_frequency(clean, bias, seed=1):
    made = apply_bias(clean, parse_bias(bias), FACTS["cifar10"], seed)
    return clean[made.kept], made.labels[made.kept]


@pytest.mark.parametrize("bias", ["freq:sym-0.4", "lt-10+freq:sym-0.4", "lt-100+freq:sym-0.1"])
def test_noise_by_class_sizes_leaves_the_sizes_as_they_were(bias):
    clean, given = by_frequency(CIFAR10, bias)
    rate, size = float(bias.rpartition("-")[2]), len(clean)
    sizes = np.bincount(clean, minlength=10)
    wrong = rate * (1 - ((sizes / size) ** 2).sum())
    assert abs((given != clean).mean() - wrong) <= 4 * np.sqrt(wrong * (1 - wrong) / size)
    leaving = sizes * rate * (1 - sizes / size)
    assert (np.abs(np.bincount(given, minlength=10) - sizes) <= 4 * np.sqrt(2 * leaving)).all()


def test_noise_by_class_sizes_draws_a_class_by_its_size():
    clean, given = by_frequency(CIFAR10, "lt-10+freq:sym-1")
    sizes = np.bincount(clean, minlength=10)
    smallest = given[clean == 9]
    found = stats.chisquare(np.bincount(smallest, minlength=10), len(smallest) * sizes / sizes.sum())
    assert found.pvalue > 1e-4


# --- long tail


@pytest.mark.parametrize(
    ("factor", "sizes"),
    [
        (10, [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]),
        (20, [5000, 3584, 2569, 1842, 1320, 946, 678, 486, 348, 250]),
        (50, [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]),
        (100, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
        (200, [5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25]),
    ],
)
def test_cifar10_sizes_are_the_published_ones(factor, sizes):
    assert class_sizes(5000, 10, factor).tolist() == sizes
    kept = long_tail(CIFAR10, factor, 10, rng())
    assert np.bincount(CIFAR10[kept], minlength=10).tolist() == sizes


@pytest.mark.parametrize(
    ("factor", "total", "smallest"),
    [(1, 50000, 500), (10, 19573, 50), (20, 15907, 25), (50, 12608, 10), (100, 10847, 5), (200, 9502, 2)],
)
def test_cifar100_sizes_are_the_published_ones(factor, total, smallest):
    sizes = class_sizes(500, 100, factor)
    assert (sizes.sum(), sizes[0], sizes[-1]) == (total, 500, smallest)
    assert (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize("n", [7, 49, 98, 1437, 5000])
def test_last_class_does_not_lose_a_sample_to_rounding(n):
    assert class_sizes(n, 10, n)[-1] == 1
    assert class_sizes(n, 2, 1).tolist() == [n, n]


def test_one_class_keeps_everything():
    assert class_sizes(20, 1, 100).tolist() == [20]


@given(small_labels, st.floats(1, 1e6), seeds)
@settings(max_examples=50)
def test_long_tail_keeps_the_smaller_of_profile_and_class(labels, factor, seed):
    kept = long_tail(labels, factor, 4, rng(seed))
    counts = np.bincount(labels, minlength=4)
    expected = np.minimum(counts, class_sizes(int(counts.max()), 4, factor))
    assert np.bincount(labels[kept], minlength=4).tolist() == expected.tolist()


def test_long_tail_chooses_at_random_within_a_class():
    first, second = (np.flatnonzero(long_tail(CIFAR10, 100, 10, rng(seed))) for seed in (0, 1))
    in_last = first[CIFAR10[first] == 9]
    assert in_last.tolist() != list(range(45000, 45050))
    assert set(in_last) != set(second[CIFAR10[second] == 9])
    # 50 of 5,000: the mean position is 2,500 within five standard errors.
    assert abs(in_last.mean() - 45000 - 2500) < 5 * 5000 / np.sqrt(12 * 50)


# --- noise


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize(("labels", "classes"), [(CIFAR10, 10), (CIFAR100, 100)])
def test_symmetric_rate_is_r_times_c_minus_1_over_c(labels, classes, rate):
    noisy = symmetric(labels, rate, classes, rng())
    chosen = int(rate * len(labels))
    flipped = int((noisy != labels).sum())
    assert stats.binomtest(flipped, chosen, (classes - 1) / classes).pvalue > 1e-4
    new = np.bincount(noisy[noisy != labels], minlength=classes)
    assert stats.chisquare(new).pvalue > 1e-4


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6, 0.8])
def test_symmetric_other_flips_exactly_the_chosen(rate):
    noisy = symmetric(CIFAR10, rate, 10, rng(), other=True)
    wrong = noisy != CIFAR10
    assert wrong.sum() == int(rate * 50000)
    step = (noisy[wrong] - CIFAR10[wrong]) % 10
    assert stats.chisquare(np.bincount(step, minlength=10)[1:]).pvalue > 1e-4


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6, 0.8])
def test_asymmetric_cifar10_rate_is_four_tenths_of_r(rate):
    noisy = asymmetric(CIFAR10, rate, FACTS["cifar10"].class_map(None), rng())
    flipped = int((noisy != CIFAR10).sum())
    chosen = int(rate * 50000)
    # 20,000 of 50,000 samples are of the four classes; the draw is without replacement.
    assert 1e-4 < stats.hypergeom(50000, 20000, chosen).cdf(flipped) < 1 - 1e-4
    counts = np.bincount(noisy, minlength=10)
    spread = 6 * np.sqrt(5000 * rate * (1 - rate))
    assert np.abs(counts[[2, 3, 4, 9]] - 5000 * (1 - rate)).max() < spread
    assert np.abs(counts[[0, 1, 5, 7]] - 5000 * (1 + rate)).max() < spread
    assert counts[[6, 8]].tolist() == [5000, 5000]


@pytest.mark.parametrize(
    ("dataset", "variant"), [(name, variant) for name, facts in FACTS.items() for variant in facts.class_maps]
)
def test_asymmetric_transitions_are_those_of_the_map(dataset, variant):
    classes, mapping = range(FACTS[dataset].num_classes), FACTS[dataset].class_map(variant)
    labels = np.repeat(np.array(classes, dtype=np.int16), 200)
    noisy = asymmetric(labels, 0.5, mapping, rng())
    seen = set(zip(labels.tolist(), noisy.tolist(), strict=True))
    assert seen == {(c, c) for c in classes} | set(mapping.items())


def test_cifar10_map_leaves_dogs_alone():
    assert FACTS["cifar10"].class_map(None) == {9: 1, 2: 0, 4: 7, 3: 5}


def test_two_way_map_swaps_within_one_pass():
    """A sample that moved is not moved again: at rate 1, cats and dogs change places."""
    noisy = asymmetric(CIFAR10, 1.0, FACTS["cifar10"].class_map("two-way"), rng())
    assert np.unique(noisy[CIFAR10 == 3]).tolist() == [5]
    assert np.unique(noisy[CIFAR10 == 5]).tolist() == [3]


def test_cifar100_maps_are_rings_of_five():
    for variant in ("superclass", "blocks"):
        mapping = FACTS["cifar100"].class_map(variant)
        for start in range(100):
            ring = [start]
            while mapping[ring[-1]] != start:
                ring.append(mapping[ring[-1]])
            assert len(ring) == 5
    assert FACTS["cifar100"].class_map(None)[4] == 30  # beaver -> dolphin: aquatic mammals
    assert FACTS["cifar100"].class_map("blocks")[4] == 0


@given(small_labels, rates, seeds, st.booleans())
@settings(max_examples=60)
def test_symmetric_properties(labels, rate, seed, other):
    before = labels.copy()
    noisy = symmetric(labels, rate, 4, rng(seed), other=other)
    assert noisy.dtype == np.int16 and noisy.shape == labels.shape
    assert (labels == before).all()
    assert ((noisy >= 0) & (noisy < 4)).all()
    flipped = int((noisy != labels).sum())
    chosen = int(rate * len(labels))
    assert flipped == chosen if other else flipped <= chosen


@given(small_labels, rates, seeds)
@settings(max_examples=60)
def test_asymmetric_properties(labels, rate, seed):
    before = labels.copy()
    noisy = asymmetric(labels, rate, {0: 1, 2: 3}, rng(seed))
    assert noisy.dtype == np.int16
    assert (labels == before).all()
    wrong = noisy != labels
    assert wrong.sum() <= int(rate * len(labels))
    assert set(zip(labels[wrong].tolist(), noisy[wrong].tolist(), strict=True)) <= {(0, 1), (2, 3)}


@pytest.mark.parametrize("labels", [np.array([], dtype=np.int16), np.array([1], dtype=np.int16)])
def test_tiny_sets(labels):
    assert symmetric(labels, 0.5, 2, rng()).tolist() == labels.tolist()
    assert asymmetric(labels, 0.5, {1: 0}, rng()).tolist() == labels.tolist()
    assert symmetric(labels, 1.0, 2, rng(), other=True).tolist() == (1 - labels).tolist()
    assert long_tail(labels, 1.0, 2, rng()).all()


def test_rate_zero_and_one():
    assert (symmetric(DIGITS, 0.0, 10, rng()) == DIGITS).all()
    assert (symmetric(DIGITS, 1.0, 10, rng(), other=True) != DIGITS).all()
    mapping = FACTS["digits"].class_map(None)
    expected = [mapping.get(label, label) for label in DIGITS.tolist()]
    assert asymmetric(DIGITS, 1.0, mapping, rng()).tolist() == expected


def test_two_classes_swap_under_other():
    labels = np.array([0, 1, 1, 0], dtype=np.int16)
    assert symmetric(labels, 1.0, 2, rng(), other=True).tolist() == [1, 0, 0, 1]


# --- composition

# Label tables made with these generators are published; another value here means that the same
# params.yaml would give other labels than the ones results were reported on.
GOLDEN = {
    "none": "aafcd450b7797688e393fc29ad14838506fae1fd78aed085692b243901aa4d02",
    "sym-0.4": "4f46afe04b39ed27b974a1cc74e3a60c9548593915a99447c55cd62c89936200",
    "other:sym-0.4": "c35a42b1639adb6771ede83874ffaacf425a33b3ba0195d63681fdc5587d1e90",
    "asym-0.4": "0b9a7b7993e355fd928a5ff662ae7a19a4d4c4d2d4827eb628af7bf789ba86d6",
    "two-way:asym-0.4": "fcbb2e0ec6f11d896edbfcdad08cef0031a0cb6e6334aaf91055e16032a72371",
    "lt-100": "9a722d1e12e7ca3b43c1b4d43c2a7be3e4ad8ec38aeab3248a34de8bc1474340",
    "lt-10+sym-0.2+asym-0.3": "c323df50945341d2e2df483b750c3483d4df30898ae9cab17f348e6e2d538d50",
}


@pytest.mark.parametrize("bias", GOLDEN)
def test_golden_bytes(bias):
    biased = apply_bias(CIFAR10, parse_bias(bias), FACTS["cifar10"], 1)
    assert sha256(np.where(biased.kept, biased.labels, -1)) == GOLDEN[bias]


@pytest.mark.parametrize("bias", ["lt-50", *NOISE, "lt-10+other:sym-0.2+asym-0.3"])
def test_same_seed_same_labels_whatever_ran_before(bias):
    first = apply_bias(DIGITS, parse_bias(bias), FACTS["digits"], 1)
    np.random.default_rng(0).random(100)
    apply_bias(DIGITS, parse_bias("sym-0.8"), FACTS["digits"], 1)
    again = apply_bias(DIGITS, parse_bias(bias), FACTS["digits"], 1)
    other = apply_bias(DIGITS, parse_bias(bias), FACTS["digits"], 2)
    assert (first.labels == again.labels).all() and (first.kept == again.kept).all()
    assert (first.labels != other.labels).any() or (first.kept != other.kept).any()


def test_order_of_calls_does_not_matter():
    names = ["lt-50", *NOISE]
    results = [
        {name: sha256(apply_bias(DIGITS, parse_bias(name), FACTS["digits"], 3).labels) for name in order}
        for order in itertools.permutations(names, len(names))
    ]
    assert all(result == results[0] for result in results)


def test_composition_is_the_steps_one_after_the_other():
    steps = parse_bias("lt-10+sym-0.2+asym-0.3")
    biased = apply_bias(CIFAR10, steps, FACTS["cifar10"], 7)
    labels, kept = biased.labels, biased.kept

    def named(position):
        return stream(7, "inject", "cifar10", position, steps[position].name)

    mask = long_tail(CIFAR10, 10, 10, named(0))
    noisy = asymmetric(
        symmetric(CIFAR10[mask], 0.2, 10, named(1)), 0.3, FACTS["cifar10"].class_map(None), named(2)
    )
    assert (kept == mask).all()
    assert (labels[mask] == noisy).all()
    assert (labels[~mask] == CIFAR10[~mask]).all()


def test_apply_bias_does_not_change_its_input():
    before = DIGITS.copy()
    apply_bias(DIGITS, parse_bias("lt-5+sym-0.9"), FACTS["digits"], 0)
    assert (before == DIGITS).all()


def test_unknown_class_map_is_named():
    with pytest.raises(KeyError, match=r"two-way.*one-way"):
        apply_bias(DIGITS, (BiasStep("asym", 0.4, "two-way"),), FACTS["digits"], 0)


# --- the stage


@pytest.fixture
def plan():
    return Plan(
        Params.model_validate(
            {
                "build": [],
                "seeds": [0],
                "bias_seed": 1,
                "datasets": {"digits": {"source": "digits"}},
                "biases": {},
                "methods": {},
                "recipes": {},
                "tables": {},
            }
        )
    )


def raw_frame(labels=DIGITS, test=360):
    """Training and test rows interleaved, so that positions and row numbers differ."""
    total = np.concatenate([labels, np.arange(test) % 10]).astype(np.int16)
    split = np.array([TRAIN] * len(labels) + [TEST] * test)
    order = rng(9).permutation(len(total))
    index = np.arange(len(total), dtype=np.int32)
    return pd.DataFrame({"index": index, "label": total[order], "split": split[order]})


def store_raw(plan, root, frame):
    artefact = plan.download("digits")
    with publish(artefact, {}, root) as draft:
        np.save(draft.path / "images.npy", np.zeros((len(frame), 8, 8, 1), np.uint8))
        write_table(draft.path / Raw.LABELS, frame, Raw.LABELS.columns)


def injected(plan, root, bias):
    artefact = plan.inject(f"digits/{bias}")
    make(artefact, inject.run, root)
    stored = open_stored(root / artefact.path)
    return read_table(stored.path / Raw.LABELS, Biased.LABELS.columns), stored


@pytest.mark.parametrize("bias", ["none", "lt-20", *NOISE, "lt-10+other:sym-0.2"])
def test_inject_keeps_rows_and_test_labels(plan, tmp_path, bias):
    raw = raw_frame()
    store_raw(plan, tmp_path, raw)
    table, stored = injected(plan, tmp_path, bias)
    assert (table["index"] == raw["index"]).all()
    assert (table["clean_label"] == raw["label"]).all()
    assert (table["is_flipped"] == (table["label"] != table["clean_label"])).all()
    assert ((table["split"] == TEST) == (raw["split"] == TEST)).all()
    outside = table[table["split"] != TRAIN]
    assert not outside["is_flipped"].any()
    train = table[table["split"] == TRAIN]
    notes = stored.manifest["notes"]
    assert notes["class_counts"] == np.bincount(train["label"], minlength=10).tolist()
    assert notes["class_sizes"] == np.bincount(train["clean_label"], minlength=10).tolist()
    assert notes["flipped"] == int(train["is_flipped"].sum())
    assert notes["noise_rate"] == pytest.approx(train["is_flipped"].mean())
    assert "factor" not in notes  # only noise that depends on features has one


def test_inject_long_tail_marks_dropped_rows_unused(plan, tmp_path):
    store_raw(plan, tmp_path, raw_frame())
    table, stored = injected(plan, tmp_path, "lt-20")
    counts = np.bincount(DIGITS, minlength=10)
    sizes = np.minimum(counts, class_sizes(int(counts.max()), 10, 20))
    assert stored.manifest["notes"]["class_sizes"] == sizes.tolist()
    assert (table["split"] == UNUSED).sum() == counts.sum() - sizes.sum()


def test_inject_writes_the_same_bytes_twice(plan, tmp_path):
    contents = []
    for root in (tmp_path / "a", tmp_path / "b"):
        store_raw(plan, root, raw_frame())
        _, stored = injected(plan, root, "lt-10+sym-0.2")
        contents.append(stored.manifest["files"])
    assert contents[0] == contents[1]


def test_training_seed_does_not_enter(plan):
    other = Plan(plan.params.model_copy(update={"seeds": [5, 6]}))
    assert plan.inject("digits/sym-0.4").digest == other.inject("digits/sym-0.4").digest
    reseeded = Plan(plan.params.model_copy(update={"bias_seed": 2}))
    assert plan.inject("digits/sym-0.4").digest != reseeded.inject("digits/sym-0.4").digest


def test_too_steep_a_tail_is_refused_with_the_steepest_allowed(plan, tmp_path):
    store_raw(plan, tmp_path, raw_frame())
    largest = np.bincount(DIGITS).max()
    with pytest.raises(ConfigError, match=rf"samples of class \d\n.*largest class has {largest};"):
        injected(plan, tmp_path, "lt-1000")
    assert not (tmp_path / plan.inject("digits/lt-1000").path).exists()
    table, _ = injected(plan, tmp_path, f"lt-{largest}")
    assert set(table[table["split"] == TRAIN]["label"]) == set(range(10))


def test_class_that_was_empty_stays_empty(plan, tmp_path):
    store_raw(plan, tmp_path, raw_frame(DIGITS[DIGITS != 4], test=0))
    _, stored = injected(plan, tmp_path, "lt-10+asym-0.4")
    assert stored.manifest["notes"]["class_sizes"][4] == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda frame: frame.sample(frac=1, random_state=0),
        lambda frame: frame.drop(index=3),
        lambda frame: frame.assign(index=frame["index"].replace(4, 3)),
        lambda frame: frame.assign(label=frame["label"] + np.int16(95)),
        lambda frame: frame.assign(split=frame["split"].replace("test", "validation")),
    ],
    ids=["shuffled", "gap", "duplicate", "another dataset's labels", "unknown split"],
)
def test_damaged_raw_table_is_refused(plan, tmp_path, damage):
    store_raw(plan, tmp_path, damage(raw_frame()))
    with pytest.raises(IntegrityError, match=r"labels\.parquet") as caught:
        injected(plan, tmp_path, "sym-0.4")
    assert caught.value.exit_code == 3

"""Few labels: which samples keep theirs, FixMatch by hand, and CMW-Net's weights on the guesses."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from cmw_pipeline.bias.compose import apply_bias
from cmw_pipeline.bias.few_labels import labelled_sets
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.bias_names import BiasStep, format_bias, parse_bias
from cmw_pipeline.config.contracts import Biased
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.tables import read_table
from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.stages import download, inject
from cmw_pipeline.stages.base import make
from cmw_pipeline.training.batches import Meta, pick_meta_rows
from tests.support.tiny import loss_of, options, task

PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [labels-100+lt-10]}
methods: {erm: {kind: erm, label: ERM}}
recipes: {quick: {network: {name: small-cnn}, optimizer: {lr: 0.1}, epochs: 1, batch_size: 50}}
tables: {tiny: {title: Tiny, grid: [{dataset: digits, biases: tiny, methods: [erm], recipe: quick}]}}
"""
LABELS = np.repeat(np.arange(10, dtype=np.int16), np.arange(100, 0, -10))


# --- which samples keep their labels


@pytest.mark.parametrize("count", [10, 40, 100])
def test_each_class_keeps_equally_many_labels_and_the_rest_none(count):
    sets = labelled_sets(LABELS, count, 10, np.random.default_rng(0))
    labelled = sets.sum(axis=1) == 1
    assert labelled.sum() == count
    assert (np.bincount(LABELS[labelled]) == count // 10).all()
    assert (sets[labelled].argmax(axis=1) == LABELS[labelled]).all()
    assert sets[~labelled].all()


def test_within_a_class_every_sample_is_equally_likely():
    drawn = sum(
        labelled_sets(LABELS, 50, 10, np.random.default_rng(seed)).sum(axis=1) == 1 for seed in range(2000)
    )
    for label in range(10):
        mine = drawn[label == LABELS] / 2000
        rate = 5 / (label == LABELS).sum()
        assert np.abs(mine - rate).max() <= 5 * np.sqrt(rate * (1 - rate) / 2000)


@pytest.mark.parametrize("count", [5, 45, 110])
def test_what_cannot_be_drawn_is_refused(count):
    with pytest.raises(ConfigError, match=f"labels-{count}") as refused:
        labelled_sets(LABELS, count, 10, np.random.default_rng(0))
    most = int(refused.value.hint.rpartition("up to ")[2])
    assert (labelled_sets(LABELS, most, 10, np.random.default_rng(0)).sum(axis=1) == 1).sum() == most
    with pytest.raises(ConfigError):
        labelled_sets(LABELS, most + 10, 10, np.random.default_rng(0))


def test_names():
    assert parse_bias("lt-10+labels-40") == (BiasStep("lt", 10.0), BiasStep("labels", 40.0))
    assert format_bias(parse_bias("labels-4000")) == "labels-4000"
    for name in ("labels-0", "labels-2.5", "labels-nan", "labels-inf", "labels-40+sym-0.2"):
        with pytest.raises(ValueError, match=r"whole number|go last"):
            parse_bias(name)


def test_the_label_of_an_unlabelled_sample_is_a_lot():
    labels = np.repeat(LABELS, 20)
    biased = apply_bias(labels, parse_bias("labels-40"), FACTS["cifar10"], 1)
    drawn, sets = biased.labels, biased.candidates
    assert biased.kept.all()
    unlabelled = sets.all(axis=1)
    assert (~unlabelled).sum() == 40
    assert (drawn == labels)[~unlabelled].all()
    table = pd.crosstab(labels[unlabelled], drawn[unlabelled]).to_numpy()
    expected = table.sum(axis=1, keepdims=True) / 10
    assert (((table - expected) ** 2 / expected).sum()) < 90 + 5 * np.sqrt(2 * 90)


def test_a_tail_behind_the_labels_is_of_the_unlabelled_only():
    """Every label stays, the same ones as without the tail; the rest has the sizes of a tail of its own."""
    labels = np.repeat(np.arange(10, dtype=np.int16), 500)
    biased = apply_bias(labels, parse_bias("labels-400+lt-50"), FACTS["cifar10"], 1)
    plain = apply_bias(labels, parse_bias("labels-400"), FACTS["cifar10"], 1)
    kept, sets = biased.kept, plain.candidates
    assert plain.kept.all()
    assert (biased.candidates[kept] == sets[kept]).all()
    assert (biased.labels[kept] == plain.labels[kept]).all()
    assert not biased.candidates[~kept].any()
    assert (biased.labels[~kept] == labels[~kept]).all()
    unlabelled = sets.all(axis=1)
    assert kept[~unlabelled].all()
    assert (np.bincount(labels[~unlabelled]) == 40).all()
    assert np.bincount(labels[unlabelled & kept]).tolist() == [
        int(460 * 50 ** (-k / 9) + 1e-9) for k in range(10)
    ]


@pytest.mark.parametrize("name", ["labels-40+lt-10", "sym-0.2+labels-40+lt-10"])
def test_names_of_tails_behind_labels(name):
    assert format_bias(parse_bias(name)) == name


@pytest.mark.parametrize(
    "name", ["lt-10+labels-40+lt-10", "labels-40+lt-10+sym-0.2", "partial-0.3+lt-10", "labels-40+lt-10+lt-10"]
)
def test_tails_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match=r"a long tail goes first|go last"):
        parse_bias(name)


def test_inject_leaves_out_what_the_tail_of_the_unlabelled_drops(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    plan = Plan(load(tmp_path / "params.yaml"))
    make(plan.download("digits"), download.run, tmp_path)
    make(plan.inject("digits/labels-100+lt-10"), inject.run, tmp_path)
    folder = tmp_path / plan.inject("digits/labels-100+lt-10").path
    table = read_table(folder / "labels.parquet", Biased.LABELS.columns)
    sets = np.load(folder / Biased.CANDIDATES)
    unused = (table["split"] == "unused").to_numpy()
    trained = (table["split"] == "train").to_numpy()
    assert (table["label"] == table["clean_label"])[unused].all()
    assert not sets[unused].any()
    labelled = trained & (sets.sum(axis=1) == 1)
    assert (np.bincount(table["clean_label"][labelled]) == 10).all()
    sizes = np.bincount(table["clean_label"][trained & sets.all(axis=1)])
    assert 9 <= sizes[0] / sizes[9] <= 11
    assert unused.sum() > 500


def test_the_labelled_samples_are_the_meta_set():
    run = task("fixmatch/cmw-net", weighting={"meta_set": "labelled"})
    rule = parse_meta("labelled")
    rows = pick_meta_rows(run, 0, Meta(rule, 1, 4, 1), None)
    assert rows.tolist() == [i for i, s in enumerate(run.problem.candidates.sum(1).tolist()) if s == 1]
    assert 0 < len(rows) < run.num_train


# --- FixMatch

L, U, K = 2, 3, 3
LOGITS = torch.tensor(
    [
        *([2.0, 0.0, 0.0], [0.0, 1.0, 0.5]),  # labelled
        *([5.0, 0.0, 0.0], [0.1, 0.2, 0.0], [0.0, 0.0, 6.0]),  # weak
        *([1.0, 0.5, 0.0], [0.0, 3.0, 0.0], [0.3, 0.0, 0.2]),  # strong
    ]
)
LABELLED = Batch(torch.zeros(L, 1), torch.tensor([0, 2]), torch.tensor([0, 1]))
BATCH = Batch(
    torch.ones(U, 1),
    torch.tensor([1, 1, 1]),  # drawn by lot: nothing may depend on them
    torch.tensor([3, 4, 5]),
    (torch.full((U, 1), 2.0),),
    (LABELLED,),
)


def method(kind, **changes):
    candidates = torch.ones(6, K, dtype=torch.bool)
    labels = torch.tensor([0, 2, 1, 1, 1, 1])
    candidates[:3] = F.one_hot(labels[:3], K).bool()
    return build(
        options(kind, **({"threshold": 0.95} | changes)), Problem(K, labels, candidates=candidates), 0
    )


def test_fixmatch_by_hand():
    """The first and the third guess are sure; the mean is over all three."""
    given = (-LOGITS[0].log_softmax(0)[0] - LOGITS[1].log_softmax(0)[2]) / 2
    guessed = (-LOGITS[5].log_softmax(0)[0] - LOGITS[7].log_softmax(0)[2]) / 3
    torch.testing.assert_close(loss_of(method("fixmatch"), LOGITS, BATCH), given + guessed)
    torch.testing.assert_close(
        loss_of(method("fixmatch", unlabelled=2.5), LOGITS, BATCH), given + 2.5 * guessed
    )
    for changes in ({"unlabelled": 0.0}, {"start_epoch": 1}, {"threshold": 1.0}):
        torch.testing.assert_close(loss_of(method("fixmatch", **changes), LOGITS, BATCH), given)


def test_nothing_flows_back_through_the_guess():
    logits = LOGITS.clone().requires_grad_()
    loss_of(method("fixmatch"), logits, BATCH).backward()
    assert (logits.grad[L : L + U] == 0).all()
    assert (logits.grad[[5, 7]] != 0).any(dim=1).all()
    assert (logits.grad[6] == 0).all()


def test_labels_drawn_by_lot_are_never_read():
    for kind in ("fixmatch", "fixmatch/cmw-net"):
        ours = method(kind)
        moved = Batch(BATCH.images, torch.tensor([2, 0, 2]), BATCH.rows, BATCH.views, BATCH.others)
        assert torch.equal(loss_of(ours, LOGITS, BATCH), loss_of(ours, LOGITS, moved))


def test_the_pass_shows_labelled_weak_and_strong_images():
    together = method("fixmatch").prepare(BATCH, None)
    assert together.images[:, 0].tolist() == [0.0] * L + [1.0] * U + [2.0] * U


def test_streams_hold_all_images_and_the_labelled_ones():
    (many, few) = method("fixmatch", batch_size=4, ratio=3).turns(0)[0]
    assert (many.rows.tolist(), many.batch_size) == (list(range(6)), 12)
    assert many.views == ("weak", "strong")
    assert (few.rows.tolist(), few.batch_size) == ([0, 1, 2], 4)


class Constant(torch.nn.Module):
    """A weight net that gives what it is told, by group."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, losses, groups):
        return self.values[groups]


def weighted(values, normalisation="mean", **changes):
    ours = method("fixmatch/cmw-net", weighting={"normalisation": normalisation}, **changes)
    ours.weighting.net = Constant(values)
    ours.weighting.groups.copy_(torch.tensor([0, 1, 2]))
    return loss_of(ours, LOGITS, BATCH)


def test_weights_of_one_are_fixmatch():
    for normalisation in ("mean", "sum"):
        ours = weighted([1.0, 1.0, 1.0], normalisation=normalisation)
        torch.testing.assert_close(ours, loss_of(method("fixmatch"), LOGITS, BATCH))


def test_a_weight_is_that_of_the_guessed_class():
    labelled = loss_of(method("fixmatch", unlabelled=0.0), LOGITS, BATCH)
    losses = [-LOGITS[5].log_softmax(0)[0], -LOGITS[7].log_softmax(0)[2]]
    mean = weighted([0.2, 9.0, 0.6]) - labelled
    torch.testing.assert_close(mean, (0.2 * losses[0] + 0.6 * losses[1]) / 3)
    scaled = weighted([0.2, 9.0, 0.6], normalisation="sum") - labelled
    torch.testing.assert_close(scaled, (0.5 * losses[0] + 1.5 * losses[1]) / 3)


def test_no_sure_guess_and_no_weight_leave_the_labelled_loss():
    labelled = loss_of(method("fixmatch", unlabelled=0.0), LOGITS, BATCH)
    for normalisation in ("mean", "sum"):
        torch.testing.assert_close(weighted([0.5] * 3, threshold=1.0, normalisation=normalisation), labelled)
        torch.testing.assert_close(weighted([0.0] * 3, normalisation=normalisation), labelled)

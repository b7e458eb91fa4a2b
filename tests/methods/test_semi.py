"""Few labels: which samples keep theirs, FixMatch by hand, and CMW-Net's weights on the guesses."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from cmw_pipeline.bias.compose import apply_bias
from cmw_pipeline.bias.few_labels import labelled_sets, labelled_shares
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
from tests.support.tiny import options, task

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


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
def test_each_class_keeps_its_share_of_labels_and_at_least_one(share):
    sets = labelled_shares(LABELS, share, 10, np.random.default_rng(0))
    labelled = sets.sum(axis=1) == 1
    sizes = np.arange(100, 0, -10)
    assert np.bincount(LABELS[labelled]).tolist() == [max(round(share * size), 1) for size in sizes]
    assert (sets[labelled].argmax(axis=1) == LABELS[labelled]).all()
    assert sets[~labelled].all()


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
    assert format_bias(parse_bias("lt-10+labelled-0.3")) == "lt-10+labelled-0.3"
    for name in ("labels-0", "labels-2.5", "labels-nan", "labels-inf", "labels-40+sym-0.2", "labelled-2"):
        with pytest.raises(ValueError, match=r"whole number|go last|lie in"):
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
    defaults = {"threshold": 0.95} if kind.startswith(("fixmatch", "flexmatch")) else {}
    return build(options(kind, **(defaults | changes)), Problem(K, labels, candidates=candidates), 0)


def loss_of(made, logits, batch):
    """The loss of a step, in which the method sees the logits before."""
    made.observe(logits.detach(), batch)
    return made.objective(logits, batch, made.weigh)


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


# --- its successors


WEAK = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.0, 0.9]])


def test_flexmatch_accepts_everything_at_first_and_is_fixmatch_once_all_classes_have_come_as_far():
    ours = method("flexmatch", threshold=0.6)
    assert ours.sure(WEAK, BATCH).tolist() == [1.0, 1.0, 1.0]
    assert ours.chosen.tolist() == [K, K, K, 0, K, 2]
    ours.chosen.copy_(torch.tensor([0, 1, 2, 0, 1, 2]))
    assert ours.progress().tolist() == [1.0, 1.0, 1.0]
    assert ours.sure(WEAK, BATCH).tolist() == [1.0, 0.0, 1.0]


def test_flexmatch_asks_less_of_a_class_that_is_guessed_seldom():
    ours = method("flexmatch", threshold=0.9)
    ours.chosen.copy_(torch.tensor([2, 2, 2, 2, 0, K]))
    torch.testing.assert_close(ours.progress(), torch.tensor([0.25, 0.0, 1.0]))
    assert ours.sure(torch.tensor([[0.4, 0.3, 0.3], [0.1, 0.8, 0.1], [0.05, 0.1, 0.85]]), BATCH).tolist() == [
        1.0,
        1.0,
        0.0,
    ]


def test_freematch_has_one_threshold_while_predictions_are_even():
    ours = method("freematch")
    ours.confidence_mean.fill_(0.75)
    even = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7]])
    assert ours.sure(even, BATCH).tolist() == [1.0, 0.0, 0.0]


def test_freematch_moves_its_means_before_it_asks():
    ours = method("freematch", fairness=0.0)
    ours.sure(WEAK, BATCH)
    third = torch.full((K,), 1 / 3)
    torch.testing.assert_close(ours.confidence_mean, 0.999 * third[0] + 0.001 * WEAK.amax(dim=1).mean())
    torch.testing.assert_close(ours.prediction_mean, 0.999 * third + 0.001 * WEAK.mean(dim=0))
    torch.testing.assert_close(ours.histogram, 0.999 * third + 0.001 * torch.tensor([2.0, 0.0, 1.0]) / 3)


def test_the_fairness_of_freematch_by_hand():
    ours, plain = method("freematch", fairness=0.5), method("freematch", fairness=0.0)
    strong = LOGITS[L + U :]
    found = loss_of(ours, LOGITS, BATCH) - loss_of(plain, LOGITS, BATCH)
    assert ours.current.tolist() == [1.0, 1.0, 1.0]
    a = ours.prediction_mean / ours.histogram
    shown = torch.tensor([2.0, 1.0, 0.0]) / 3
    b = torch.where(shown > 0, strong.softmax(dim=1).mean(dim=0) / shown, 0.0)
    expected = 0.5 * (a / a.sum() * (b / b.sum() + 1e-12).log()).sum()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_weight_of_softmatch_is_a_bell_below_the_mean_confidence():
    ours = method("softmatch")
    ours.mean.fill_(0.9)
    ours.variance.fill_(0.04)
    confidence = torch.tensor([0.95, 0.9 - 0.2, 0.9 - 0.1])
    even = torch.stack([confidence, (1 - confidence) / 2, (1 - confidence) / 2], dim=1)
    ours.prediction_mean.copy_(even.mean(dim=0))  # so that aligning changes nothing but the scale
    aligned = even / even.mean(dim=0)
    seen = (aligned / aligned.sum(dim=1, keepdim=True)).amax(dim=1)
    weights = ours.sure(even, BATCH)
    below = (seen - ours.mean).clamp(max=0)
    torch.testing.assert_close(weights, torch.exp(-2 * below**2 / ours.variance), rtol=1e-3, atol=1e-4)


def test_softmatch_without_steepness_counts_all_guesses():
    assert method("softmatch", steepness=0.0).sure(WEAK, BATCH).tolist() == [1.0, 1.0, 1.0]


def test_softmatch_counts_whole_what_is_as_sure_as_the_mean():
    ours = method("softmatch")
    ours.mean.fill_(0.5)
    weights = ours.sure(torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.34, 0.33, 0.33]]), BATCH)
    assert weights[:2].tolist() == [1.0, 1.0]
    assert 0 < float(weights[2]) < 1


def with_equal_counts(**changes):
    sets = torch.cat([torch.eye(K).bool(), torch.ones(3, K, dtype=torch.bool)])
    problem = Problem(K, torch.tensor([0, 1, 2, 1, 1, 1]), candidates=sets)
    return build(options("abc", threshold=0.95, ramp_epochs=4, **changes), problem, 0)


def test_abc_of_equal_counts_is_fixmatch_of_both_heads():
    ours, other = with_equal_counts(), LOGITS.flip(1)
    for epoch in (0, 4):
        ours.begin_epoch(epoch)
        found = loss_of(ours, torch.cat([LOGITS, other], dim=1), BATCH)
        expected = sum(loss_of(method("fixmatch"), logits, BATCH) for logits in (LOGITS, other))
        torch.testing.assert_close(found, expected)


def test_the_second_head_of_abc_sees_each_class_as_often():
    """Six, two and one labels; guesses are drawn as rarely at the end of the run."""
    labels = torch.tensor([0] * 6 + [1] * 2 + [2])
    ours = build(options("abc", threshold=0.95, ramp_epochs=10), Problem(K, labels), 0)
    torch.testing.assert_close(ours.rarity, torch.tensor([1 / 6, 1 / 2, 1.0]))
    many = 3000
    sure = 20 * torch.eye(K).repeat(many, 1)
    labelled = Batch(torch.zeros(3 * many, 1), torch.arange(K).repeat(many), torch.arange(3 * many))
    batch = Batch(
        torch.zeros(3 * many, 1), labelled.labels, labelled.rows, (torch.zeros(3 * many, 1),), (labelled,)
    )
    torch.manual_seed(0)
    for epoch, chances in ((0, [1.0, 1.0, 1.0]), (5, [7 / 12, 3 / 4, 1.0]), (10, [1 / 6, 1 / 2, 1.0])):
        ours.begin_epoch(epoch)
        ours.observe(torch.cat([sure, sure], dim=1).repeat(3, 1), batch)
        for drawn, expected in ((ours.drawn, [1 / 6, 1 / 2, 1.0]), (ours.counted, chances)):
            shares = drawn.view(many, K).mean(dim=0)
            torch.testing.assert_close(shares, torch.tensor(expected), rtol=0, atol=5 * 0.5 / many**0.5)


def test_a_guess_that_is_not_sure_never_counts_for_abc():
    ours = with_equal_counts()
    ours.observe(torch.cat([LOGITS, 0 * LOGITS], dim=1), BATCH)
    assert ours.current.tolist() == [1.0, 0.0, 1.0]
    assert ours.counted.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", ["flexmatch", "freematch", "softmatch"])
def test_before_they_start_only_labelled_images_count_and_nothing_is_remembered(kind):
    ours = method(kind, start_epoch=1)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    torch.testing.assert_close(
        loss_of(ours, LOGITS, BATCH), loss_of(method("fixmatch", unlabelled=0.0), LOGITS, BATCH)
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())

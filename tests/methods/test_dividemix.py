"""DivideMix: who judges whom, what is guessed in which mode, and the loss written out."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from sklearn.mixture import GaussianMixture
from torch import nn

from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.config.schema import Augment, Network
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.methods.base import Batch, Networks, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.models import registry as models
from cmw_pipeline.models.trunk import load_trunk
from cmw_pipeline.models.twins import Twins
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.batches import Turn
from cmw_pipeline.training.epoch_plan import EpochPlan
from cmw_pipeline.training.loop import train
from tests.support.tiny import CPU, loss_of, state, task

CLASSES, SIZE = 4, 80
LABELS = torch.arange(SIZE) % CLASSES


def dividemix(**changes):
    body = {"kind": "dividemix", "label": "-", "start_epoch": 1, "batch_size": 8} | changes
    return build(TypeAdapter(Options).validate_python(body), Problem(CLASSES, LABELS), 0)


def twins():
    torch.manual_seed(0)
    nets = [
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, CLASSES)
        )
        for _ in range(2)
    ]
    return Twins(nets)


def planted(seed=0):
    """Logits of two networks, and which labels each finds wrong."""
    rng = np.random.default_rng(seed)
    wrong = rng.random((2, SIZE)) < 0.4
    margin = torch.from_numpy(np.where(wrong, rng.normal(-4, 0.5, (2, SIZE)), rng.normal(4, 0.5, (2, SIZE))))
    return [m[:, None] * F.one_hot(LABELS, CLASSES) for m in margin], wrong


def networks(model, logits=None):
    def scan(network):
        return logits[[network is tower for tower in model.towers].index(True)]

    return Networks(model, None, scan)


def judged(epoch=1, **changes):
    method, model = dividemix(**changes), twins()
    logits, wrong = planted()
    method.begin_epoch(epoch)
    method.between_epochs(epoch, networks(model, logits))
    return method, model, wrong


def batches(method, model_views=2, turn=0, size=6):
    rng = torch.Generator().manual_seed(5)

    def one(rows):
        pictures = [torch.randn(len(rows), 1, 8, 8, generator=rng) for _ in range(model_views)]
        return Batch(pictures[0], LABELS[rows], rows, tuple(pictures[1:]), turn=turn)

    labelled, rest = one(torch.arange(size)), one(torch.arange(20, 20 + size))
    return Batch(labelled.images, labelled.labels, labelled.rows, labelled.views, others=(rest,), turn=turn)


def fixed(monkeypatch, lam, partners=None):
    module = "cmw_pipeline.methods.dividemix"
    monkeypatch.setattr(f"{module}.draw_lambda", lambda alpha, device: torch.tensor(lam))
    chosen = (lambda size, device: torch.arange(size).roll(7)) if partners is None else partners
    monkeypatch.setattr(f"{module}.draw_partners", chosen)


# --- warm-up


def test_the_warm_up_is_cross_entropy_on_everything_for_one_network_after_the_other():
    method, model = dividemix(), twins()
    method.begin_epoch(0)
    turns = method.turns(0)
    assert [len(streams) for streams in turns] == [1, 1]
    assert all(stream.rows.tolist() == list(range(SIZE)) for (stream,) in turns)
    images, logits = torch.randn(5, 1, 8, 8), torch.randn(5, CLASSES)
    for number in range(2):
        batch = Batch(images, LABELS[:5], torch.arange(5), turn=number)
        assert method.prepare(batch, networks(model)) is batch
        torch.testing.assert_close(method.logits(model, batch), model(images)[:, number])
        assert torch.equal(loss_of(method, logits, batch), F.cross_entropy(logits, LABELS[:5]))


def test_the_warm_ups_penalty_is_the_negative_entropy():
    method = dividemix(confidence_penalty=0.5)
    logits, batch = torch.randn(5, CLASSES), Batch(torch.empty(5), LABELS[:5], torch.arange(5))
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    expected = F.cross_entropy(logits, LABELS[:5]) - 0.5 * entropy
    torch.testing.assert_close(loss_of(method, logits, batch), expected)


@pytest.mark.parametrize("view", ["weak", "strong"])
def test_the_views_are_the_options(view):
    method, _, _ = judged(gradient_views=view)
    expected = ("weak", "weak") if view == "weak" else ("weak", "weak", "strong", "strong")
    assert all(stream.views == expected for streams in method.turns(1) for stream in streams)
    method = dividemix(warmup_view=view)
    assert [stream.views for (stream,) in method.turns(0)] == [(view,), (view,)]


# --- the split


def test_each_network_is_taught_what_the_other_one_finds_right():
    method, _, wrong = judged()
    for number, (labelled, rest) in enumerate(method.turns(1)):
        assert labelled.rows.tolist() == np.flatnonzero(~wrong[1 - number]).tolist()
        assert rest.rows.tolist() == np.flatnonzero(wrong[1 - number]).tolist()
        assert labelled.batch_size == rest.batch_size == 8


def test_the_posterior_is_sklearns_on_scaled_losses():
    method, _, _ = judged()
    logits, _ = planted()
    for number in range(2):
        losses = F.cross_entropy(logits[number], LABELS, reduction="none").numpy()
        column = ((losses - losses.min()) / (losses.max() - losses.min()))[:, None]
        mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=3).fit(column)
        expected = mixture.predict_proba(column)[:, mixture.means_.argmin()]
        np.testing.assert_allclose(method.posteriors[number], expected, atol=1e-4)


def test_the_last_losses_are_averaged_after_scaling():
    method, model = dividemix(history=2), twins()
    scaled = []
    for epoch in (1, 2, 3):
        logits, _ = planted(epoch)
        method.begin_epoch(epoch)
        method.between_epochs(epoch, networks(model, logits))
        losses = F.cross_entropy(logits[0], LABELS, reduction="none")
        scaled.append((losses - losses.min()) / (losses.max() - losses.min()))
        torch.testing.assert_close(method.past_losses[0, 0].double(), scaled[-1], rtol=1e-5, atol=1e-6)
    both = torch.stack(scaled[-2:]).mean(dim=0).numpy()[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(both)
    expected = mixture.predict_proba(both)[:, mixture.means_.argmin()]
    np.testing.assert_allclose(method.posteriors[0], expected, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_a_network_that_finds_all_alike_leaves_no_stream_empty(value):
    method, _, _ = judged()
    method.posteriors.fill_(value)
    run = task("erm")
    for number, streams in enumerate(method.turns(1)):
        assert all(len(stream.rows) for stream in streams)
        assert Turn.draw(run, 1, number, streams, CPU).steps == SIZE // 8


def test_one_labelled_sample_is_a_step():
    method, _, _ = judged()
    method.posteriors.zero_()
    method.posteriors[:, 7] = 1.0
    labelled, rest = method.turns(1)[0]
    assert labelled.rows.tolist() == [7]
    assert Turn.draw(task("erm"), 1, 0, [labelled, rest], CPU).steps == 1


# --- guessing and mixing


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("views", [2, 4])
def test_targets_and_loss_written_out(monkeypatch, turn, views):
    """Card 12, by loops: guesses on the first two views, mixing of the last two."""
    fixed(monkeypatch, 0.8)
    changes = {"gradient_views": "strong"} if views == 4 else {}
    method, model, _ = judged(lambda_u=30.0, **changes)
    batch = batches(method, views, turn)
    (rest,) = batch.others
    oracle, posterior = copy.deepcopy(model), method.posteriors[1 - turn]
    method.position.fill_(4.0)
    seen = method.prepare(batch, networks(model))

    own, peer = oracle.towers[turn].train(), oracle.towers[1 - turn].eval()
    x, u = [batch.images, *batch.views], [rest.images, *rest.views]
    with torch.no_grad():
        guess = sum(own(v).softmax(1) for v in u[:2]) / 4 + sum(peer(v).softmax(1) for v in u[:2]) / 4
        said = sum(own(v).softmax(1) for v in x[:2]) / 2
    targets = []
    for i, row in enumerate(batch.rows):
        p = posterior[row] * F.one_hot(LABELS[row], CLASSES) + (1 - posterior[row]) * said[i]
        targets.append(p**2 / (p**2).sum())
    targets += targets + [p**2 / (p**2).sum() for p in guess] * 2
    targets, images = torch.stack(targets), torch.cat([*x[-2:], *u[-2:]])
    partner = torch.arange(24).roll(7)
    torch.testing.assert_close(seen.images, 0.8 * images + 0.2 * images[partner])
    mixed = 0.8 * targets + 0.2 * targets[partner]
    torch.testing.assert_close(seen.evidence["targets"], mixed)

    z = torch.randn(24, CLASSES)
    log_p, p = z.log_softmax(1), z.softmax(1)
    expected = -(mixed[:12] * log_p[:12]).sum(1).mean()
    expected += 30.0 * 4 / 16 * ((p[12:] - mixed[12:]) ** 2).mean()
    expected += (0.25 * (0.25 / p.mean(0)).log()).sum()
    torch.testing.assert_close(loss_of(method, z, seen), expected)


def test_the_network_whose_turn_it_is_moves_its_statistics_and_the_other_stands_still():
    method, model, _ = judged()
    for turn in (0, 1):
        before = copy.deepcopy(model).towers
        method.prepare(batches(method, turn=turn), networks(model))
        for number, (old, new) in enumerate(zip(before, model.towers, strict=True)):
            moved = not torch.equal(old[1].running_mean, new[1].running_mean)
            assert moved == (number == turn)
            assert new[1].num_batches_tracked - old[1].num_batches_tracked == (4 if number == turn else 0)
        assert all(tower.training for tower in model.towers)


def test_without_mixing_and_with_trusted_labels_it_is_cross_entropy(monkeypatch):
    fixed(monkeypatch, 1.0)
    method, model, _ = judged(lambda_u=0.0, prior_penalty=0.0)
    method.posteriors.fill_(1.0)
    batch = batches(method)
    seen = method.prepare(batch, networks(model))
    z = torch.randn(24, CLASSES)
    expected = F.cross_entropy(z[:12], batch.labels.repeat(2))
    torch.testing.assert_close(loss_of(method, z, seen), expected)


def test_only_the_labelled_half_is_trained_on_where_asked(monkeypatch):
    fixed(monkeypatch, 0.8)
    whole, model, _ = judged(lambda_u=0.0)
    half, _, _ = judged(trains_on="labelled")
    batch = batches(whole)
    a, b = (method.prepare(batch, networks(copy.deepcopy(model))) for method in (whole, half))
    assert len(b.images) == len(b.evidence["targets"]) == 12
    torch.testing.assert_close(b.images, a.images[:12])
    z = torch.randn(12, CLASSES)
    assert torch.isfinite(loss_of(half, z, b))


def test_the_unlabelled_weight_ramps_with_the_position_in_the_epoch():
    method, model, _ = judged(epoch=1, lambda_u=32.0, ramp_epochs=2)
    found = []
    for epoch in (1, 2, 3):
        method.begin_epoch(epoch)
        method.between_epochs(epoch, networks(model, planted()[0]))
        steps = len(method.turns(epoch)[1][0].rows) // 8
        for _ in range(steps):
            seen = method.prepare(batches(method, turn=1), networks(model))
            found.append(seen.evidence["lambda_u"].item())
    expected = [32 * min((epoch + step / steps) / 2, 1) for epoch in range(3) for step in range(steps)]
    assert found == pytest.approx(expected, abs=1e-4)


# --- in the loop


def test_a_turn_trains_its_own_network_only(tmp_path):
    run = task("dividemix", start_epoch=0, batch_size=4)
    found = state(run, "dividemix", start_epoch=0, batch_size=4)
    start = copy.deepcopy(found.model)

    class AfterOne(StopRequest):
        def __bool__(self):
            self.reason = "the test"
            return True

    with pytest.raises(Exception, match="stopped"):
        train(run, found, AfterOne(), tmp_path)
    moved = [
        any(not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
        for old, new in zip(start.towers, found.model.towers, strict=True)
    ]
    assert moved == [True, False]


def test_augdescs_four_views_train_on_grey_pictures(tmp_path):
    changes = {"start_epoch": 1, "batch_size": 4, "gradient_views": "strong", "warmup_view": "strong"}
    run = task("dividemix", **changes)
    found = state(run, "dividemix", **changes)
    train(run, found, StopRequest(), tmp_path)
    assert len(found.records) == 3
    assert all(np.isfinite(record["train_loss"]) for record in found.records)


def test_strong_pictures_of_grey_digits_keep_their_shape_and_are_not_the_weak_ones():
    pixels = np.random.default_rng(0).integers(0, 255, (100, 8, 8, 1)).astype(np.uint8)
    store = ImageStore.put(pixels, (0.3,), (0.3,), Augment(), CPU)
    plan = EpochPlan.draw(np.arange(100), 100, 1, Augment(), np.random.default_rng(1), 1, (8, 8))
    draws = plan.batch(0)
    strong = store.strong(draws)
    assert strong.shape == (100, 1, 8, 8)
    changed = (strong != store.augmented(draws)).flatten(1).any(dim=1)
    assert changed.sum() >= 30


def test_both_networks_start_from_the_run_named_first():
    method = dividemix(first={"method": "simclr"}, start_epoch=5)
    assert method.facts.starts_from_first
    first = models.build(Network(name="small-cnn", width=4), 1, CLASSES, 7, "probe")
    model = models.build(
        Network(name="small-cnn", width=4), 1, CLASSES, 8, method.facts.head, method.facts.towers
    )
    load_trunk(model, first.state_dict())
    for tower in model.towers:
        torch.testing.assert_close(tower.features.state_dict(), first.features.state_dict())
    assert not torch.equal(model.towers[0].classifier.weight, model.towers[1].classifier.weight)

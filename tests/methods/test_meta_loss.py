"""Meta losses that read no label: their limits, and that no label reaches a weighting that learns by them."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from cmw_pipeline.methods import meta_loss
from cmw_pipeline.methods.base import Batch
from cmw_pipeline.models.trunk import features_noted
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training import step
from cmw_pipeline.training.batches import pick_meta_rows
from cmw_pipeline.training.loop import train
from tests.methods.test_pairs import by_double_backward, double  # noqa: F401
from tests.support.tiny import network, options, recipe, state, task

LABEL_FREE = ["dac-mr", "clid-mu"]
ANY = {"meta_set": "any-12", "meta_batch": 8}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- DAC-MR


def test_consistency_with_a_decided_view_is_cross_entropy_with_what_it_says():
    strong, says = drawn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    found = meta_loss.consistency(1000.0 * F.one_hot(says, 4).double(), strong)
    torch.testing.assert_close(found, F.cross_entropy(strong, says))


def test_consistency_vanishes_where_both_views_say_the_same_of_the_sharpened_one():
    weak = drawn(6, 4)
    strong = (4 * weak).requires_grad_()
    loss = meta_loss.consistency(weak, strong)
    (slope,) = torch.autograd.grad(loss, strong)
    assert abs(float(loss.detach())) < 1e-12
    assert float(slope.abs().max()) < 1e-12


def test_consistency_teaches_by_the_second_view_alone():
    weak, strong = drawn(6, 4).requires_grad_(), drawn(6, 4, seed=1).requires_grad_()
    of_weak, of_strong = torch.autograd.grad(
        meta_loss.consistency(weak, strong), [weak, strong], materialize_grads=True
    )
    assert float(of_weak.abs().max()) == 0 < float(of_strong.abs().max())


# --- CLID-MU


def test_with_equal_features_the_divergence_is_log_m_whatever_is_predicted():
    for seed in range(3):
        found = meta_loss.divergence_of_neighbours(drawn(8, 4, seed=seed), torch.ones(8, 5).double())
        assert float(found) == pytest.approx(math.log(8), rel=1e-5)


def test_predictions_that_follow_two_far_clusters_diverge_less_than_shuffled_ones():
    cluster = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    features = F.one_hot(cluster, 2).double() + 0.01 * drawn(8, 2)
    says = 20.0 * F.one_hot(cluster, 4).double()
    shuffled = says[torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])]
    found = [meta_loss.divergence_of_neighbours(z, features) for z in (says, shuffled)]
    assert float(found[0]) < float(found[1])


def test_the_divergence_by_its_sums():
    logits, features = drawn(5, 3), drawn(5, 4, seed=1)
    total = 0.0
    p = logits.softmax(dim=1)
    for i in range(5):
        near = [max(float(F.cosine_similarity(features[i], features[j], dim=0)) / 0.5, 0) for j in range(5)]
        alike = [float(F.cosine_similarity(p[i], p[j], dim=0)) for j in range(5)]
        mass = sum(math.exp(s) for s in near)
        total += sum(
            w / sum(alike) * -math.log(math.exp(s) / mass + 1e-7) for w, s in zip(alike, near, strict=True)
        )
    found = meta_loss.divergence_of_neighbours(logits, features)
    assert float(found) == pytest.approx(total / 5, rel=1e-9)


def test_the_features_are_what_the_output_layer_was_last_given():
    model, notes = network(dropout=0.0), {}
    images = torch.rand(6, 1, 8, 8)
    with features_noted(model, notes):
        logits = model(images)
    torch.testing.assert_close(model.classifier(notes["features"]), logits)
    assert not notes["features"].requires_grad
    notes.clear()
    model(images)
    assert notes == {}


# --- in training


@pytest.mark.parametrize("kind", LABEL_FREE)
@pytest.mark.parametrize("weighting", ["mw-net", "cmw-net", "l2rw", "mcw"])
@pytest.mark.usefixtures("double")
def test_the_meta_gradient_is_that_of_double_backward_in_every_step(kind, weighting, tmp_path, monkeypatch):
    steps = []
    original = step.lookahead_gradient

    def compared(forward, objective, images, meta_objective, lr, theta, drift):
        found = original(forward, objective, images, meta_objective, lr, theta, drift)
        expected = by_double_backward(forward, objective, images, meta_objective, lr, theta, drift)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-10)
        steps.append(max(float(slope.abs().max()) for slope in found))
        return found

    monkeypatch.setattr(step, "lookahead_gradient", compared)
    pair, changes = f"erm/{weighting}", {"weighting": ANY | {"meta_loss": kind}}
    run = task(pair, recipe=recipe(epochs=2), **changes)
    train(run, state(run, pair, dropout=0.0, **changes), StopRequest(), tmp_path)
    assert len(steps) >= 2
    assert max(steps) > 0


@pytest.mark.parametrize("kind", LABEL_FREE)
def test_labels_of_the_meta_batch_change_nothing(kind):
    images, labels = torch.rand(8, 1, 8, 8), torch.arange(8) % 4
    made = meta_loss.meta_loss(options("erm/mw-net", weighting=ANY | {"meta_loss": kind}).weighting)
    said = []
    for given in (labels, labels.flip(0)):
        features = {"features": drawn(8, 5)}
        batch = made.prepare(Batch(images, given, torch.arange(8), (images.flip(3),), evidence=features))
        said.append(made.of(drawn(len(batch.images), 4), batch))
    assert torch.equal(*said)


def test_dac_mr_shows_two_views_side_by_side():
    images, other = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    batch = meta_loss.DacMr().prepare(Batch(images, torch.arange(4), torch.arange(4), (other,)))
    weak, strong = batch.images.chunk(2)
    assert torch.equal(weak, images)
    assert torch.equal(strong, other)


# --- the meta-set


def test_any_k_is_k_training_samples_in_all_the_same_in_every_epoch():
    run = task("erm/mw-net", weighting=ANY | {"meta_loss": "clid-mu"})
    rows = pick_meta_rows(run, 0, run.meta, None)
    assert len(rows) == len(set(rows.tolist())) == 12
    assert rows.max() < run.num_train
    assert torch.equal(rows, pick_meta_rows(run, 1, run.meta, None))
    other = pick_meta_rows(dataclasses.replace(run, seed=1), 0, run.meta, None)
    assert not torch.equal(rows, other)


@pytest.mark.parametrize(
    ("weighting", "words"),
    [
        (ANY, "any-12 takes samples whatever their labels"),
        (ANY | {"meta_loss": "dac-mr", "meta_mixup": 1.0}, "meta_mixup mixes labels, and dac-mr reads none"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(weighting, words):
    with pytest.raises(ValidationError) as refused:
        options("erm/mw-net", weighting=weighting)
    (problem,) = refused.value.errors()
    assert words in problem["msg"]

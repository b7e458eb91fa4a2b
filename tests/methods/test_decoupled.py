"""Methods that change the output layer of a plain run: post-hoc logit adjustment, tau-norm and cRT."""

import numpy as np
import pytest
import torch

from cmw_pipeline.methods.registry import build
from cmw_pipeline.models import registry as models
from cmw_pipeline.models.trunk import freeze_trunk, output_layer
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.loop import train
from tests.support.tiny import TRAIN, network, options, recipe, state, task
from tests.training.test_resume import finished

IMAGES = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def method(kind, **changes):
    return build(options(kind, **changes), task(kind, **changes).problem, seed=0)


def logits_of(model):
    with torch.no_grad():
        return model.eval()(IMAGES)


@pytest.mark.parametrize("kind", ["post-hoc", "tau-norm"])
def test_trained_as_erm_and_changed_once_at_the_end(kind, tmp_path):
    plain = finished(tmp_path / "plain", "erm", {})
    ours = finished(tmp_path / "ours", kind, {})
    for ended, model in ((plain, plain.model), (ours, ours.model)):
        assert ended.records[0]["scores"] == plain.records[0]["scores"]
        assert model.features[0].weight.equal(plain.model.features[0].weight)
    made = method(kind)
    for network_of_plain, network_of_ours in (
        (plain.model, ours.model),
        (plain.teacher.module, ours.teacher.module),
    ):
        made.finish(network_of_plain)
        assert logits_of(network_of_plain).equal(logits_of(network_of_ours))


def test_post_hoc_adjustment_takes_the_log_prior_from_the_logits():
    made, model = method("post-hoc", tau=1.5), network(dropout=0.0)
    before = logits_of(model)
    made.finish(model)
    prior = torch.tensor([16, 12, 8, 4]) / TRAIN
    torch.testing.assert_close(logits_of(model), before - 1.5 * prior.log())


def test_at_tau_1_all_class_vectors_have_one_length_and_at_0_only_the_bias_goes():
    model = network(dropout=0.0)
    layer = output_layer(model)
    before, bias = logits_of(model), layer.bias.detach().clone()
    method("tau-norm", tau=0.0).finish(model)
    torch.testing.assert_close(logits_of(model), before - bias)
    direction = torch.nn.functional.normalize(layer.weight.detach())
    method("tau-norm", tau=1.0).finish(model)
    torch.testing.assert_close(layer.weight.detach(), direction)


def test_an_epoch_of_crt_has_as_many_samples_of_each_class_and_all_of_them_in_turn():
    made = method("crt")
    labels = np.repeat(np.arange(4), [16, 12, 8, 4])
    seen = set()
    for epoch in range(2):
        ((stream,),) = made.turns(epoch)
        assert np.bincount(labels[stream.rows]).tolist() == [10] * 4
        seen |= set(stream.rows.tolist())
    assert seen == set(range(TRAIN))


@pytest.mark.parametrize("name", ["small-cnn", "resnet32", "fast-cnn", "small-vgg"])
def test_a_frozen_trunk_is_bit_for_bit_the_same_after_training(name, tmp_path):
    run = task("crt", recipe=recipe(head_only=True))
    begun = state(run, "crt")
    begun.model = models.build(recipe(network={"name": name, "width": 4}).network, 1, 4, 0)
    begun.teacher = None
    freeze_trunk(begun.model)
    begun.optimizer = type(begun.optimizer)(begun.model.parameters(), run.recipe.optimizer)
    before = {key: tensor.clone() for key, tensor in begun.model.state_dict().items()}
    train(run, begun, StopRequest(), tmp_path)
    changed = {key for key, tensor in begun.model.state_dict().items() if not tensor.equal(before[key])}
    assert changed == {"classifier.weight", "classifier.bias"}

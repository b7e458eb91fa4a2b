"""A fit on samples in memory: what it learns, what it remembers, how it goes on."""

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from cmw_pipeline.audit.fit import Part, Samples, Way, fit, probabilities
from cmw_pipeline.audit.scores import TrajectoryMargin
from cmw_pipeline.config.methods import Method
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.errors import Preempted
from cmw_pipeline.runtime.signals import StopRequest

CLASSES, NONE = 3, np.empty(0, np.int64)
RECIPE = {"network": {"name": "linear"}, "optimizer": {"lr": 0.1}, "epochs": 4, "batch_size": 20, "ema": 0.9}
CMW = {"kind": "cmw-net", "meta_set": "lowest-10", "meta_batch": 10}
SL = {"kind": "soft-labels", "label": "-", "start_epoch": 1, "weighting": CMW}


def way(options=SL, **recipe):
    method = TypeAdapter(Method).validate_python(options)
    return Way(method, Recipe.model_validate(RECIPE | recipe), CLASSES, 0, torch.device("cpu"))


def clusters(each=40):
    """Three clusters, and labels of which every seventh is wrong."""
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(CLASSES), each)
    values = (rng.normal(size=(len(true), 5)) + 3 * np.eye(5)[true]).astype(np.float32)
    given = np.where(np.arange(len(true)) % 7 == 0, (true + 1) % CLASSES, true)
    return Samples(values, scale=Scale.of(values)), true, given


def part(labels, **changes):
    return dataclasses.replace(Part("all", np.arange(len(labels)), labels, NONE, NONE), **changes)


@pytest.mark.parametrize("trusted", [NONE, np.arange(1, 100, 7)])
def test_margins_tell_the_wrong_labels(tmp_path, trusted):
    samples, true, given = clusters()
    margin = TrajectoryMargin(len(given), CLASSES)
    done = fit(samples, part(given, trusted=trusted), way(), StopRequest(), tmp_path, margin)
    assert margin.updates.tolist() == [4] * len(given)
    scores, wrong = margin.scores(given), given != true
    assert np.median(scores[wrong]) > np.quantile(scores[~wrong], 0.95)
    found = probabilities(done.network, samples, np.arange(len(given)), way().recipe, torch.device("cpu"))
    assert (found.argmax(axis=1) == true).mean() > 0.9
    losses, weights = done.losses_and_weights()
    assert losses[wrong].mean() > losses[~wrong].mean()
    assert ((weights > 0) & (weights < 1)).all()


class StopAfter(StopRequest):
    """Asks to stop when it has been looked at so many times."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def __bool__(self):
        self.looks -= 1
        self.reason = "a test" if self.looks < 0 else None
        return self.looks < 0


@pytest.mark.parametrize("looks", [0, 6, 13])
def test_a_fit_that_is_stopped_goes_on_to_the_same_margins(tmp_path, looks):
    samples, _, given = clusters()
    whole, halted, parts = (TrajectoryMargin(len(given), CLASSES) for _ in range(3))
    fit(samples, part(given), way(), StopRequest(), tmp_path / "whole", whole)
    with pytest.raises(Preempted):
        fit(samples, part(given), way(), StopAfter(looks), tmp_path / "parts", halted)
    fit(samples, part(given), way(), StopRequest(), tmp_path / "parts", parts)
    assert torch.equal(whole.total, parts.total)


def test_a_class_smaller_than_the_meta_set_makes_the_meta_set_smaller(tmp_path):
    samples, _, given = clusters()
    rows = np.concatenate([np.flatnonzero(given != 2), np.flatnonzero(given == 2)[:2]])
    done = fit(samples, part(given, rows=rows), way(), StopRequest(), tmp_path)
    assert done.task.meta.per_class == 2


def test_fewer_samples_than_a_batch_are_one_batch(tmp_path):
    samples, _, given = clusters()
    rows = np.arange(0, 120, 10)
    done = fit(samples, part(given, rows=rows), way(), StopRequest(), tmp_path)
    assert done.state.iteration == RECIPE["epochs"]

"""ActiveBias: its weights are those of the whole history, of which it keeps three numbers a sample."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from cmw_pipeline.methods.base import Batch, Problem
from cmw_pipeline.methods.registry import build
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.loop import train
from tests.support.tiny import CLASSES, loss_of, options, recipe, state, task

LABELS = torch.repeat_interleave(torch.arange(CLASSES), 6)


def method(**changes):
    made = build(options("active-bias", **({"start_epoch": 1} | changes)), Problem(CLASSES, LABELS), seed=1)
    made.begin_epoch(1)
    return made


def batch(rows):
    rows = torch.as_tensor(rows)
    return Batch(torch.empty(0), LABELS[rows], rows)


def logits(probability):
    """(B, K) logits that give the labels these probabilities, the rest in equal parts."""
    p = torch.as_tensor(probability, dtype=torch.float32)
    return p, torch.log((1 - p) / (CLASSES - 1))


def step(made, rows, probabilities):
    data = batch(rows)
    own, rest = logits(probabilities)
    z = rest[:, None].expand(-1, CLASSES).clone()
    z[torch.arange(len(rows)), data.labels] = own.log()
    return loss_of(made, z, data), F.cross_entropy(z, data.labels, reduction="none")


def expected(histories, smoothing):
    """The published formula on whole histories; an empty or single one has no variance."""
    weights = []
    for history in histories:
        v, n = (np.var(history) if history else 0.0), len(history)
        weights.append(np.sqrt(v + v**2 / max(n - 1, 1)) + smoothing)
    return np.array(weights) / np.mean(weights)


def test_weights_are_the_formula_on_the_history_before_this_step():
    made, rng = method(smoothing=0.1), np.random.default_rng(0)
    histories = {row: [] for row in range(len(LABELS))}
    for size in (24, 9, 24, 5, 24):
        rows = rng.permutation(len(LABELS))[:size]
        probabilities = rng.uniform(0.05, 0.95, size)
        weights = expected([histories[row] for row in rows], 0.1)
        loss, losses = step(made, rows, probabilities)
        assert loss.item() == pytest.approx(float((torch.from_numpy(weights) * losses).mean()), rel=1e-5)
        for row, probability in zip(rows, probabilities, strict=True):
            histories[row].append(probability)
    found = made.weights(torch.zeros(24), batch(range(24)))
    np.testing.assert_allclose(found, expected([histories[row] for row in range(24)], 0.1), rtol=1e-4)


def test_who_changes_their_mind_counts_more_and_the_mean_is_one():
    made = method()
    for epoch in range(6):
        step(made, [0, 1, 2], [0.9, 0.5, 0.9 if epoch % 2 else 0.1])
    weights = made.weights(torch.zeros(3), batch([0, 1, 2]))
    assert weights[2] > 2 * weights[0] and weights[0].item() == pytest.approx(weights[1].item())
    assert weights.mean().item() == pytest.approx(1)


def test_before_its_start_epoch_it_is_plain_cross_entropy_and_remembers_all_the_same():
    made = method(start_epoch=4)
    for probability in (0.1, 0.9):
        loss, losses = step(made, [3, 8], [probability, 0.5])
        assert loss.item() == pytest.approx(losses.mean().item())
    made.begin_epoch(4)
    first, second = made.weights(torch.zeros(2), batch([3, 8]))
    assert first > second


@pytest.mark.parametrize("smoothing", [1e6, 0.01])
def test_much_smoothing_trains_exactly_as_erm_and_little_does_not(tmp_path, smoothing):
    ends = []
    for kind, changes in (("erm", {}), ("active-bias", {"start_epoch": 1, "smoothing": smoothing})):
        run = task(kind, recipe=recipe(ema=None), **changes)
        end = state(run, kind, **changes)
        train(run, end, StopRequest(), tmp_path / kind)
        ends.append(torch.cat([p.detach().flatten() for p in end.model.parameters()]))
    assert torch.allclose(*ends, rtol=1e-4, atol=1e-5) == (smoothing > 1)


def test_without_a_history_or_smoothing_there_is_nothing_to_weigh_by():
    for wrong in ({"start_epoch": 0}, {"smoothing": 0.0}):
        with pytest.raises(ValidationError):
            options("active-bias", **wrong)

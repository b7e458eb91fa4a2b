"""What a GPU must do as the CPU does, or as the step written out does. Skipped where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cmw_pipeline.config.schema import Augment
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.meta.tangent import Forward, LowMemoryForward
from cmw_pipeline.models.resnet32 import ResNet32
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.batches import Turn, meta_plan, show
from cmw_pipeline.training.epoch_plan import EpochPlan
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.program import Iterations
from tests.support.tiny import recipe, state, task
from tests.training.test_program import STEADY, difference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")


def on_gpu(kind, **changes):
    """The tiny task, its tensors on the GPU."""
    run = task(kind, recipe=recipe(**changes))
    store = replace(run.store, **{n: getattr(run.store, n).to(GPU) for n in ("padded", "mean", "std")})
    test = replace(
        run.test_store, **{n: getattr(run.test_store, n).to(GPU) for n in ("padded", "mean", "std")}
    )
    tensors = ("labels", "first_logits", "candidates")
    problem = replace(run.problem, **{n: getattr(run.problem, n).to(GPU) for n in tensors})
    labels, test_labels = run.labels.to(GPU), run.test_labels.to(GPU)
    return replace(run, store=store, test_store=test, problem=problem, labels=labels, test_labels=test_labels)


def finished(folder, kind, **changes):
    run = on_gpu(kind, **changes)
    final = state(run, kind, dropout=0.0)
    for part in (final.model, final.method, final.optimizer, final.teacher):
        if part is not None:
            part.to(GPU)
    final.device, final.loss_sum = GPU, final.loss_sum.to(GPU)
    final.meta_rows = final.meta_rows.to(GPU)
    torch.manual_seed(2)
    train(run, final, StopRequest(), folder)
    return final


def test_the_same_draws_give_the_same_pictures_to_the_bit():
    augment = Augment(pad=4, pad_mode="reflect", flip=True, cutout=8)
    images = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    plan = EpochPlan.draw(np.arange(50), 50, 3, augment, np.random.default_rng(1))
    stores = [ImageStore.put(images, (0.5,) * 3, (0.2,) * 3, augment, d) for d in (torch.device("cpu"), GPU)]
    for step in range(3):
        here = stores[0].augmented(plan.batch(step))
        there = stores[1].augmented(plan.to(GPU).batch(step))
        assert torch.equal(here, there.cpu())


@pytest.mark.parametrize("way", [Forward, LowMemoryForward])
def test_the_tape_has_a_rule_for_every_operation_on_a_gpu(way):
    """cuDNN's batch norm is another operation than the CPU's."""
    torch.manual_seed(0)
    model = ResNet32(3, 10, 8).to(GPU).double()
    images = torch.randn(6, 3, 32, 32, dtype=torch.float64, device=GPU)
    forward = way(model, images)
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    torch.testing.assert_close(forward.replayed(direction), forward.repeated(direction), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", STEADY)
def test_captured_is_the_step_written_out(tmp_path, kind):
    changes = {"epochs": 4}
    plain = finished(tmp_path / "plain", kind, **changes)
    assert difference(finished(tmp_path / "captured", kind, capture=True, **changes), plain) < 1e-3


def test_an_iteration_never_waits_for_the_host():
    run = on_gpu("erm/cmw-net")
    current = state(run, "erm/cmw-net", dropout=0.0)
    for part in (current.model, current.method, current.optimizer, current.teacher):
        part.to(GPU)
    current.device, current.loss_sum = GPU, current.loss_sum.to(GPU)
    turn = Turn.draw(run, 0, 0, current.method.turns(0)[0], GPU)
    metas = meta_plan(run, 0, turn.steps, torch.arange(40, 48, device=GPU))
    iterations = Iterations(current, run.recipe)
    iterations.run(turn.batch(run, 0), show(run, metas, 0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        iterations.run(turn.batch(run, 1), show(run, metas, 1))
    finally:
        torch.cuda.set_sync_debug_mode("default")

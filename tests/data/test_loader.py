"""Batches are what a naive loop over the pictures gives, in an order that only (seed, epoch) decide."""

import numpy as np
import pytest
import torch

from cmw_pipeline.config.schema import Augment
from cmw_pipeline.data.loader import ImageStore
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.training import loop, program
from cmw_pipeline.training.epoch_plan import EpochPlan
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.step import training_step
from tests.support.tiny import state, task

CPU = torch.device("cpu")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def pictures(count=7, height=6, width=5, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels)).astype(np.uint8)


def put(images, augment):
    channels = images.shape[3]
    return ImageStore.put(images, MEAN[:channels], STD[:channels], augment, CPU)


def normalised(picture):
    """(H, W, C) uint8 -> (C, H, W), in the float32 arithmetic that is promised: (x - 255 m) / (255 s)."""
    channels = picture.shape[2]
    mean, std = (np.float32(255) * np.array(v[:channels], np.float32) for v in (MEAN, STD))
    return ((picture.astype(np.float32) - mean) / std).transpose(2, 0, 1)


def naive(picture, augment, shift, flip, hole=None):
    """Pad, crop, mirror, normalise, cut a hole: one picture at a time."""
    pad = augment.pad
    mode = {"zero": "constant", "reflect": "reflect"}[augment.pad_mode]
    padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    height, width = picture.shape[:2]
    crop = padded[shift[0] : shift[0] + height, shift[1] : shift[1] + width]
    picture = normalised(crop[:, ::-1] if flip else crop)
    if hole is not None:
        top, left, side = hole
        picture[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
    return picture


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "augment",
    [
        Augment(pad=2, pad_mode="zero", flip=True),
        Augment(pad=4, pad_mode="reflect", flip=True),
        Augment(pad=1, pad_mode="reflect"),
        Augment(pad=0, flip=True),
        Augment(),
        Augment(pad=1, flip=True, cutout=3),
    ],
    ids=str,
)
def test_augmented_pictures_equal_a_naive_reference_exactly(augment, channels):
    images = pictures(channels=channels)
    store = put(images, augment)
    plan = EpochPlan.draw(np.arange(7), 7, 20, augment, np.random.default_rng(1), views=2, size=store.size)
    for step in range(20):
        for view in range(2):
            draws = plan.batch(step, view)
            holes = [None] * 7 if draws.hole is None else draws.hole.tolist()
            rows, shifts, flips = (t.tolist() for t in (draws.rows, draws.shift, draws.flip))
            found = store.augmented(draws).numpy()
            for row, shift, flip, hole, picture in zip(rows, shifts, flips, holes, found, strict=True):
                assert (picture == naive(images[row], augment, shift, flip, hole)).all()


def test_holes_reach_every_pixel_and_two_views_of_a_sample_differ():
    augment = Augment(pad=2, flip=True, cutout=2)
    plan = EpochPlan.draw(np.arange(50), 50, 40, augment, np.random.default_rng(5), views=2, size=(6, 5))
    top, left, side = plan.hole.flatten(0, 1).T
    assert (int(top.min()), int(top.max()), int(left.min()), int(left.max())) == (-1, 4, -1, 3)
    assert set(side.tolist()) == {2}
    assert not torch.equal(plan.shift[:, 0], plan.shift[:, 1])


def test_a_strong_view_is_a_changed_picture_that_its_seed_decides_alone():
    store = put(pictures(height=8, width=8), Augment())
    plan = EpochPlan.draw(np.arange(7), 7, 2, Augment(), np.random.default_rng(1), views=2)
    before = torch.get_rng_state()
    first = store.strong(plan.batch(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(store.strong(plan.batch(0)), first)
    part = slice(3, 6)  # another process's share of the batch, say
    assert torch.equal(store.strong(plan.batch(0).part(part)), first[part])
    assert first.shape == (7, 3, 8, 8)
    assert not torch.equal(first, store.plain(plan.batch(0).rows))
    assert not torch.equal(first, store.strong(plan.batch(0, 1)))
    assert len(plan.seed.unique()) == plan.seed.numel() == 2 * 2 * 7


@pytest.mark.parametrize(
    "augment", [Augment(), Augment(pad=3, pad_mode="reflect", flip=True), Augment(pad=1)]
)
def test_plain_pictures_are_normalised_and_nothing_else(augment):
    images = pictures()
    found = put(images, augment).plain(torch.tensor([6, 0, 6]))
    assert found.dtype == torch.float32
    assert (found.numpy() == np.stack([normalised(images[row]) for row in (6, 0, 6)])).all()


def test_every_shift_and_flip_is_drawn_and_none_beyond_the_padding():
    plan = EpochPlan.draw(np.arange(100), 50, 40, Augment(pad=2, flip=True), np.random.default_rng(2))
    seen = np.unique(np.column_stack([plan.shift[:, 0].numpy(), plan.flip.numpy()]), axis=0)
    assert len(seen) == 5 * 5 * 2
    assert (int(plan.shift.min()), int(plan.shift.max())) == (0, 4)
    assert 0.45 < float(plan.flip.double().mean()) < 0.55
    still = EpochPlan.draw(np.arange(100), 50, 2, Augment(), np.random.default_rng(2))
    assert not still.shift.any()
    assert not still.flip.any()


def test_all_batches_are_full_and_no_sample_comes_twice_in_a_pass():
    plan = EpochPlan.draw(np.arange(23), 5, 4, Augment(), np.random.default_rng(3))
    assert [len(plan.batch(step).rows) for step in range(4)] == [5] * 4
    assert len(set(plan.rows.tolist())) == 20  # three of 23 sit this epoch out
    assert set(plan.rows.tolist()) <= set(range(23))


def test_who_sits_an_epoch_out_changes_from_epoch_to_epoch():
    left_out = set()
    for epoch in range(200):
        plan = EpochPlan.draw(np.arange(11), 5, 2, Augment(), stream(0, "batches", epoch))
        left_out |= set(range(11)) - set(plan.rows.tolist())
    assert left_out == set(range(11))


def test_a_small_pool_is_cycled_pass_by_pass():
    pool = np.array([40, 41, 42, 43, 44, 45, 46])
    plan = EpochPlan.draw(pool, 3, 9, Augment(), np.random.default_rng(4))
    passes = plan.rows[:24].reshape(-1, 6)  # two full batches of three a pass, one of seven left out
    for rows in passes.tolist():
        assert len(set(rows)) == 6
        assert set(rows) <= set(pool.tolist())
    assert [len(plan.batch(step).rows) for step in range(9)] == [3] * 9
    assert set(plan.rows.tolist()) == set(pool.tolist())


def plans_of(run, epoch, resumed_from=None):
    current = state(run, "erm/cmw-net" if run.meta else "erm")
    current.epoch = epoch
    current.method.begin_epoch(epoch)
    current.meta_rows = torch.arange(40, 48)
    current.step = resumed_from or 1  # not the first: nothing is picked anew
    (turn,), metas = loop._begin_epoch(run, current)
    return turn.plans[0], metas


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("rows", "shift", "flip"))


def test_an_epochs_plan_depends_on_seed_and_epoch_alone():
    first = plans_of(task(), 2)
    np.random.default_rng().random(3)
    np.random.seed(3)
    torch.manual_seed(99)
    torch.set_num_threads(2)
    for epoch in (0, 1, 5):
        plans_of(task(), epoch)
    again = plans_of(task(), 2)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], plans_of(task(), 3)[0])
    assert not same(first[0], plans_of(task(seed=1), 2)[0])


def test_all_methods_of_a_seed_see_the_same_samples_in_the_same_order(monkeypatch, tmp_path):
    """Otherwise a comparison of methods is one of orders."""
    seen = {}

    def spy(model, method, optimizer, batch, meta_batch, *ways):
        seen[kind].append((batch.rows.clone(), batch.images.clone()))
        return training_step(model, method, optimizer, batch, meta_batch, *ways)

    monkeypatch.setattr(program, "training_step", spy)
    for kind in ("erm", "erm/mw-net", "erm/cmw-net"):
        seen[kind] = []
        run = task(kind)
        train(run, state(run, kind), loop.StopRequest(), tmp_path / kind)
    assert len(seen["erm"]) == 12
    for kind in ("erm/mw-net", "erm/cmw-net"):
        for ours, theirs in zip(seen["erm"], seen[kind], strict=True):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_order_does_not_depend_on_how_many_threads_there_are(threads):
    torch.set_num_threads(threads)
    rows = plans_of(task(), 0)[0].rows
    assert rows.tolist()[:10] == stream(0, "batches", 0).permutation(np.arange(40))[:10].tolist()

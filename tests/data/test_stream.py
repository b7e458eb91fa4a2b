"""Image files that are decoded as training goes: the same pictures whoever decodes them, and exact resume."""

import dataclasses
import gc
import io
import multiprocessing
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as reference

from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.schema import Picture, Recipe
from cmw_pipeline.config.weightings import MetaLearned
from cmw_pipeline.data.listings import read_class_folders
from cmw_pipeline.data.loader import Ask, Draws, ImageStore
from cmw_pipeline.data.pictures import at_random, in_full
from cmw_pipeline.data.stream import FileStore
from cmw_pipeline.data.survey import survey
from cmw_pipeline.errors import IntegrityError, Preempted, SystemFault
from cmw_pipeline.meta.optimizers import Sgd
from cmw_pipeline.methods import registry as methods
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.models import registry as models
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.batches import Meta, Task
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.epoch_plan import EpochPlan
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.state import TrainState
from tests.support import trees
from tests.support.processes import environment
from tests.support.tiny import CPU, options, recipe

CLASSES, SIDE = 4, 16
PICTURE = Picture(side=SIDE, resize=20)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = trees.class_folders(tmp_path_factory.mktemp("tree"), CLASSES, train=12, test=5)
    files, _ = survey(root, read_class_folders(root, FACTS[f"folder-{CLASSES}"]), workers=0)
    return root, files


def store(tree, split="train", picture=PICTURE, workers=0):
    root, files = tree
    files = pa.Table.from_pandas(files[files["split"] == split], preserve_index=False)
    return FileStore(root, files, picture, MEAN, STD, CPU, workers)


def task(tree, kind="erm", workers=0, crop="random", **changes):
    _, files = tree
    opts = options(kind, **changes)
    run = recipe(
        epochs=3,
        augment={"flip": True},
        picture={"side": SIDE, "resize": 20, "crop": crop},
        network={"name": "small-cnn", "width": 4},
    )
    labels = {part: torch.from_numpy(rows["label"].to_numpy()) for part, rows in files.groupby("split")}
    meta = None
    weighting = opts.weighting
    if isinstance(weighting, MetaLearned):
        rule = parse_meta(weighting.meta_set)
        meta = Meta(rule, rule.per_class or 2, weighting.meta_batch, weighting.meta_every)
    return Task(
        recipe=run,
        seed=0,
        problem=Problem(CLASSES, labels["train"]),
        store=store(tree, workers=workers, picture=run.picture),
        labels=labels["train"],
        test_store=store(tree, "test", workers=workers, picture=run.picture),
        test_labels=labels["test"],
        meta=meta,
    )


def state(task, kind="erm", **changes):
    method = methods.build(options(kind, **changes), task.problem, seed=1)
    model = models.build(task.recipe.network, 3, CLASSES, 0, method.facts.head, method.facts.towers)
    torch.manual_seed(2)
    return TrainState(
        model=model,
        method=method,
        optimizer=Sgd(model.parameters(), task.recipe.optimizer),
        teacher=Teacher(model),
        device=CPU,
        meta_rows=torch.empty(0, dtype=torch.int64),
        loss_sum=torch.zeros((), dtype=torch.float64),
    )


KINDS = [
    ("erm", {}),
    ("erm/cmw-net", {"weighting": {"meta_set": "lowest-2", "meta_every": 2}}),
    ("soft-labels/cmw-net", {"memory": 0.9, "start_epoch": 1, "weighting": {"meta_set": "lowest-2"}}),
    ("dividemix", {"start_epoch": 1}),
]
"""One stream; with meta batches; with a teacher and scans; with several streams, views and turns."""


def finished(tree, kind, changes, folder, **settings):
    run = task(tree, kind, **settings, **changes)
    final = state(run, kind, **changes)
    train(run, final, StopRequest(), folder)
    return [t.detach().clone() for t in final.tensors()], final.records


# --- one picture


def test_the_centre_is_torchvisions():
    image = trees.picture(7, 0, side=33).resize((41, 57))
    for resize in (None, 24, 16):
        shown = in_full(image, Picture(side=16, resize=resize))
        scaled = image if resize is None else reference.resize(image, resize)
        assert np.array_equal(shown, reference.center_crop(scaled, 16))


def test_a_picture_that_is_too_small_is_scaled_up():
    assert in_full(trees.picture(1, 0, side=9), Picture(side=16)).size == (16, 16)
    assert at_random(Image.new("RGB", (5, 30)), Picture(side=16), 0, False).size == (16, 16)


@pytest.mark.parametrize("crop", ["random", "resized"])
def test_a_crop_is_a_function_of_its_seed_and_lies_in_the_picture(crop):
    """On a picture whose pixel values are their coordinates, every crop says where it was cut."""
    down, across = np.mgrid[0:40, 0:60]
    image = Image.fromarray(np.stack([down, across, 0 * down], axis=2).astype(np.uint8))
    picture = Picture(side=16, crop=crop)
    corners = set()
    for seed in range(60):
        shown = np.asarray(at_random(image, picture, seed, flip=False)).astype(int)
        assert np.array_equal(shown, at_random(image, picture, seed, flip=False))
        assert np.array_equal(shown[:, ::-1], at_random(image, picture, seed, flip=True))
        assert (np.diff(shown[:, 0, 0]) >= 0).all()
        assert (np.diff(shown[0, :, 1]) >= 0).all()
        corners.add((shown[0, 0, 0], shown[0, 0, 1]))
        if crop == "random":
            assert shown[-1, -1, 0] - shown[0, 0, 0] == shown[-1, -1, 1] - shown[0, 0, 1] == 15
    assert len(corners) > 40


def test_random_resized_crops_have_the_published_areas_and_aspects():
    from cmw_pipeline.data.pictures import _part

    boxes = np.array([_part((300, 200), np.random.default_rng(seed)) for seed in range(2000)])
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share, aspect = wide * high / 60_000, wide / high
    assert 0.075 < share.min() < 0.1
    assert share.max() > 0.85
    assert 0.72 < aspect.min() < 0.78
    assert 1.28 < aspect.max() < 1.38
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= 300).all()
    assert (boxes[:, 3] <= 200).all()


# --- a store of files is a store


def test_without_augmentation_it_is_the_resident_store(tree):
    streamed = store(tree, picture=Picture(side=trees.SIDE))
    root, files = tree
    names = files.loc[files["split"] == "train", "path"]
    pixels = np.stack([np.asarray(Image.open(root / name).convert("RGB")) for name in names])
    resident = ImageStore.put(pixels, MEAN, STD, recipe(augment={}).augment, CPU)
    rows = torch.tensor([3, 0, 41, 7, 7])
    assert torch.equal(streamed.plain(rows), resident.plain(rows))
    whole = [torch.cat(list(each.in_order(range(2, 48)))) for each in (streamed, resident)]
    assert torch.equal(*whole)


@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_what_was_expected_is_what_comes(tree, kind):
    """Ahead of the training or on demand, by two workers or by none: the same pictures."""
    run = recipe(augment={"flip": True}, picture={"side": SIDE})
    plan = EpochPlan.draw(np.arange(48), 40, 3, run.augment, np.random.default_rng(0), 1, (SIDE, SIDE))
    asks = [Ask(plan.batch(step), kind) for step in range(3)]
    found = []
    for workers, ahead in ((0, False), (2, True), (2, False), (0, True)):
        images = store(tree, workers=workers)
        if ahead:
            images.expect(asks)
        show = images.strong if kind == "strong" else images.augmented
        found.append(torch.stack([show(ask.draws) for ask in asks]))
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert not torch.equal(found[0][0], found[0][1])


def test_decoding_leaves_the_generators_alone(tree):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    images = store(tree, workers=1)
    images.expect([Ask(Draws.still(torch.arange(4)), "strong")])
    images.strong(Draws.still(torch.arange(4)))
    images.expect(())
    list(images.in_order(range(10)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_that_changed_since_is_one_line(tmp_path):
    root = trees.class_folders(tmp_path, CLASSES, train=2, test=1)
    files, _ = survey(root, read_class_folders(root, FACTS[f"folder-{CLASSES}"]), workers=0)
    file = root / files["path"][0]
    for spoil in (lambda: file.write_bytes(file.read_bytes()[::-1]), file.unlink):
        spoil()
        for workers in (0, 1):
            with pytest.raises(IntegrityError) as raised:
                store((root, files), workers=workers).plain(torch.arange(3))
            assert str(file) in raised.value.message
            assert "\n" not in raised.value.message


def test_a_worker_that_dies_is_a_fault_of_the_machine(tree, monkeypatch):
    import os
    import signal

    from cmw_pipeline.data import stream

    parent = os.getpid()

    def killed(*args):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(stream, "decode", killed)
    with pytest.raises(SystemFault, match="died") as raised:
        store(tree, workers=1).plain(torch.arange(3))
    assert "CMW_WORKERS" in raised.value.hint


def test_a_store_that_is_dropped_ends_its_workers(tree):
    """Without the garbage collector, which may close their pipes before they are told to end."""
    gc.collect()
    gc.disable()
    try:
        before = set(multiprocessing.active_children())
        images = store(tree, workers=2)
        asks = [Ask(Draws.still(torch.arange(4)), "weak") for _ in range(50)]
        images.expect(asks)
        images.augmented(asks[0].draws)
        started = set(multiprocessing.active_children()) - before
        del images
        assert len(started) == 2
        assert not started & set(multiprocessing.active_children())
    finally:
        gc.enable()


# --- training on it


@pytest.mark.parametrize(("kind", "changes"), KINDS, ids=[kind for kind, _ in KINDS])
def test_training_does_not_depend_on_the_number_of_workers(tree, tmp_path, kind, changes):
    alone, records = finished(tree, kind, changes, tmp_path / "0")
    helped, again = finished(tree, kind, changes, tmp_path / "2", workers=2)
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
    assert [r | {"evaluation_seconds": 0} for r in records] == [r | {"evaluation_seconds": 0} for r in again]


class StopAfter(StopRequest):
    """Asks to stop at the n-th step from now."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def __bool__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(("kind", "changes"), KINDS, ids=[kind for kind, _ in KINDS])
def test_resuming_in_the_middle_is_bitwise_equal(tree, tmp_path, kind, changes):
    whole, records = finished(tree, kind, changes, tmp_path / "whole")
    for _ in range(100):  # three steps, a new process, three steps, ...
        run = task(tree, kind, workers=1, **changes)
        final = state(run, kind, **changes)
        try:
            train(run, final, StopAfter(3), tmp_path / "parts")
        except Preempted:
            continue
        break
    assert len(final.records) == len(records) == 3
    assert all(torch.equal(a, b.detach()) for a, b in zip(whole, final.tensors(), strict=True))


def test_named_test_sets_have_their_own_rows(tree, tmp_path):
    run = task(tree)
    parts = {"first": torch.arange(0, 8), "second": torch.arange(8, 20)}
    run = dataclasses.replace(run, test_sets=parts)
    final = state(run)
    train(run, final, StopRequest(), tmp_path)
    scores = final.records[-1]["scores"]
    from cmw_pipeline.training.evaluate import predict

    logits = predict(final.model, run.test_store, 20, run.recipe)
    for name, rows in parts.items():
        right = (logits[rows].argmax(dim=1) == run.test_labels[rows]).float().mean()
        assert scores[name]["accuracy"] == pytest.approx(100 * float(right))
        assert scores[name]["top5_accuracy"] == 100.0  # of four classes
    assert scores["test"]["accuracy"] == scores["first"]["accuracy"]
    from cmw_pipeline.training.outcome import epochs_text, run_rows

    rows = pd.DataFrame(run_rows(final.records)).set_index(["protocol", "split", "metric"])["value"]
    assert rows["last", "second", "ema_accuracy"] == scores["second"]["ema_accuracy"]
    assert rows["last", "test", "accuracy"] == scores["test"]["accuracy"]
    assert set(rows.index.get_level_values("split")) == {"test", "first", "second"}
    epochs = pd.read_csv(io.StringIO(epochs_text(final.records)))
    assert len(epochs) == 3
    assert epochs["second:top5_accuracy"].iloc[-1] == scores["second"]["top5_accuracy"]
    assert epochs["accuracy"].iloc[-1] == pytest.approx(scores["test"]["accuracy"])


def test_a_recipe_crops_in_one_way_only():
    for augment in ({"pad": 4}, {"cutout": 8}, {"rotate": 10.0}):
        with pytest.raises(ValueError, match="may only flip"):
            recipe(augment=augment, picture={"side": 16})
    with pytest.raises(ValueError, match="cannot be cut"):
        recipe(augment={}, picture={"side": 16, "resize": 15})


def test_a_recipe_without_pictures_keeps_its_digest():
    assert "picture" not in recipe().model_dump(exclude_defaults=True)
    pictured = recipe(augment={}, picture={"side": 16})
    assert Recipe.model_validate(pictured.model_dump()) == pictured


def test_a_program_ends_though_workers_are_left():
    """They pay no attention to being asked to stop, and the interpreter waits for its children."""
    script = (
        "from cmw_pipeline.data.workers import in_workers\n"
        "kept = in_workers(str, iter(range(10**6)), 1)\n"
        "print(next(kept))\n"
        "loop = [kept]; loop.append(loop)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, b"0\n")

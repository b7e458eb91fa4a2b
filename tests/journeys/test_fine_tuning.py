"""Published weights to start from, training in two stages, and image files on several processes."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from cmw_pipeline.config import Plan, load
from cmw_pipeline.models.bcnn import Bcnn
from tests.support import trees
from tests.support.processes import environment
from tests.support.project import cmw, made

PARAMS = """
build: []
seeds: [0]
bias_seed: 1
datasets:
  own: {source: folder-4}
biases:
  native: [none]
methods:
  erm: {kind: erm, label: ERM}
  cmw-net:
    kind: erm
    label: CMW-Net
    weighting: {kind: cmw-net, meta_set: lowest-2, meta_batch: 8, meta_every: 2, weight_net: {lr: 0.01}}
  co-teaching: {kind: co-teaching, label: Co-teaching, forget_rate: 0.2}
  dynamic-loss: {kind: dynamic-loss, label: Dynamic Loss, start_epoch: 1}
recipes:
  head:
    network: {name: bcnn, pretrained: true}
    head_only: true
    optimizer: {name: adam, lr: 1.0e-2, weight_decay: 1.0e-8}
    epochs: 1
    batch_size: 16
    augment: {flip: true}
    picture: {side: 32, resize: 32}
  still:
    network: {name: bcnn}
    start_from: head
    optimizer: {name: adam, lr: 1.0e-30}
    epochs: 1
    batch_size: 16
    picture: {side: 32, resize: 32}
  tiny:
    network: {name: small-cnn, width: 4}
    optimizer: {lr: 0.1}
    epochs: 2
    batch_size: 16
    augment: {flip: true}
    picture: {side: 16, resize: 20, crop: resized}
tables: {}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with pictures, and weights that have the form of the published ones."""
    root = tmp_path_factory.mktemp("project")
    trees.class_folders(root / "pictures", 4, train=12, test=3)
    (root / "params.yaml").write_text(PARAMS)
    torch.manual_seed(7)
    trunk = {name: t for name, t in Bcnn(3, 2).state_dict().items() if name.startswith("features.")}
    torch.save(trunk | {"classifier.6.bias": torch.zeros(1000)}, root / "weights.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("CMW_WORKERS", "0")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        made("download", "own", "--from", root / "pictures")
        made("inject", "own/none")
        made("metaset", "own/none/lowest-2")
        yield root


@pytest.fixture(scope="module")
def pretrained(root):
    made("download", "pretrained/bcnn", "--from", "weights.pth", "--accept-unverified")
    return load_file(Plan(load("params.yaml")).download("pretrained/bcnn").path / "weights.safetensors")


def run(name):
    made("train", name)
    return Plan(load("params.yaml")).train(name).path


def model(name):
    return load_file(run(name) / "model.safetensors")


# --- published weights


def test_other_weights_are_refused(root):
    code, output = cmw("download", "pretrained/bcnn", "--from", "weights.pth")
    assert code == 3
    assert "not the published weights: its sha256 is " in output
    assert "Traceback" not in output


def test_weights_with_code_are_refused_and_do_not_run(root, tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    torch.save({"features.0.weight": Canary()}, tmp_path / "code.pth")
    code, output = cmw("download", "pretrained/bcnn", "--from", tmp_path / "code.pth", "--accept-unverified")
    assert code == 3
    assert "not a plain state dict" in output
    assert not (tmp_path / "canary").exists()


def test_a_missing_file_of_weights_is_named(root):
    assert cmw("download", "pretrained/bcnn", "--from", "nowhere.pth") == (
        2,
        "cmw: nowhere.pth: no such file\n",
    )


def test_weights_of_the_trunk_are_kept_and_no_others(pretrained):
    assert set(pretrained) == {n for n in Bcnn(3, 2).state_dict() if n.startswith("features.")}


# --- two stages


@pytest.mark.parametrize("method", ["erm", "cmw-net", "co-teaching"])
def test_head_only_trains_the_head_on_the_published_trunk(pretrained, method):
    found = model(f"own/none/{method}/head/seed0")
    trunk = {name: t for name, t in found.items() if "features." in name}
    towers = 2 if method == "co-teaching" else 1
    assert len(trunk) == towers * len(pretrained)
    for name, tensor in trunk.items():
        assert tensor.equal(pretrained[name[name.index("features.") :]])
    start = torch.nn.Linear(1, 1).bias.new_zeros(4)
    for name, tensor in found.items():
        if name.endswith("classifier.bias"):
            assert not tensor.equal(start)


@pytest.mark.parametrize("method", ["erm", "co-teaching"])
def test_the_second_stage_starts_where_the_first_ended(pretrained, method):
    first = model(f"own/none/{method}/head/seed0")
    still = model(f"own/none/{method}/still/seed0")
    assert set(first) == set(still)
    for name, tensor in first.items():
        torch.testing.assert_close(still[name], tensor, rtol=0, atol=1e-20)


def test_dynamic_loss_refuses_adam(pretrained):
    code, output = cmw("train", "own/none/dynamic-loss/head/seed0")
    assert code == 2
    assert "takes the optimiser's own virtual step; use sgd" in output


def test_dynamic_loss_trains_on_image_files(root):
    """In both of its views; the strong one is AutoAugment."""
    losses = pd.read_csv(run("own/none/dynamic-loss/tiny/seed0") / "epochs.csv")["train_loss"]
    assert len(losses) == 2
    assert losses.notna().all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start_from: head", "start_from: still", "this run starts from itself"),
        ("start_from: head", "start_from: haed", "recipes.still.start_from: 'haed' is not in the section"),
        ("{name: bcnn, pretrained: true}", "{name: resnet50, pretrained: true}", "known, only of bcnn"),
        ("lr: 1.0e-30}", "lr: 1.0e-30, nesterov: true}", "adam has no nesterov; leave it out"),
    ],
)
def test_wrong_parameters_are_named(root, tmp_path, old, new, message):
    (tmp_path / "params.yaml").write_text(PARAMS.replace(old, new))
    code, output = cmw("--params", tmp_path / "params.yaml", "train", "own/none/erm/still/seed0")
    assert code == 2
    assert message in output


# --- several processes


def test_image_files_on_two_processes_equal_one(root, tmp_path):
    name = "own/none/cmw-net/tiny/seed0"
    alone = pd.read_csv(run(name) / "epochs.csv")
    other = tmp_path / "other"
    shutil.copytree(root, other)
    path = Plan(load("params.yaml")).train(name).path
    shutil.rmtree(other / path)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
    ]
    done = subprocess.run(
        [*command, "cmw", "train", name],
        cwd=other, env=environment(), capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    together = pd.read_csv(other / path / "epochs.csv")
    assert together["train_loss"].to_numpy() == pytest.approx(alone["train_loss"].to_numpy(), rel=1e-4)
    assert together["accuracy"].to_numpy() == pytest.approx(alone["accuracy"].to_numpy())

"""From a folder of image files to a finished table: WebVision in miniature, and a transfer to it."""

import pandas as pd
import pytest

from cmw_pipeline.config import Plan, load
from tests.support import trees
from tests.support.project import cmw, made

PARAMS = """
build: [wide]
seeds: [0]
bias_seed: 1
datasets:
  own: {source: folder-4}
  mini-webvision: {source: mini-webvision}
biases:
  native: [none]
methods:
  cmw-net:
    kind: erm
    label: CMW-Net
    weighting: {kind: cmw-net, meta_set: lowest-2, meta_every: 2, weight_net: {lr: 0.01}}
  erm: {kind: erm, label: ERM}
  moved:
    kind: soft-labels
    label: CMW-Net-SL
    weighting: {kind: frozen, run: own/none/cmw-net/tiny/seed0}
    start_epoch: 1
    memory: 0.9
    memory_start: given
    memory_top: 5
recipes:
  tiny:
    network: {name: small-cnn, width: 4}
    optimizer: {lr: 0.1}
    epochs: 2
    batch_size: 10
    augment: {flip: true}
    picture: {side: 16, resize: 20, crop: resized}
    ema: 0.9
  resident:
    network: {name: small-cnn, width: 4}
    optimizer: {lr: 0.1}
    epochs: 1
    batch_size: 10
tables:
  wide:
    title: WebVision in miniature
    published: table7
    test_sets: [webvision_top1, webvision_top5, ilsvrc12_top1, ilsvrc12_top5]
    quoted: {MentorNet: Not ours.}
    grid:
      - {dataset: mini-webvision, biases: native, methods: [erm, moved], recipe: tiny}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which everything was made, by the commands that a user types."""
    root = tmp_path_factory.mktemp("project")
    trees.webvision(root / "webvision", ilsvrc12="list")
    trees.class_folders(root / "pictures", 4, train=12, test=3)
    (root / "params.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("CMW_WORKERS", "0")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        made("download", "own", "--from", root / "pictures")
        made("download", "mini-webvision", "--from", root / "webvision")
        for name in ("own/none", "mini-webvision/none"):
            made("inject", name)
        made("metaset", "own/none/lowest-2")
        made("train", "own/none/cmw-net/tiny/seed0")
        made("export", "own/none/cmw-net/tiny/seed0")
        made("train", "mini-webvision/none/erm/tiny/seed0")
        made("transfer", "mini-webvision/none/moved/tiny/seed0")
        made("table", "wide", "--strict")
        yield root


def test_both_test_sets_reach_the_rows(project):
    plan = Plan(load(project / "params.yaml"))
    run = plan.transfer("mini-webvision/none/moved/tiny/seed0")
    rows = pd.read_parquet(project / run.path / "rows.parquet")
    found = set(zip(rows["split"], rows["metric"], strict=True))
    for split in ("webvision", "ilsvrc12"):
        assert {(split, "accuracy"), (split, "top5_accuracy"), (split, "ema_accuracy")} <= found
    last = rows[rows["protocol"] == "last"].set_index(["split", "metric"])["value"]
    assert last["test", "accuracy"] == last["webvision", "accuracy"]
    assert last["ilsvrc12", "top5_accuracy"] >= last["ilsvrc12", "accuracy"]


def test_the_rows_are_what_the_predictions_say(project):
    """By the files: which picture is of which test set, and which class was said of it."""
    plan = Plan(load(project / "params.yaml"))
    run, raw = plan.train("mini-webvision/none/erm/tiny/seed0"), plan.download("mini-webvision")
    said = pd.read_parquet(project / run.path / "predictions.parquet")
    files = pd.read_parquet(project / raw.path / "files.parquet")
    both = said.merge(files, on="index")
    right = (both["prediction"] == both["label"]).groupby(both["test_set"]).mean() * 100
    rows = pd.read_parquet(project / run.path / "rows.parquet")
    last = rows[(rows["protocol"] == "last") & (rows["metric"] == "accuracy")].set_index("split")["value"]
    for split in ("webvision", "ilsvrc12"):
        assert last[split] == pytest.approx(right[split])


def test_the_table_has_a_column_for_each_and_the_quoted_rows(project):
    page = (project / "results" / "wide.md").read_text()
    head = next(line for line in page.splitlines() if line.startswith("| mini-webvision"))
    columns = ["webvision top-1", "webvision top-5", "ilsvrc12 top-1", "ilsvrc12 top-5"]
    assert [cell.strip() for cell in head.split("|")[2:-1]] == columns
    ours = next(line for line in page.splitlines() if line.startswith("| CMW-Net-SL"))
    assert all(0 <= float(cell.split()[0].strip("*")) <= 100 for cell in ours.split("|")[2:-1])


def test_training_samples_keep_their_losses_and_weights(project):
    plan = Plan(load(project / "params.yaml"))
    run = plan.transfer("mini-webvision/none/moved/tiny/seed0")
    samples = pd.read_parquet(project / run.path / "samples.parquet")
    assert len(samples) == 150
    assert samples["weight"].between(0, 1).all()
    assert samples["loss"].gt(0).all()


def test_nobody_hears_of_clean_labels(project):
    plan = Plan(load(project / "params.yaml"))
    table = pd.read_parquet(project / plan.inject("own/none").path / "labels.parquet")
    assert table.loc[table["split"] == "train", "clean_label"].isna().all()


REFUSED = [
    (("train", "own/none/erm/resident/seed0"), 2, "give its recipe a picture"),
    (("metaset", "own/none/clean-1"), 2, "not known"),
]


@pytest.mark.parametrize(("words", "code", "reason"), REFUSED)
def test_what_cannot_be_is_one_line(project, words, code, reason):
    found, output = cmw(*words)
    assert found == code, output
    assert reason in output
    assert "Traceback" not in output


def test_a_recipe_for_arrays_is_refused_for_files_before_anything_runs(project):
    params = project / "other.yaml"
    right = (project / "params.yaml").read_text()
    params.write_text(
        right.replace("methods: [erm, moved], recipe: tiny", "methods: [erm, moved], recipe: resident")
    )
    code, output = cmw("--params", params, "check")
    assert code == 2
    assert "tables.wide.grid.0.recipe: 'mini-webvision' is a folder of image files" in output
    params.write_text(right.replace("source: mini-webvision", "source: digits"))
    code, output = cmw("--params", params, "check")
    assert code == 2
    assert "has no image files" in output


def test_a_folder_that_is_gone_is_one_line(project):
    (project / "pictures").rename(project / "elsewhere")
    try:
        code, output = cmw("train", "own/none/erm/tiny/seed0")
    finally:
        (project / "elsewhere").rename(project / "pictures")
    assert code == 5, output
    assert "the folder is gone" in output
    assert "Traceback" not in output


def test_without_from_it_says_where_the_images_are_had(project):
    (project / "params.yaml").write_text(
        (project / "params.yaml").read_text().replace("folder-4", "web-bird")
    )
    code, output = cmw("download", "own")
    (project / "params.yaml").write_text(
        (project / "params.yaml").read_text().replace("web-bird", "folder-4")
    )
    assert code == 2
    assert "weblyFG-dataset" in output
    assert "--from" in output

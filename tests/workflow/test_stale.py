"""The real Snakemake makes again what stands on data that changed, and what was removed; by no time stamp."""

import os
import shutil
import time

import pandas as pd
import pytest

from tests.support import trees
from tests.support.project import Project, made, new_project

pytestmark = pytest.mark.workflow
PARAMS = """
build: [t]
seeds: [0]
bias_seed: 1
datasets: {{own: {{source: folder-3}}}}
biases: {{native: [none]}}
methods:
  cmw-net: {{kind: erm, label: CMW-Net, weighting: {{kind: cmw-net, meta_set: lowest-2, meta_every: 2}}}}
recipes:
  tiny:
    network: {{name: small-cnn, width: 4}}
    optimizer: {{lr: 0.1}}
    epochs: 1
    batch_size: 10
    picture: {{side: 8}}
tables:
  t:
    title: T
    weighting_figures: [own/none/cmw-net/tiny/seed0]
    grid: [{{dataset: own, biases: native, methods: [cmw-net], recipe: tiny}}]
"""
RUN = "own/none/cmw-net/tiny/seed0"
NOTHING = "Nothing to be done"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished table on a folder of pictures beside the project. Not to be changed."""
    place = tmp_path_factory.mktemp("built")
    trees.class_folders(place / "pictures", ["0", "1", "2"], train=10, test=2)
    project = new_project(place / "project", PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMW_WORKERS", "0")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.chdir(project.root)
        made("download", "own", "--from", "../pictures")
        made("inject", "own/none")
        made("metaset", "own/none/lowest-2")
        made("train", RUN)
        made("export", RUN)
        made("table", "t", "--strict")
    return project


@pytest.fixture
def project(built, tmp_path, monkeypatch):
    shutil.copytree(built.root.parent / "pictures", tmp_path / "pictures")
    copy = Project(shutil.copytree(built.root, tmp_path / "project", symlinks=True), PARAMS)
    monkeypatch.setenv("CMW_WORKERS", "0")
    monkeypatch.chdir(copy.root)
    made("download", "own", "--from", "../pictures")
    return copy


def test_a_changed_folder_is_read_again_and_all_that_stands_on_it_is_made_again(project):
    assert NOTHING in project.run("snakemake", "-n")
    before = project.made()
    pictures = project.root.parent / "pictures/train"
    (pictures / "1/0.jpg").rename(pictures / "2/corrected.jpg")
    said = project.run("snakemake", "-n", "results/t.md")
    assert "t: 1 cells, 1 to train" in said
    project.run("snakemake", "results/t.md")
    after = project.made()
    assert after.keys() == before.keys()
    assert all(after[manifest] != before[manifest] for manifest in before)
    plan = project.plan()
    files = pd.read_parquet(project.root / plan.download("own").path / "files.parquet")
    labels = pd.read_parquet(project.root / plan.inject("own/none").path / "labels.parquet")
    assert "train/2/corrected.jpg" in set(files["path"])
    assert (files["path"].str.split("/").str[1].astype(int) == labels["label"]).all()
    said = project.run("snakemake", "-n", "results/t.md")
    assert NOTHING in said
    assert "0 to train" in said


@pytest.mark.parametrize("stages", [["inject"], ["train"], ["inject", "metaset", "train", "export"]])
def test_what_was_removed_is_made_again_wherever_the_clocks_stood(project, stages):
    """Everything else lies in the future, as after a clock was set back or on a file server that is ahead."""
    for stage in stages:
        shutil.rmtree(project.root / "results" / stage)
    assert set(project.made()) < project.planned()
    for path in (project.root / "results").rglob("*"):
        os.utime(path, (time.time() + 1e6, time.time() + 1e6))
    assert NOTHING not in project.run("snakemake", "-n")
    project.run("snakemake")
    assert set(project.made()) == project.planned()
    assert NOTHING in project.run("snakemake", "-n")


def test_a_page_that_was_edited_or_renamed_in_the_future_is_rendered_again(project):
    page, params = project.root / "results/t.md", project.root / "params.yaml"
    page.write_text(page.read_text().replace("CMW-Net", "ours"))
    params.write_text(params.read_text().replace("label: CMW-Net", "label: Learned"))
    for path in page.parent.glob("t.*"):
        os.utime(path, (time.time() + 3600, time.time() + 3600))
    before = project.made()
    project.run("snakemake")
    assert "Learned" in page.read_text()
    assert project.made() == before
    assert NOTHING in project.run("snakemake", "-n")

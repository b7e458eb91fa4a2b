"""Something changed after other things were made of it: nothing goes on as if it had not."""

import json
import os
import shutil

import pandas as pd
import pytest

from cmw_pipeline.config import Plan, load
from cmw_pipeline.engine import Seen
from cmw_pipeline.io.lineage import GROUND
from cmw_pipeline.io.manifests import file_entry, open_stored, sealed
from tests.support import trees
from tests.support.project import cmw, made

CLASSES = ["0", "1", "2"]
CELL = "own/none/erm/tiny/seed{}"
LEARNED = "own/none/cmw-net/tiny/seed0"
MOVED = "own/none/moved/tiny/seed0"
PARAMS = f"""
build: [t]
seeds: [0]
bias_seed: 1
datasets: {{own: {{source: folder-3}}}}
biases: {{native: [none]}}
methods:
  erm: {{kind: erm, label: ERM}}
  cmw-net: {{kind: erm, label: CMW-Net, weighting: {{kind: cmw-net, meta_set: lowest-2, meta_every: 2}}}}
  moved: {{kind: erm, label: Moved, weighting: {{kind: frozen, run: {LEARNED}}}}}
recipes:
  tiny:
    network: {{name: small-cnn, width: 4}}
    optimizer: {{lr: 0.1}}
    epochs: 1
    batch_size: 10
    picture: {{side: 8}}
tables:
  t: {{title: T, grid: [{{dataset: own, biases: native, methods: [erm], recipe: tiny}}]}}
  all: {{title: A, grid: [{{dataset: own, biases: native, methods: [erm, cmw-net, moved], recipe: tiny}}]}}
"""


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setenv("CMW_WORKERS", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished project on a folder of 36 pictures. Not to be changed."""
    root = tmp_path_factory.mktemp("built")
    trees.class_folders(root / "pictures", CLASSES, train=10, test=2)
    (root / "params.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMW_WORKERS", "0")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.chdir(root)
        made("download", "own", "--from", "pictures")
        made("inject", "own/none")
        made("train", CELL.format(0))
        made("metaset", "own/none/lowest-2")
        made("train", LEARNED)
        made("export", LEARNED)
        made("transfer", MOVED)
        made("table", "t", "--strict")
        made("table", "all", "--strict")
    return root


@pytest.fixture
def project(built, tmp_path, monkeypatch):
    """The same to be changed; the manifest still names the folder of the first, which is not touched."""
    root = shutil.copytree(built, tmp_path / "project")
    monkeypatch.chdir(root)
    made("download", "own", "--from", "pictures")
    return root


def plan(root):
    return Plan(load(root / "params.yaml"))


def stale(root, table="all"):
    """(stage, name) of what a planning of the table would make again."""
    seen, planned = Seen(plan(root), root), plan(root).artefacts([table]).values()
    return {(a.stage, a.name) for a in planned if seen.changes(a)}


def refused(*words):
    """The line that a command ends with."""
    code, said = cmw(*words)
    assert code == 3, said
    assert "Traceback" not in said
    return said


def mislabelled(root):
    """A label of the user's is corrected: a picture moves to another class."""
    (root / "pictures/train/1/0.jpg").rename(root / "pictures/train/2/moved.jpg")


def one_more(root):
    trees.save(root / "pictures/train/0/more.jpg", 0, 99)


def one_fewer(root):
    (root / "pictures/test/1/1.jpg").unlink()


def another_picture(root):
    """Of the same size and time."""
    file, other = root / "pictures/train/0/0.jpg", root / "pictures/train/0/1.jpg"
    data, stamp = bytearray(other.read_bytes()), file.stat()
    size = stamp.st_size
    file.write_bytes(bytes(data[:size]).ljust(size, b"\0"))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))


CHANGES = {
    mislabelled: "0.jpg is gone",
    one_more: "more.jpg is new",
    one_fewer: "1.jpg is gone",
    another_picture: "0.jpg is another picture",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_stops_every_reader_with_the_command_to_type(project, change):
    assert stale(project) == set()
    change(project)
    everything = plan(project).artefacts(["all"]).values()
    assert stale(project) == {(artefact.stage, artefact.name) for artefact in everything}
    for words in (
        ("inject", "own/none"),
        ("metaset", "own/none/lowest-2"),
        ("train", CELL.format(0)),
        ("train", CELL.format(1)),
        ("export", LEARNED),
        ("transfer", MOVED),
        ("table", "t"),
        ("table", "t", "--strict"),
    ):
        said = refused(*words)
        assert CHANGES[change] in said
        assert "`cmw download own`" in said
    code, said = cmw("doctor")
    assert code != 0
    assert CHANGES[change] in said


@pytest.mark.parametrize("change", CHANGES)
def test_the_commands_that_are_named_lead_to_a_table_of_what_is_there_now(project, change):
    change(project)
    code, said = cmw("download", "own")
    assert (code, "was there" in said) == (0, False), said
    assert "`cmw inject own/none`" in refused("train", CELL.format(0))
    assert "`cmw inject own/none`" in refused("table", "t", "--strict")
    code, said = cmw("inject", "own/none")
    assert (code, "was there" in said) == (0, False), said
    assert f"`cmw train {CELL.format(0)}`" in refused("table", "t", "--strict")
    for name in (CELL.format(0), LEARNED):
        made("metaset", "own/none/lowest-2")
        made("train", name)
    made("table", "t", "--strict")
    assert stale(project, "t") == set()
    labels = pd.read_parquet(project / plan(project).inject("own/none").path / "labels.parquet")
    files = pd.read_parquet(project / plan(project).download("own").path / "files.parquet")
    assert (files["path"].str.split("/").str[1].astype(int) == labels["label"]).all()


def test_another_folder_is_never_there_already(project):
    trees.class_folders(project / "others", CLASSES, train=8, test=3)
    code, said = cmw("download", "own", "--from", "others")
    assert (code, "was there" in said) == (0, False), said
    files = pd.read_parquet(project / plan(project).download("own").path / "files.parquet")
    assert len(files) == 3 * (8 + 3)
    assert "`cmw inject own/none`" in refused("train", CELL.format(0))


def test_what_changes_no_picture_makes_nothing_again(project):
    (project / "pictures/train/0/Thumbs.db").write_bytes(b"x")
    (project / "pictures/README.txt").write_text("x")
    for file in (project / "pictures").rglob("*.jpg"):
        os.utime(file, (4e9, 4e9))
    assert stale(project) == set()
    code, said = cmw("train", CELL.format(0))
    assert (code, "was there" in said) == (0, True), said
    made("download", "own", "--from", "pictures")  # though its report now lists the stray file
    assert stale(project) == set()


def test_a_folder_that_is_not_there_contradicts_nothing(project):
    shutil.rmtree(project / "pictures")
    assert stale(project) == set()
    made("table", "t", "--strict")


def test_a_run_that_was_made_again_with_another_outcome_changes_what_stands_on_it(project):
    run = plan(project).train(LEARNED)
    resealed(project / run.path, "method.safetensors")
    assert stale(project) == {("export", LEARNED), ("transfer", MOVED), ("table", "all")}
    assert f"`cmw export {LEARNED}`" in refused("transfer", MOVED)
    assert f"`cmw export {LEARNED}`" in refused("table", "all")
    made("table", "t", "--strict")  # it does not stand on that run


def resealed(folder, name):
    """Another content of a file, as if the artefact had been made anew."""
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = file_entry(folder / name)
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    open_stored(folder)


def test_checkpoints_of_a_run_on_other_labels_are_not_continued(project, monkeypatch):
    """Stopped in the middle, then the labels changed: the run starts anew, with the bytes of a fresh one."""
    from cmw_pipeline.training import loop

    class Stopped(Exception):
        pass

    def stop_after(folder, step, *state):
        save(folder, step, *state)
        raise Stopped

    save, cell = loop.save_checkpoint, CELL.format(5)
    monkeypatch.setattr(loop, "save_checkpoint", stop_after)
    code, _ = cmw("train", cell, "--checkpoint-seconds", "0")
    monkeypatch.setattr(loop, "save_checkpoint", save)
    run = plan(project).train(cell)
    side = project / f"results/checkpoints/train-{run.digest}"
    assert code == 1
    assert list(side.glob("step-*"))
    assert (side / GROUND).is_file()
    mislabelled(project)
    made("download", "own")
    made("inject", "own/none")
    made("train", cell)
    continued = (project / run.path / "model.safetensors").read_bytes()
    shutil.rmtree(project / run.path)
    made("train", cell)
    assert continued == (project / run.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}'])
def test_a_manifest_that_is_none_is_refused_and_not_taken_for_made(project, text):
    run = plan(project).train(CELL.format(0))
    (project / run.manifest).write_text(text)
    assert ("train", run.name) in stale(project)
    for words in (("train", run.name), ("table", "t"), ("doctor",)):
        code, said = cmw(*words)
        assert code == 3, said
        assert "manifest" in said


def test_a_page_that_was_edited_is_noticed(project):
    assert stale(project, "t") == set()
    page = project / "results/t.md"
    page.write_text(page.read_text().replace("ERM", "ours"))
    assert stale(project, "t") == {("table", "t")}
    code, said = cmw("doctor")
    assert code == 3
    assert "results/t.md: was edited" in said
    assert "`snakemake results/t.md`" in said


def test_of_what_was_removed_the_table_asks_again_and_nothing_else_is_made(project):
    biased = plan(project).inject("own/none")
    shutil.rmtree(project / biased.path)
    assert stale(project) == {("table", "all")}
    assert biased.manifest in Seen(plan(project), project).inputs(plan(project).table("all"))
    made("table", "all", "--strict")  # by hand: what the page shows is there, and nothing contradicts it


def test_manifests_of_earlier_versions_are_taken(project):
    """They record no results of their inputs, nor when the folder was read."""
    for artefact in plan(project).artefacts(["all"]).values():
        if artefact.stage != "table":
            file = project / artefact.manifest
            manifest = json.loads(file.read_text())
            manifest["notes"].pop("stamp", None)
            for entry in manifest["inputs"].values():
                entry.pop("result", None)
            file.write_text(json.dumps(sealed(manifest)))
    assert stale(project) == set()
    made("train", CELL.format(1))
    one_more(project)
    assert "more.jpg is new" in refused("train", CELL.format(0))

"""`cmw prune`: what no table needs goes, when asked; everything else stays to the last byte."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from cmw_pipeline.cli import main
from cmw_pipeline.config import Plan, load
from cmw_pipeline.io import prune
from cmw_pipeline.io.manifests import lock_path, open_stored
from cmw_pipeline.stages import download, inject, metaset
from cmw_pipeline.stages.base import make

PARAMS = """
build: []
seeds: [0]
bias_seed: 1
datasets: {{digits: {{source: digits}}}}
biases: {{tiny: [{bias}]}}
methods:
  cmw-net: {{kind: erm, label: CMW-Net, weighting: {{kind: cmw-net, meta_set: clean-2}}}}
recipes:
  quick: {{network: {{name: small-cnn}}, optimizer: {{lr: 0.1}}, epochs: 1, batch_size: 100}}
tables:
  tiny: {{title: Tiny, grid: [{{dataset: digits, biases: tiny, methods: [cmw-net], recipe: quick}}]}}
"""


def planned(root, bias):
    (root / "params.yaml").write_text(PARAMS.format(bias=bias))
    return Plan(load(root / "params.yaml"))


def made(root, bias):
    """Make the data of one bias; returns the plan and (inject, metaset, train) of it, the last not made."""
    plan = planned(root, bias)
    raw, biased = plan.download("digits"), plan.inject(f"digits/{bias}")
    meta = plan.metaset(f"digits/{bias}/clean-2")
    for artefact, stage in ((raw, download), (biased, inject), (meta, metaset)):
        make(artefact, stage.run, root)
    return biased, meta, plan.train(f"digits/{bias}/cmw-net/quick/seed0")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What two biases need; the parameters now ask for the second, asym-0.4, only."""
    root = tmp_path_factory.mktemp("built")
    old = made(root, "sym-0.2")
    new = made(root, "asym-0.4")
    for artefact in (old[2], new[2]):  # as runs leave them that were stopped
        checkpoint = root / "results/checkpoints" / f"train-{artefact.digest}" / "step-00000001"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.safetensors").write_bytes(bytes(1000))
    for artefact in (old[0], new[0]):
        log = root / "results/logs" / f"{artefact.path.relative_to('results')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("what it said\n")
    return root, old, new


@pytest.fixture
def project(built, tmp_path, monkeypatch):
    root = shutil.copytree(built[0], tmp_path / "project")
    monkeypatch.chdir(root)
    return root, *built[1:]


def pruned(*words):
    """(exit code, what it said)."""
    result = CliRunner().invoke(main, ["prune", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def everything(root):
    """Path -> content of all files and folders; locks aside, which a look at them opens."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if ".locks" not in path.parts
    }


def below(tree, *paths):
    return {name for name in tree if any(name == str(p) or name.startswith(f"{p}/") for p in paths)}


def excess_of(root, old):
    biased, meta, run = old
    log = Path("results/logs") / f"{biased.path.relative_to('results')}.log"
    return biased.path, meta.path, Path("results/checkpoints", f"train-{run.digest}"), log


def test_without_yes_it_only_says_what_would_go(project):
    root, old, _ = project
    before = everything(root)
    code, said = pruned()
    assert code == 0
    assert everything(root) == before
    assert [str(path) for path in excess_of(root, old) if str(path) not in said] == []
    assert "4 places; nothing was removed yet" in said
    assert "asym-0.4" not in said


def test_with_yes_exactly_that_goes_and_the_rest_is_unharmed(project):
    root, old, new = project
    before = everything(root)
    going = below(before, *excess_of(root, old))
    bytes_of = sum(len(before[name] or b"") for name in going)
    assert sum(item.bytes for item in found(root)) == bytes_of
    code, said = pruned("--yes")
    assert code == 0
    assert "4 places; removed" in said
    after = everything(root)
    gone = set(before) - set(after)
    assert {name for name in gone if before[name] is not None} == {n for n in going if before[n] is not None}
    assert all(after[name] == before[name] for name in after)
    assert not [p for p in root.rglob("*") if p.is_dir() and not any(p.iterdir())], "an empty folder is left"
    for artefact in new[:2]:
        open_stored(root / artefact.path)
    assert pruned()[1].count("0 bytes") == 1


def found(root):
    plan = Plan(load(root / "params.yaml"))
    return prune.find_excess(plan.artefacts(list(plan.params.tables)).values(), root)


def test_tables_that_are_not_built_count_too(project):
    """`build:` is empty in these parameters; a table is needed by being written down."""
    root, _, new = project
    assert Plan(load(root / "params.yaml")).params.build == []
    assert not [item for item in found(root) if str(new[0].digest) in str(item.path)]


def test_what_the_pipeline_did_not_make_stays(project, tmp_path):
    root, _, _ = project
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root / "results/inject", elsewhere / "inject")
    (elsewhere / "checkpoints" / "train-0123456789").mkdir(parents=True)
    mine = [
        "notes.txt",
        "tiny.md",
        "downloads/cifar.tar.gz",
        "train/mine/data.npy",
        "inject/digits/a-0123456789/x",
    ]
    for name in mine:
        (root / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "results" / name).write_text("mine")
    (root / "results/train/link-0123456789").symlink_to(elsewhere / "inject")
    (root / "results/transfer").symlink_to(elsewhere / "inject")
    (root / "results/checkpoints/train-aaaaaaaaaa").symlink_to(elsewhere / "checkpoints")
    outside = everything(elsewhere)
    code, said = pruned("--yes")
    assert code == 0
    assert "4 places" in said
    assert everything(elsewhere) == outside
    assert all((root / "results" / name).read_text() == "mine" for name in mine)


def test_links_out_of_an_artefact_are_cut_not_followed(project, tmp_path):
    root, old, _ = project
    kept = tmp_path / "kept.bin"
    kept.write_bytes(bytes(10_000))
    before = sum(item.bytes for item in found(root))
    (root / old[0].path / "link.bin").symlink_to(kept)
    os.link(kept, root / old[0].path / "second-name.bin")
    assert sum(item.bytes for item in found(root)) == before, "they free nothing"
    pruned("--yes")
    assert kept.read_bytes() == bytes(10_000)


def test_checkpoints_of_a_finished_run_and_drafts_of_dead_processes_go(project):
    root, old, new = project
    run = root / new[2].path
    run.mkdir(parents=True)
    (run / "manifest.json").write_text("{}")
    draft = root / old[1].path.parent / f".{old[1].path.name}.abc.tmp"
    draft.mkdir()
    in_making = root / new[1].path.parent / f".{new[1].path.name}.abc.tmp"
    in_making.mkdir()
    paths = {item.path for item in found(root)}
    assert root / "results/checkpoints" / f"train-{new[2].digest}" in paths
    assert draft in paths
    assert in_making not in paths
    assert run not in paths


def test_what_is_being_made_stops_it_before_anything_goes(project):
    root, old, _ = project
    before = everything(root)
    lock = lock_path("inject", old[0].digest, root)
    with FileLock(lock):
        code, said = pruned("--yes")
    assert code == 5
    assert "is being made at this moment" in said
    assert everything(root) == before


def test_under_parameters_that_are_wrong_nothing_goes(project):
    root, _, _ = project
    (root / "params.yaml").write_text(PARAMS.format(bias="sym-1.7"))
    before = everything(root)
    assert pruned("--yes")[0] == 2
    assert everything(root) == before


def test_killed_in_the_middle_no_artefact_is_half_there_and_the_next_one_finishes(project, monkeypatch):
    root, old, _ = project

    def killed(path):
        next(Path(path).glob("*.parquet")).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune.remove_excess(found(root), root)
    monkeypatch.undo()
    monkeypatch.chdir(root)
    assert not (root / old[0].path).exists()
    assert pruned("--yes")[0] == 0
    assert not [
        p for p in (root / "results").rglob("*") if old[0].digest in p.name and ".locks" not in p.parts
    ]


def test_a_fresh_project_has_nothing_to_remove(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned(tmp_path, "sym-0.2")
    assert pruned("--yes") == (0, "   0 bytes  in 0 places; removed\n")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]

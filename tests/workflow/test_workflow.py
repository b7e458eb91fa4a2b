"""What Snakemake and DVC do together, tried with the real ones on a tiny grid of real digits."""

import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from cmw_pipeline.config import Plan, load
from cmw_pipeline.io.manifests import open_stored
from tests.support.processes import environment
from tests.support.project import Project, new_project

pytestmark = pytest.mark.workflow
SOURCE = Path(__file__).parents[2]
PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {{digits: {{source: digits}}}}
biases: {{tiny: [asym-0.4, {second}]}}
methods:
  erm: {{kind: erm, label: ERM}}
  cmw-net: {{kind: erm, label: CMW-Net, weighting: {{kind: cmw-net, meta_set: clean-2, meta_every: 4}}}}
  transferred:
    kind: erm
    label: Transferred
    weighting: {{kind: frozen, run: digits/asym-0.4/cmw-net/quick/seed0}}
recipes:
  quick: {{network: {{name: small-cnn, width: 4}}, optimizer: {{lr: 0.1}}, epochs: 1, batch_size: 100}}
tables:
  tiny:
    title: A tiny grid
    weighting_figures: [digits/asym-0.4/cmw-net/quick/seed0]
    grid:
      - {{dataset: digits, biases: tiny, methods: [erm, cmw-net, transferred], recipe: quick}}
"""
NOTHING = "Nothing to be done"
GUARD = 1800
"""Seconds after which a test is given up, whatever the load."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project whose grid was made by ``dvc repro`` and committed. Not to be changed."""
    project = new_project(tmp_path_factory.mktemp("built") / "a project", PARAMS)
    project.run("dvc", "repro")
    project.commit("first")
    return project


@pytest.fixture
def project(built, tmp_path):
    return built.copy(tmp_path / "a project")


def test_the_grid_is_made_whole(built):
    assert set(built.made()) == built.planned()
    for manifest in built.made():
        open_stored((built.root / manifest).parent)
    page = (built.root / "results/tiny.md").read_text()
    assert "ERM" in page
    assert "tiny-weighting-0.png" in page
    receipt = json.loads((built.root / "results/tiny.manifest.json").read_text())
    assert receipt["digest"] == Plan(load(built.root / "params.yaml")).table("tiny").digest


def test_time_stamps_never_cause_a_run(project):
    rng = random.Random(0)
    for path in (project.root / "results").rglob("*"):
        moment = time.time() + rng.uniform(-1e6, 1e6)
        os.utime(path, (moment, moment))
    assert NOTHING in project.run("snakemake", "-n")


def test_without_snakemakes_own_records_nothing_is_made_again(project):
    shutil.rmtree(project.root / ".snakemake")
    assert NOTHING in project.run("snakemake", "-n")


def test_a_fresh_clone_pulls_and_has_nothing_to_do(project, tmp_path):
    remote = tmp_path / "remote"
    project.run("dvc", "remote", "add", "-d", "shelf", str(remote))
    project.run("dvc", "push")
    project.commit("remote")
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", PARAMS)
    clone.run("dvc", "pull")
    assert NOTHING in clone.run("snakemake", "-n")
    assert set(clone.made()) == clone.planned()


def test_another_title_renders_the_table_again_and_trains_nothing(project):
    before = project.made()
    path = project.root / "params.yaml"
    path.write_text(path.read_text().replace("A tiny grid", "Another title"))
    project.run("snakemake")
    assert project.made() == before
    assert "Another title" in (project.root / "results/tiny.md").read_text()
    assert NOTHING in project.run("snakemake", "-n")


def processes_in(folder):
    """Ids of the `cmw` processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve() == folder.resolve() and b"bin/cmw" in (
                entry / "cmdline"
            ).read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def test_jobs_of_a_killed_snakemake_leave_a_checkpoint_and_do_not_linger(tmp_path):
    project = new_project(tmp_path / "orphans", PARAMS)
    path = project.root / "params.yaml"
    path.write_text(path.read_text().replace("epochs: 1,", "epochs: 5000,"))
    snakemake = subprocess.Popen(
        ["snakemake"], cwd=project.root, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    logs = project.root / "results/logs/train"
    assert wait_until(lambda: any("epoch 2/" in log.read_text() for log in logs.rglob("*.log")), GUARD)
    snakemake.kill()
    snakemake.wait()
    assert wait_until(lambda: not processes_in(project.root), GUARD)
    assert list((project.root / "results/checkpoints").glob("train-*/step-*"))
    assert not list((project.root / "results/train").rglob("manifest.json"))
    assert any("has died" in log.read_text() for log in logs.rglob("*.log"))


def test_a_flipped_byte_that_dvc_hands_out_silently_is_caught(project):
    """DVC trusts its read-only cache; the manifest does not."""
    labels = next((project.root / "results/inject").rglob("labels.parquet"))
    digest = subprocess.run(["md5sum", labels], capture_output=True, text=True, check=True).stdout.split()[0]
    cached = project.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    data = bytearray(cached.read_bytes())
    data[len(data) // 2] ^= 1
    cached.chmod(0o644)
    cached.write_bytes(data)
    cached.chmod(0o444)
    shutil.rmtree(project.root / "results/inject")
    project.run("dvc", "checkout")
    plan = Plan(load(project.root / "params.yaml"))
    bias = labels.relative_to(project.root / "results/inject").parts[1][:-11]
    cell = f"digits/{bias}/erm/quick/seed0"
    shutil.rmtree(project.root / plan.train(cell).path)
    done = subprocess.run(
        ["cmw", "train", cell], cwd=project.root, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "labels.parquet" in done.stderr
    assert "dvc fetch" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_report_and_every_documented_target(project, tmp_path):
    for target in ("results/tiny.md", "data", "runs", "all"):
        assert NOTHING in project.run("snakemake", "-n", target)
    project.run("snakemake", "--report", str(tmp_path / "report.html"))
    report = (tmp_path / "report.html").read_text()
    assert "tiny.md" in report
    assert "tiny.png" in report
    assert "Test results of tiny" in report
    assert "The weighting function that digits/asym-0.4/cmw-net/quick/seed0 learned" in report

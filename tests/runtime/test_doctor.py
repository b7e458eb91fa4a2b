"""`cmw doctor`: each thing that can be wrong is named, with what to do, and the exit code of its kind."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib import metadata

import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock

from cmw_pipeline.cli import main
from cmw_pipeline.config import Plan, load
from cmw_pipeline.io.manifests import lock_path
from cmw_pipeline.runtime import devices
from cmw_pipeline.stages import download, inject
from cmw_pipeline.stages.base import make

PARAMS = """
build: []
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [asym-0.4]}
methods: {erm: {kind: erm, label: ERM}}
recipes:
  quick: {network: {name: small-cnn}, optimizer: {lr: 0.1}, epochs: 1, batch_size: 100}
tables:
  tiny: {title: Tiny, grid: [{dataset: digits, biases: tiny, methods: [erm], recipe: quick}]}
"""
CELL = "digits/asym-0.4/erm/quick/seed0"
USAGE = namedtuple("Usage", "total used free")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project that is in order, on a machine without a GPU."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "params.yaml").write_text(PARAMS)
    plan = Plan(load(root / "params.yaml"))
    make(plan.download("digits"), download.run, root)
    make(plan.inject("digits/asym-0.4"), inject.run, root)
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text(
        f"[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {shelf}\n"
    )
    monkeypatch.chdir(root)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CMW_RUNS_PER_GPU", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(devices, "PLACE", tmp_path)
    monkeypatch.setattr("cmw_pipeline.runtime.doctor.disk_usage", lambda _: USAGE(10**12, 0, 10**12))
    return root


def doctor():
    """(exit code, what it said)."""
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def driver(tmp_path, text, code=0):
    """A fake `nvidia-smi`."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    program.chmod(0o755)
    os.environ["PATH"] += ":/bin:/usr/bin"


def says_what_to_do(said, words, remedy):
    """The problem's line has the words, and the line behind it the remedy."""
    lines = said.splitlines()
    (number,) = [number for number, line in enumerate(lines) if line.startswith("BAD") and words in line]
    return remedy in lines[number + 1]


def test_all_is_well(project, tmp_path):
    code, said = doctor()
    assert (code, "BAD" in said) == (0, False), said
    for words in (
        f"torch {metadata.version('torch')}",
        f"snakemake {metadata.version('snakemake')}",
        "no GPU is visible",
        "GB of disk are free",
        "1 tables, 4 artefacts",
        "2 artefacts are what their manifests say",
        "2 artefacts are made of what lies there now",
        "0 tables and audits are what their receipts say",
        "2 of 3 artefacts are made",
        f"DVC remote shelf: {tmp_path / 'shelf'}",
    ):
        assert words in said


def test_it_changes_nothing(project):
    def state():
        paths = [path for path in project.rglob("*") if ".locks" not in path.parts]
        return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}, set(paths)

    before = state()
    doctor()
    assert state() == before


@pytest.mark.parametrize(("package", "version"), [("snakemake", "8.1.0"), ("torch", "2.3.1"), ("dvc", None)])
def test_an_old_or_missing_package_is_named(project, monkeypatch, package, version):
    real = metadata.version

    def fake(name):
        if name != package:
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", fake)
    code, said = doctor()
    assert code == 5
    assert says_what_to_do(
        said, f"{package} {version or 'is missing'}; needed is {package}", "requirements.lock"
    )


def test_a_torch_that_does_not_load_is_one_line(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, said = doctor()
    assert code == 5
    assert says_what_to_do(said, "torch cannot be loaded", "requirements.lock")


def test_a_driver_that_does_not_answer(project, tmp_path):
    driver(tmp_path, "NVIDIA-SMI has failed", 9)
    code, said = doctor()
    assert code == 5
    assert says_what_to_do(said, "nvidia-smi is there but lists no GPU", "repair the driver")


def test_a_gpu_that_torch_cannot_use(project, tmp_path, monkeypatch):
    driver(tmp_path, "GPU 0: Fake (UUID: GPU-0)")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, said = doctor()
    assert code == 5
    assert says_what_to_do(said, "torch cannot use GPU 0", "CUDA_VISIBLE_DEVICES=")


def test_free_and_leased_gpus(project, tmp_path, monkeypatch):
    driver(tmp_path, "GPU 0: Fake\nGPU 1: Fake")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    leases = tmp_path / f"cmw-gpu-leases-{os.getuid()}"
    leases.mkdir()
    (leases / "0.lock").touch()  # its run is dead
    with FileLock(leases / "1.lock"):
        code, said = doctor()
    assert code == 0
    assert "GPU 0: free" in said
    assert "GPU 1: leased to a run" in said
    monkeypatch.setenv("CMW_RUNS_PER_GPU", "none")
    code, said = doctor()
    assert code == 2
    assert says_what_to_do(said, "CMW_RUNS_PER_GPU='none'", "unset it")


def test_a_disk_that_is_nearly_full(project, monkeypatch):
    monkeypatch.setattr("cmw_pipeline.runtime.doctor.disk_usage", lambda _: USAGE(10**12, 0, 10**9))
    code, said = doctor()
    assert code == 5
    assert says_what_to_do(said, "1.0 GB of disk are free", "cmw prune")


def test_results_that_cannot_be_written(project):
    shutil.rmtree(project / "results")
    (project / "results").write_text("a file, not a folder")
    code, said = doctor()
    assert code == 5
    assert says_what_to_do(said, "nothing can be written there", "may write to")


def test_wrong_parameters_are_shown_whole(project):
    text = PARAMS.replace("lr: 0.1", "lr: -0.1").replace("asym-0.4", "asym-7")
    (project / "params.yaml").write_text(text)
    code, said = doctor()
    assert code == 2
    assert "lr" in said
    assert "asym-7" in said
    (project / "params.yaml").unlink()
    assert doctor()[0] == 2


def test_a_flipped_byte_in_the_data(project):
    labels = next((project / "results/inject").rglob("labels.parquet"))
    data = bytearray(labels.read_bytes())
    data[len(data) // 2] ^= 1
    labels.write_bytes(data)
    code, said = doctor()
    assert code == 3
    assert says_what_to_do(said, "labels.parquet: sha256 is", "dvc fetch")
    assert "1 artefacts are what their manifests say" in said


def test_what_is_being_made_and_what_was_stopped(project):
    run = Plan(load(project / "params.yaml")).train(CELL)
    (project / f"results/checkpoints/train-{run.digest}/step-00000001").mkdir(parents=True)
    code, said = doctor()
    assert code == 0
    assert f"`cmw train {run.path}` continues it" in said
    with FileLock(lock_path("train", run.digest, project)):
        assert f"{run.path}: is being made at this moment" in doctor()[1]


def test_no_remote_no_dvc_and_a_remote_that_is_not_mounted(project, tmp_path):
    (tmp_path / "shelf").rmdir()
    code, said = doctor()
    assert code == 5
    assert says_what_to_do(said, f"there is no folder {tmp_path / 'shelf'}", "mount it")
    (project / ".dvc/config").write_text("[core]\n    remote = nowhere\n")
    code, said = doctor()
    assert code == 2
    assert says_what_to_do(said, "nowhere", ".dvc/config")
    (project / ".dvc/config").write_text("[core\n")
    assert doctor()[0] == 2
    (project / ".dvc/config").write_text("")
    code, said = doctor()
    assert code == 0
    assert "dvc remote add -d" in said
    shutil.rmtree(project / ".dvc")
    assert "dvc init" in doctor()[1]


@pytest.fixture
def dead():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lock_of_a_dead_dvc(project, dead):
    (project / ".dvc/tmp").mkdir()
    owner = {"pid": dead, "cmd": "dvc repro"}
    living = {"pid": os.getpid(), "cmd": "dvc push"}
    entries = {"write": {"/a": owner}, "read": {"/b": [owner, living]}}
    (project / ".dvc/tmp/rwlock").write_text(json.dumps(entries))
    code, said = doctor()
    assert code == 0
    assert f"processes that are dead: {dead}\n" in said
    (project / ".dvc/tmp/rwlock").write_text("no JSON")
    assert doctor()[0] == 0


def test_a_lock_of_a_dead_snakemake(project, tmp_path):
    locks = project / ".snakemake/locks"
    locks.mkdir(parents=True)
    assert doctor()[0] == 0
    (locks / "0.input.lock").write_text("x\n")
    code, said = doctor()
    assert code == 5
    assert says_what_to_do(said, "a lock of a Snakemake that is dead", "snakemake --unlock")
    program = tmp_path / "snakemake"
    shutil.copy(shutil.which("sleep", path="/bin:/usr/bin"), program)
    with subprocess.Popen([program, "3600"], cwd=project) as living:
        code, said = doctor()
        living.kill()
    assert code == 0
    assert "a Snakemake is at work here" in said

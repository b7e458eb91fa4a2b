"""A full disk, no memory, two runs at once, odd paths, locks left by the dead, secrets."""

import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cmw_pipeline.cli import main
from cmw_pipeline.config import Plan, load
from cmw_pipeline.errors import SystemFault
from cmw_pipeline.io.manifests import is_locked
from cmw_pipeline.runtime import devices
from cmw_pipeline.runtime.memory import memory_fault
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.stages import download, export, inject, metaset, train
from cmw_pipeline.stages.base import make
from cmw_pipeline.stages.table import make_table
from tests.support import forked
from tests.support.processes import environment

SOURCE = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RUN = "digits/asym-0.4/cmw-net/quick/seed0"
PARAMS = f"""
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {{digits: {{source: digits}}}}
biases: {{tiny: [asym-0.4]}}
methods:
  cmw-net:
    kind: erm
    label: CMW-Net
    weighting: {{kind: cmw-net, meta_set: clean-2, meta_batch: 20, meta_every: 7}}
recipes:
  quick: {{network: {{name: small-cnn, width: 4}}, optimizer: {{lr: 0.1}}, epochs: 1, batch_size: 100}}
tables:
  tiny:
    title: Tiny
    weighting_figures: [{RUN}]
    grid: [{{dataset: digits, biases: tiny, methods: [cmw-net], recipe: quick}}]
"""
STAGES = {
    "download": download.run,
    "inject": inject.run,
    "metaset": metaset.run,
    "train": lambda job: train.run(job, torch.device("cpu"), StopRequest(), checkpoint_seconds=0),
    "export": export.run,
}


def new_project(root):
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    return root


def artefacts(root):
    """Every artefact of the table, in the order in which they are made; the table last."""
    return list(Plan(load(root / "params.yaml")).artefacts().values())


def make_one(artefact, root):
    if artefact.stage == "table":
        make_table(artefact, root, strict=True)
    else:
        make(artefact, STAGES[artefact.stage], root)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project with everything made. Not to be changed."""
    root = new_project(tmp_path_factory.mktemp("built") / "project")
    for artefact in artefacts(root):
        make_one(artefact, root)
    return root


def command(root, *words, **changes):
    """Run to the end; returns (exit code, everything it said)."""
    done = forked.run(words, root, environment(**changes))
    return done.returncode, done.stdout + done.stderr


# --- F53: a full disk, at every stage


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts}


@pytest.mark.parametrize("stage", [*STAGES, "table"])
def test_a_disk_that_is_full_at_any_file_of_any_stage_is_one_line_and_leaves_nothing(built, tmp_path, stage):
    """A limit on file sizes stands in for the full disk: the same call fails in the same place.

    The limit goes down from the largest file of the stage to below the smallest, so that each of its files is
    the first to meet it.
    """
    root = shutil.copytree(built, tmp_path / "project")
    (artefact,) = (a for a in artefacts(root) if a.stage == stage)
    if stage == "table":
        for path in (root / "results").glob("tiny*"):
            path.unlink()
        whole = built.glob("results/tiny*")
    else:
        shutil.rmtree(root / artefact.path)
        whole = (built / artefact.path).iterdir()
    before = files(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for limit in sorted({path.stat().st_size * 9 // 10 for path in whole}, reverse=True):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(SystemFault) as raised:
                make_one(artefact, root)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(str(raised.value).splitlines()) == 1
        left = {p for p in files(root) - before if "checkpoints" not in p.parts}
        if stage == "table":  # whole files of the new rendering may be there, but no receipt says so
            assert not (root / "results/tiny.manifest.json").exists()
            assert all(p.read_bytes() == (built / p.relative_to(root)).read_bytes() for p in left)
        else:
            assert not left
    signal.signal(signal.SIGXFSZ, handler)
    make_one(artefact, root)
    assert (root / artefact.manifest).exists() or (root / "results/tiny.manifest.json").exists()


def test_on_a_disk_of_one_megabyte_the_same_command_goes_on_when_there_is_room(tmp_path):
    """A real one. Raw digits fit, a model of 4 MB does not; afterwards nothing has to be repaired."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only the superuser can mount a small disk")
    try:
        root = new_project(disk / "project")
        text = PARAMS.replace("width: 4", "width: 64")
        (root / "params.yaml").write_text(text)
        first = [a for a in artefacts(root) if a.stage in ("download", "inject", "metaset")]
        for artefact in first:
            make_one(artefact, root)
        code, said = command(root, "cmw", "train", RUN)
        assert code == 5
        assert "disk full" in said
        assert "Traceback" not in said
        run = Plan(load(root / "params.yaml")).train(RUN)
        assert not (root / run.path).exists()
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        code, said = command(root, "cmw", "train", RUN)
        assert code == 0, said
    finally:
        subprocess.run(["umount", disk], check=True)


# --- F45: out of memory


def test_out_of_memory_is_one_line_with_what_was_used_and_what_to_change(built, tmp_path):
    """For real: the second convolution of this network has more bytes than there are addresses."""
    root = shutil.copytree(built, tmp_path / "project")
    (root / "params.yaml").write_text(PARAMS.replace("width: 4", "width: 10000000"))
    code, said = command(root, "cmw", "train", RUN)
    assert code == 5, said
    assert "Traceback" not in said
    assert "out of memory; in use were at most" in said
    assert "smaller batch_size" in said
    assert not (root / Plan(load(root / "params.yaml")).train(RUN).path).exists()


@pytest.mark.parametrize("words", [("train", RUN), ("audit", "digits/asym-0.4")])
def test_too_few_addresses_are_refused_before_torch_ends_the_process(built, words):
    """PyTorch under so low a limit aborts, or cannot start a thread, wherever it happens to be."""
    code, said = command(built, "prlimit", "--as=3000000000", "cmw", *words)
    assert code == 5, said
    assert "the address space is limited to 2,861 MiB" in said
    assert "ulimit -v" in said


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_a_gpu_without_memory_is_one_line_and_its_lease_is_free_again(built, tmp_path, monkeypatch, error):
    root = shutil.copytree(built, tmp_path / "project")
    shutil.rmtree(root / Plan(load(root / "params.yaml")).train(RUN).path)
    monkeypatch.chdir(root)
    monkeypatch.setattr(devices, "PLACE", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen = []

    def fails(*_):
        seen.extend(is_locked(lock) for lock in tmp_path.glob("cmw-gpu-leases-*/0.lock"))
        raise error

    monkeypatch.setattr(train, "run", fails)
    result = CliRunner().invoke(main, ["train", RUN])
    assert result.exit_code == 5
    assert "out of memory" in result.output
    assert seen == [True], "the lease was held"
    assert not any(is_locked(lock) for lock in tmp_path.glob("cmw-gpu-leases-*/*.lock"))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert memory_fault(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert memory_fault(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")) is not None


# --- F58: a GPU that torch cannot use


def test_a_gpu_that_torch_cannot_use_is_one_line(built, tmp_path, monkeypatch):
    root = shutil.copytree(built, tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setattr(devices, "PLACE", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(main, ["train", RUN])
    assert result.exit_code == 5
    assert "cannot use the GPU" in result.output
    assert "cmw doctor" in result.output


# --- F66, F68, F69: the workflow in odd places, beside another one, behind a dead one


def with_workflow(root):
    shutil.copytree(SOURCE / "workflow", root / "workflow")
    return root


@pytest.mark.workflow
def test_spaces_letters_of_all_kinds_a_long_path_and_a_link_to_it(tmp_path):
    real = tmp_path / "ünï cödé 数据's (1) $HOME & co" / ("long" * 50)
    with_workflow(new_project(real))
    link = tmp_path / "a link"
    link.symlink_to(real)
    code, said = command(link, "snakemake", "data")
    assert code == 0, said
    made = [a for a in artefacts(link) if a.stage in ("download", "inject", "metaset")]
    assert all((real / a.manifest).exists() for a in made)
    code, said = command(real, "snakemake", "-n", "data")
    assert "Nothing to be done" in said, "the same place by another name"


@pytest.mark.workflow
def test_two_snakemakes_on_one_copy_make_everything_once(tmp_path):
    root = with_workflow(new_project(tmp_path / "project"))
    log = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(["snakemake", "data"], cwd=root, env=environment(), **log) for _ in range(2)]
    said = [process.communicate(timeout=1800)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    made = [a for a in artefacts(root) if a.stage in ("download", "inject", "metaset")]
    assert all((root / a.manifest).exists() for a in made)
    assert not list((root / "results").rglob(".*.tmp"))


@pytest.mark.workflow
def test_a_lock_that_a_dead_snakemake_left_stops_nobody(built, tmp_path):
    """Our profile takes no lock. One of another profile: `snakemake --unlock`, as `cmw doctor` says."""
    root = with_workflow(shutil.copytree(built, tmp_path / "project"))
    locks = root / ".snakemake/locks"
    locks.mkdir(parents=True)
    for kind in ("input", "output"):
        (locks / f"0.{kind}.lock").write_text("results/tiny.md\n")
    code, said = command(root, "snakemake", "-n", "data")
    assert (code, "Nothing to be done" in said) == (0, True), said
    code, said = command(root, "cmw", "doctor")
    assert code == 5
    assert "snakemake --unlock" in said
    assert command(root, "snakemake", "--unlock")[0] == 0
    assert not list(locks.glob("*.lock"))


@pytest.mark.workflow
def test_a_lock_that_a_dead_dvc_left_stops_nobody(tmp_path):
    root = new_project(tmp_path / "project")
    command(root, "git", "init", "-q")
    command(root, "dvc", "init", "-q")
    (root / "data.txt").write_text("1")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owner = f'{{"pid": {dead.pid}, "cmd": "dvc repro"}}'
    (root / ".dvc/tmp").mkdir(exist_ok=True)
    (root / ".dvc/tmp/rwlock").write_text(f'{{"write": {{"{root}/data.txt": {owner}}}}}')
    code, said = command(root, "dvc", "add", "data.txt")
    assert code == 0, said


# --- F78: secrets


def test_no_secret_of_the_environment_reaches_a_file(tmp_path):
    root = new_project(tmp_path / "project")
    secret = "wJalrXUtnFEMI-canary-7MDENG"
    names = ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DVC_STUDIO_TOKEN", "CMW_PASSWORD")
    code, said = command(root, "cmw", "download", "digits", **dict.fromkeys(names, secret))
    assert code == 0
    for file in files(root):
        assert secret.encode() not in file.read_bytes(), file
    assert secret not in said


def test_parameters_have_no_place_for_a_secret(tmp_path):
    root = new_project(tmp_path / "project")
    (root / "params.yaml").write_text(PARAMS.replace("source: digits", "source: digits, token: abc"))
    code, said = command(root, "cmw", "check")
    assert code == 2
    assert "unknown key" in said

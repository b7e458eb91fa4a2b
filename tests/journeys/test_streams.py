"""Streams, environments and files as they should not be: one line and the right exit code."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cmw_pipeline import load_classifier
from cmw_pipeline.cli import main
from cmw_pipeline.data.label_files import read_label_file
from cmw_pipeline.data.own import read_own
from cmw_pipeline.errors import ConfigError, IntegrityError, SystemFault
from cmw_pipeline.io.checkpoints import load_latest
from cmw_pipeline.io.manifests import open_stored
from cmw_pipeline.meta.weighting import load_weighting
from cmw_pipeline.runtime import logs
from cmw_pipeline.runtime.logs import progress
from cmw_pipeline.runtime.memory import memory_fault
from cmw_pipeline.runtime.team import joined_team
from tests.support.processes import environment

PARAMS = """
build: [t]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {b: [none]}
methods: {erm: {kind: erm, label: ERM}}
recipes: {r: {network: {name: small-vgg, width: 4}, optimizer: {lr: 0.01}, epochs: 1, batch_size: 1}}
tables: {t: {title: T, grid: [{dataset: digits, biases: b, methods: [erm], recipe: r}]}}
"""
DEEP = "[" * 100_000


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


@pytest.mark.parametrize("words", [["check"], ["schema"], ["--help"]])
def test_what_cannot_be_printed_is_one_line_and_code_5(project, words):
    command = [sys.executable, "-c", "from cmw_pipeline.cli import run; run()", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
    assert done.returncode == 5
    assert done.stderr.startswith("cmw: what was printed could not be written: ")
    assert done.stderr.count("\n") == 1


def test_without_a_standard_error_the_steps_are_taken_all_the_same(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress(range(3), 3, "epoch")) == [0, 1, 2]


@pytest.mark.parametrize("changes", [{"WORLD_SIZE": "abc"}, {"WORLD_SIZE": "2", "RANK": "0"}])
def test_half_a_team_is_one_line(monkeypatch, changes):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0"} | changes).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemFault, match="no team of WORLD_SIZE"), joined_team("cpu"):
        pass


@pytest.mark.parametrize("name", ["pipe.yaml", "/dev/zero", "folder", "large.yaml", "params/extra.yaml"])
def test_parameters_that_are_no_file_or_never_end_are_one_line_and_code_2(project, name):
    os.mkfifo(project / "pipe.yaml")
    (project / "folder").mkdir()
    with (project / "large.yaml").open("wb") as large:
        large.truncate(2**30)
    if name == "params/extra.yaml":  # included
        (project / "params").mkdir()
        os.mkfifo(project / name)
        name = "params.yaml"
        (project / name).write_text("include: [params]")
    done = CliRunner().invoke(main, ["--params", name, "check"])
    assert done.exit_code == 2
    (line,) = [line for line in done.output.splitlines() if line and not line.startswith(("Usage", "Try"))]
    assert any(words in line for words in ("a pipe or a device", "directory", "larger than"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 5),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 5),
        (MemoryError(), 5),
        (ImportError("cannot import name 'x'"), None),
    ],
)
def test_a_library_that_finds_no_memory_is_one_line_and_code_5(project, monkeypatch, error, code):
    def fails(*_):
        raise error

    monkeypatch.setattr("cmw_pipeline.cli.upkeep.load", fails)
    done = CliRunner().invoke(main, ["prune"])
    if code is None:  # no fault of the machine: whoever sees it should see all of it
        assert done.exception is error
    else:
        assert done.exit_code == code
        assert done.output.startswith("cmw: out of memory; in use were at most ")


@pytest.mark.parametrize("limit", [None, 3 * 2**40])
def test_out_of_memory_names_the_limit_where_there_is_one(monkeypatch, limit):
    found = resource.RLIM_INFINITY if limit is None else limit
    monkeypatch.setattr(resource, "getrlimit", lambda _: (found, found))
    said = str(memory_fault(MemoryError()))
    assert ("ulimit -v" in said) == (limit is not None)
    assert limit is None or "now 3,145,728 MiB" in said


def test_a_manifest_a_card_and_a_table_that_are_pipes_are_refused(tmp_path):
    for name in ("manifest.json", "card.json", "review.csv", "labels.csv", "vectors.npz"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(IntegrityError, match="not a manifest: this is a pipe or a device"):
        open_stored(tmp_path)
    with pytest.raises(IntegrityError, match="a pipe or a device"):
        load_weighting(tmp_path)
    with pytest.raises(IntegrityError, match="a pipe or a device"):
        load_classifier(tmp_path)
    for name in ("labels.csv", "vectors.npz"):
        with pytest.raises(IntegrityError, match="a pipe or a device"):
            read_own(tmp_path / name)
    with pytest.raises(ConfigError, match="expected a label file"):
        read_label_file(tmp_path / "labels.csv", 10)


def test_a_manifest_and_a_card_that_never_end_are_refused(tmp_path):
    for name in ("manifest.json", "card.json"):
        (tmp_path / name).write_text(DEEP)
    with pytest.raises(IntegrityError, match="not a manifest"):
        open_stored(tmp_path)
    with pytest.raises(IntegrityError, match="not an exported weighting function"):
        load_weighting(tmp_path)


def test_a_checkpoint_that_never_ends_is_passed_over(tmp_path, caplog):
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "step-00000001" / "state.json").write_text(DEEP)
    with pytest.raises(IntegrityError, match="no checkpoint is whole"):
        load_latest(tmp_path)
    assert "checkpoint passed over" in caplog.text


def test_batches_of_one_sample_and_more_than_there_are(project):
    runner = CliRunner()
    for words in (["download", "digits"], ["inject", "digits/none"]):
        assert runner.invoke(main, words).exit_code == 0
    lone = runner.invoke(main, ["train", "digits/none/erm/r/seed0"])
    assert lone.exit_code == 2
    assert "cannot be trained on a batch of one sample" in lone.output
    (project / "params.yaml").write_text(PARAMS.replace("batch_size: 1", "batch_size: 100000"))
    large = runner.invoke(main, ["train", "digits/none/erm/r/seed0"])
    assert large.exit_code == 0
    assert "the training set has no 100000 samples" in large.output


def test_a_log_gets_a_line_a_minute_of_a_long_epoch(monkeypatch, caplog):
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with caplog.at_level("INFO"):
        assert list(progress(range(10), 10, "epoch 1/2")) == list(range(10))
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 1/2  step 3 of 10, 3 min left of the epoch",
        "epoch 1/2  step 6 of 10, 2 min left of the epoch",
        "epoch 1/2  step 9 of 10, 25 s left of the epoch",
    ]

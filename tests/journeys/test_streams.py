"""Streams, environments and files as they should not be: one line and the right exit code."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cmw_pipeline.cli import main
from cmw_pipeline.errors import IntegrityError, SystemFault
from cmw_pipeline.io.checkpoints import load_latest
from cmw_pipeline.io.manifests import open_stored
from cmw_pipeline.meta.weighting import load_weighting
from cmw_pipeline.runtime.logs import progress
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

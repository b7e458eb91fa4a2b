"""Targets behind Snakemake's options of several values, typed as people type them."""

import importlib
import subprocess
import sys

import pytest
import snakemake.common.argparse
from snakemake.cli import get_argument_parser

from tests.support.processes import environment

PAGE = "results/table4.md"
COMPARED = ["resources", "set_resources", "set_threads", "default_resources", "config", "rerun_triggers"]
COMPARED += ["forcerun", "quiet", "cores", "dryrun"]


@pytest.fixture(scope="module")
def parser():
    return get_argument_parser()


@pytest.mark.parametrize(
    ("line", "same"),
    [
        (f"--cores all --resources gpu=4 {PAGE}", f"{PAGE} --cores all --resources gpu=4"),
        (f"-n --resources gpu=4 mem_mb=9 {PAGE}", f"{PAGE} -n --resources gpu=4 mem_mb=9"),
        (
            f"--resources gpu=4 --set-resources train:gpu=4 {PAGE}",
            f"{PAGE} --resources gpu=4 --set-resources train:gpu=4",
        ),
        (f"--set-threads train=2 {PAGE} --cores 1", f"{PAGE} --set-threads train=2 --cores 1"),
        (f"--default-resources mem_mb=1 {PAGE}", f"{PAGE} --default-resources mem_mb=1"),
        (f"--config a=1 b=2 {PAGE}", f"{PAGE} --config a=1 b=2"),
        (f"--rerun-triggers mtime {PAGE}", f"{PAGE} --rerun-triggers mtime"),
        (f"-n -q {PAGE}", f"{PAGE} -n -q"),
        (f"-nq {PAGE}", f"{PAGE} -nq"),
        (f"--forcerun --resources gpu=4 {PAGE}", f"{PAGE} --forcerun --resources gpu=4"),
        (f"--resources gpu=4 -- {PAGE}", f"{PAGE} --resources gpu=4"),
        ("--forcerun train --cores 1", "--cores 1 --forcerun train"),  # any word can be its value
    ],
)
def test_a_target_behind_an_option_is_what_it_is_before_it(parser, line, same):
    found, expected = (vars(parser.parse_args(words.split())) for words in (line, same))
    assert list(found["targets"]) == list(expected["targets"])
    assert {name: str(found[name]) for name in COMPARED} == {name: str(expected[name]) for name in COMPARED}


@pytest.mark.parametrize(
    "line", [f"--resources gpu=4 {PAGE} results/b.md", f"-q {PAGE} --res gpu=4 results/b.md"]
)
def test_several_targets_keep_their_order(parser, line):
    assert parser.parse_args(line.split()).targets == [PAGE, "results/b.md"]


def test_the_processes_of_snakemake_understand_each_other(parser):
    """Values are handed on encoded, and names may be any word."""
    words = "--set-resources base64//dHJhaW46Z3B1PTQ= --target-jobs train: --allowed-rules train"
    found = parser.parse_args(words.split())
    assert not found.targets
    assert found.set_resources["train"]["gpu"].value == 4
    assert ([job.rulename for job in found.target_jobs], found.allowed_rules) == (["train"], ["train"])


def test_a_snakemake_built_otherwise_works_on_and_the_user_is_told(monkeypatch, capsys):
    monkeypatch.delattr(snakemake.common.argparse, "ArgumentParser")
    importlib.reload(sys.modules["snakemake_logger_plugin_cmw"])
    assert "put `--` before targets" in capsys.readouterr().err


def test_the_command_of_the_readme(tmp_path):
    """The installed command, not the parser alone: it gets as far as looking for the workflow."""
    words = ["snakemake", "--cores", "all", "--resources", "gpu=4", PAGE]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert "No Snakefile found" in done.stderr

"""`cmw doctor --profile`: what a cluster's profile needs, before anything is submitted."""

import sys

import pytest
from click.testing import CliRunner

from cmw_pipeline.cli import main

PLAIN = "executor: slurm\n"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Answers of the doctor for a profile, where Slurm's commands are scripts."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(bin_))

    def ask(profile=PLAIN, **commands):
        for file in bin_.iterdir():
            file.unlink()
        for name, body in commands.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
            (bin_ / name).chmod(0o755)
        folder = tmp_path / "workflow" / "profiles" / "mine"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(profile)
        done = CliRunner().invoke(main, ["doctor", "--profile", "mine"])
        return done.exit_code, done.output

    return ask


WHOLE = {"sbatch": "", "sinfo": "echo main*; echo gpu", "sacct": ""}


@pytest.mark.skipif(sys.platform != "linux", reason="stand-ins are shell scripts")
@pytest.mark.parametrize(
    ("profile", "changes", "code", "said"),
    [
        (PLAIN, {}, 0, "partition: main, the cluster's default"),
        (PLAIN, {"sinfo": "echo main"}, 2, "no slurm_partition, and the cluster has no default"),
        (PLAIN, {"sinfo": "echo cannot reach it >&2; exit 1"}, 5, "Slurm does not answer: cannot reach it"),
        (PLAIN, {"sacct": "echo storage is disabled >&2; exit 1"}, 5, "slurm-status-command: squeue"),
        (
            "executor: slurm\nslurm-status-command: squeue\nslurm-no-account: true\n",
            {"sacct": "exit 1"},
            0,
            "account: none is sent",
        ),
        (
            "executor: slurm\ndefault-resources: {slurm_partition: \"'gpu'\", slurm_account: \"'me'\"}\n",
            {},
            0,
            "partition: gpu",
        ),
        ("executor: slurm\ndefault-resources: {slurm_partition: cpu}\n", {}, 2, "the cluster has main, gpu"),
        ("executor: nobodys\n", {}, 5, "snakemake-executor-plugin-nobodys is not installed"),
        ("jobs: 3\n", {}, 0, "jobs run on this machine"),
    ],
)
def test_what_a_profile_lacks_is_said_with_what_to_do(asked, monkeypatch, profile, changes, code, said):
    known = {"snakemake-executor-plugin-slurm": "2.0"}
    monkeypatch.setattr("cmw_pipeline.runtime.cluster.version", known.get)
    found = asked(profile, **(WHOLE | changes))
    assert found[0] == code, found[1]
    assert said in found[1]


def test_a_machine_without_sbatch_is_no_login_node(asked):
    code, said = asked()
    assert code == 5
    assert "sbatch: there is no such command here" in said


def test_a_profile_that_is_not_there_is_answered_with_those_that_are(asked):
    asked()
    done = CliRunner().invoke(main, ["doctor", "--profile", "slurn"])
    assert done.exit_code == 2
    assert "choose one of mine" in done.output

"""A project of its own, for tests of what the real Snakemake and DVC do with it."""

import re
import shutil
from pathlib import Path

import torch
from click.testing import CliRunner

from cmw_pipeline.cli import main
from cmw_pipeline.config import Plan, load
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.stages import download, inject, metaset, train
from cmw_pipeline.stages.base import make
from tests.support import forked
from tests.support.processes import environment

SOURCE = Path(__file__).parents[2]


def cmw(*words):
    """A command in this process and folder: its exit code, and what it printed."""
    done = CliRunner().invoke(main, list(map(str, words)))
    return done.exit_code, done.output


def made(*words):
    """A command that must work."""
    code, output = cmw(*words)
    assert code == 0, output


class Project:
    """A working copy with its own git and DVC; ``params`` has a place for the ``second`` bias."""

    def __init__(self, root, params):
        self.root = root
        self.params = params

    def run(self, *command, check=True, **changes):
        """Run a command as a user would; returns its output."""
        done = forked.run(command, self.root, environment(**changes))
        text = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{command}: exit {done.returncode}\n{text}"
        return text

    def write_params(self, second):
        (self.root / "params.yaml").write_text(self.params.format(second=second))

    def commit(self, message):
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def made(self):
        """Manifest -> time it was written, of everything that is there; a draft is not."""
        return {
            str(path.relative_to(self.root)): path.stat().st_mtime_ns
            for path in (self.root / "results").glob("*/**/manifest.json")
            if not path.parent.name.startswith(".")
        }

    def plan(self):
        return Plan(load(self.root / "params.yaml"))

    def planned(self):
        return {a.manifest for a in self.plan().artefacts().values() if a.stage != "table"}

    def make_data_and_runs(self):
        """What the tables need, in this process: seconds where Snakemake starts a process for each."""
        stages = {
            "download": download.run,
            "inject": inject.run,
            "metaset": metaset.run,
            "train": lambda job: train.run(job, torch.device("cpu"), StopRequest()),
        }
        for artefact in self.plan().artefacts().values():
            if artefact.stage in stages:
                make(artefact, stages[artefact.stage], self.root)

    def copy(self, root):
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root, self.params)


def new_project(root, params):
    """The workflow with these parameters, under git and DVC."""
    root.mkdir(parents=True)
    for name in ("workflow", ".gitignore", ".dvcignore"):
        source = SOURCE / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    stages = (SOURCE / "dvc.yaml").read_text()  # without the shipped params/
    (root / "dvc.yaml").write_text(re.sub(r"^ +- params/.*\n", "", stages, flags=re.MULTILINE))
    project = Project(root, params)
    project.write_params("sym-0.2")
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.run("dvc", "config", "core.analytics", "false")
    return project

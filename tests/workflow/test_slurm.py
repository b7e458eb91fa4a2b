"""The digits grid on a real Slurm of one node: through failures, limits and kills to the rows of a local run.

One journey is made, and each test asks one thing about it. It takes about three minutes on two free cores.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

from cmw_pipeline.config import Plan, load
from tests.support import processes

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.slurm import GUARD, Cluster, missing

SOURCE = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(bool(missing()), reason=f"Slurm is not installed: no {', '.join(missing())}"),
]
PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [asym-0.4]}
methods:
  erm-for-long: {kind: erm, label: ERM}
  cmw-net: {kind: erm, label: CMW-Net, weighting: {kind: cmw-net, meta_set: clean-2, meta_every: 4}}
  transferred:
    kind: erm
    label: Transferred
    weighting: {kind: frozen, run: digits/asym-0.4/cmw-net/quick/seed0}
recipes:
  quick: {network: {name: small-cnn, width: 4}, optimizer: {lr: 0.1}, epochs: 1, batch_size: 100}
  long: {network: {name: small-cnn, width: 4}, optimizer: {lr: 0.1}, epochs: EPOCHS, batch_size: 100}
tables:
  tiny:
    title: A tiny grid
    grid:
      - {dataset: digits, biases: tiny, methods: [cmw-net, transferred], recipe: quick}
      - {dataset: digits, biases: tiny, methods: [erm-for-long], recipe: long}
"""
EPOCHS = 300  # a quarter of a minute on a free core
LONG = "erm-for-long"
# What a job's `cmw` is here: it keeps a journal, the first choice of a meta-set fails, and the long training
# sleeps four fifths of its time, because Slurm looks at time limits twice a minute only.
SHIM = """#!/bin/bash
checkpoints() {{ ls -d results/checkpoints/*/step-* 2>/dev/null | wc -l; }}
say() {{ echo "$1 ${{SLURM_JOB_ID:-none}} $2 $3 $(checkpoints)" >> journal; }}
say start "$1" "$2"
if [ "$1" = metaset ] && mkdir failed-once 2>/dev/null; then say end "$1" 5; exit 5; fi
trap : TERM  # the command gets the same signal
{real} "$@" & child=$!
pace() {{ while kill -STOP $child; do sleep .4; kill -CONT $child; sleep .1; done 2>/dev/null; }}
case $2 in *{long}*) pace & esac
while :; do wait $child; code=$?; kill -0 $child 2>/dev/null || break; done
say end "$1" $code
exit $code
"""
SNAKEMAKE = [
    "snakemake", "--profile", "workflow/profiles/slurm",
    "--slurm-no-account", "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10",
    "--default-resources", "mem_mb=1000", "runtime=5", "nodes=1",
    "slurm_extra='--signal=TERM@60'",
    "--set-resources", "train:gpu=0", "transfer:gpu=0", "train:runtime=20", "train:mem_mb=1000",
    "transfer:mem_mb=1000",
]  # fmt: skip


def environment(*first):
    ours = processes.environment()
    return ours | {"PATH": ":".join([*map(str, first), ours["PATH"]])}


def new_project(root):
    shutil.copytree(SOURCE / "workflow", root / "workflow")
    (root / "params.yaml").write_text(PARAMS.replace("EPOCHS", str(EPOCHS)))
    return root


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="cmw-slurm-") as folder, Cluster(Path(folder)) as running:
        yield running


class Journey:
    """A project on the cluster, what was seen of it on the way, and the same grid made without a cluster."""

    def __init__(self, cluster, folder):
        self.cluster = cluster
        self.project = new_project(folder / "on the cluster")
        self.local = new_project(folder / "local")
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        shim = bin_folder / "cmw"
        shim.write_text(SHIM.format(real=Path(sys.executable).with_name("cmw"), long=LONG))
        shim.chmod(0o755)
        self.environment = environment(bin_folder, cluster.folder / "bin") | {
            "SLURM_CONF": cluster.environment["SLURM_CONF"]
        }
        self.started = []
        self.said = ""

    def start(self, command, folder, env):
        """A command in the background, its output in a file; ended with the journey."""
        log = folder / f"said-{len(self.started)}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True
            )
        self.started.append(process)
        return process, log

    def journal(self):
        """(start or end, Slurm job, stage, what for or exit code, number of checkpoints), in order."""
        path = self.project / "journal"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def starts(self, part):
        return [job for what, job, _, name, _ in self.journal() if what == "start" and part in name]

    def ends(self, job):
        return [code for what, of, _, code, _ in self.journal() if what == "end" and of == job]

    def state(self, job):
        return self.cluster.ask("squeue", "--states=all", "--noheader", "--format=%T", f"--jobs={job}")

    def queue(self, *states):
        asked = f"--states={','.join(states)}"
        return self.cluster.ask("squeue", asked, "--noheader", "--format=%i %k").splitlines()

    def training(self, job):
        """Whether a job has got into its training."""
        logs = (self.project / "results/logs/train").rglob("*.log")
        text = "".join(log.read_text(errors="replace") for log in logs if LONG in str(log))
        return job in self.starts(LONG)[-1:] and ("/" + str(EPOCHS)) in text

    def end(self):
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module")
def journey(cluster, tmp_path_factory):
    """A failing job, ``scancel``, a drained node, edited parameters, kill -9, a time limit; then the end.

    The limit is that of the job that the killed Snakemake left behind: it is drawn near while it trains.
    """
    j = Journey(cluster, tmp_path_factory.mktemp("journey"))
    wait = cluster.wait_for
    try:
        local, _ = j.start(["snakemake", "--cores", "1"], j.local, environment())
        first, j.first_log = j.start(SNAKEMAKE, j.project, j.environment)

        wait(lambda: j.starts(LONG), GUARD)
        j.cancelled = j.starts(LONG)[0]
        wait(lambda: j.training(j.cancelled), GUARD)
        cluster.ask("scancel", j.cancelled)
        wait(lambda: j.state(j.cancelled) == "CANCELLED", GUARD)

        cluster.ask("scontrol", "update", f"nodename={cluster.host}", "state=drain", "reason=test")
        wait(lambda: any(LONG in line for line in j.queue("PENDING")), GUARD)
        before = j.queue("RUNNING")
        params = (j.project / "params.yaml").read_text()
        (j.project / "params.yaml").write_text(params.replace("lr: 0.1", "lr: 0.2").replace("tiny grid", "x"))
        time.sleep(4)
        j.waited = j.queue("PENDING")
        j.started_meanwhile = set(j.queue("RUNNING")) - set(before)
        cluster.ask("scontrol", "update", f"nodename={cluster.host}", "state=resume")

        wait(lambda: len(j.starts(LONG)) > 1, GUARD)
        j.orphan = j.starts(LONG)[1]
        wait(lambda: j.training(j.orphan), GUARD)
        (j.project / "params.yaml").write_text(params)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        cluster.ask("scontrol", "update", f"jobid={j.orphan}", "endtime=now+90")
        wait(lambda: j.ends(j.orphan), GUARD)

        last, j.last_log = j.start(SNAKEMAKE, j.project, j.environment)
        wait(lambda: last.poll() is not None, GUARD)
        wait(lambda: local.poll() is not None, GUARD)
        j.code, j.local_code = last.returncode, local.returncode
        yield j
    finally:
        j.end()


def test_the_same_command_after_a_kill_finishes_the_grid(journey):
    assert journey.code == 0, journey.last_log.read_text()[-3000:]
    plan = Plan(load(journey.project / "params.yaml"))
    assert all(
        (journey.project / a.manifest).exists() for a in plan.artefacts().values() if a.stage != "table"
    )
    assert journey.local_code == 0


def test_a_failing_job_is_tried_again(journey):
    metaset = [line for line in journey.journal() if line[2] == "metaset"]
    assert [line[3] for line in metaset if line[0] == "end"] == ["5", "0"]
    assert "failed  metaset digits/asym-0.4/clean-2" in journey.first_log.read_text()


def test_a_cancelled_job_is_tried_again(journey):
    assert journey.state(journey.cancelled) == "CANCELLED"
    assert "0" not in journey.ends(journey.cancelled)
    assert journey.orphan != journey.cancelled


def test_a_drained_node_gets_no_job_until_it_is_resumed(journey):
    assert any(LONG in line for line in journey.waited)
    assert not journey.started_meanwhile
    assert journey.ends(journey.orphan)


def test_a_job_that_waited_while_the_parameters_were_edited_did_what_it_was_planned_for(journey):
    """It trained; by the edited file there would have been no plan for its path."""
    planned = {str(a.path) for a in Plan(load(journey.project / "params.yaml")).artefacts().values()}
    asked = {line[3].removesuffix("/manifest.json") for line in journey.journal() if line[0] == "start"}
    assert asked <= planned | {"tiny"}
    assert journey.ends(journey.orphan) == ["143"]


def test_ahead_of_its_time_limit_a_run_stops_with_a_checkpoint_and_the_next_attempt_continues(journey):
    assert journey.state(journey.orphan) == "FAILED", "it stopped before Slurm killed it at the limit"
    assert journey.ends(journey.orphan) == ["143"]
    after = [line for line in journey.journal() if line[0] == "start" and LONG in line[3]][2]
    assert int(after[4]) > 0
    assert journey.ends(journey.starts(LONG)[-1]) == ["0"]


def test_rows_models_and_functions_are_those_of_the_local_run_byte_for_byte(journey):
    plan = Plan(load(journey.project / "params.yaml"))
    compared = 0
    for artefact in plan.artefacts().values():
        for file in (journey.local / artefact.path).rglob("*"):
            if artefact.stage != "table" and file.suffix in (".parquet", ".safetensors", ".csv", ".npy"):
                there = journey.project / file.relative_to(journey.local)
                assert there.read_bytes() == file.read_bytes(), there
                compared += 1
    assert compared >= 12
    tables = [pd.read_parquet(root / "results/tiny.parquet") for root in (journey.project, journey.local)]
    without_cost = [table.drop(columns=["seconds", "evaluation_seconds", "peak_mib"]) for table in tables]
    pd.testing.assert_frame_equal(*without_cost)

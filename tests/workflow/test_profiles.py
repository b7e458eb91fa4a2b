"""Each executor's profile plans the grid, and jobs work by the parameters of the run that submitted them."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.document import read_yaml
from cmw_pipeline.engine.params import VARIABLE, params_of_this_run
from cmw_pipeline.errors import ConfigError
from tests.support import forked

SOURCE = Path(__file__).parents[2]
PROFILES = SOURCE / "workflow" / "profiles"
CLUSTERS = sorted(
    path.parent.name for path in PROFILES.glob("*/config.yaml") if path.parent.name != "default"
)
PARAMS = """
build: [tiny]
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


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(SOURCE / "workflow", tmp_path / "project" / "workflow")
    (tmp_path / "project" / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv(VARIABLE, "")  # noted, so that what a test sets goes again
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path / "project"


def settings(name):
    return read_yaml(PROFILES / name / "config.yaml")


@pytest.mark.workflow
@pytest.mark.parametrize("name", CLUSTERS)
def test_a_dry_run_by_the_profile_plans_every_job(project, name):
    plugin = f"snakemake_executor_plugin_{settings(name)['executor'].replace('-', '_')}"
    if importlib.util.find_spec(plugin) is None:
        pytest.skip(f"{plugin} is not installed")
    command = ["snakemake", "-n", "--profile", f"workflow/profiles/{name}"]
    done = forked.run(command, project, dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "1 download, 1 inject, 1 train, 1 table" in done.stdout + done.stderr


@pytest.mark.parametrize("name", CLUSTERS)
def test_no_profile_takes_a_promise_of_the_default_one_away(name):
    """Both are loaded; attempts, keep-going and the triggers are said once, in the default profile."""
    own = settings(name)
    assert not set(own) & set(settings("default"))
    assert own["default-resources"]["runtime"] > 0
    assert own["default-resources"]["mem_mb"] > 0


def test_slurm_is_asked_for_a_signal_that_runs_and_snakemake_survive():
    """SIGTERM: Snakemake waits for its job then; by any other it dies first, and its job with it."""
    assert settings("slurm")["default-resources"]["slurm_extra"] == "'--signal=TERM@120'"
    assert settings("slurm")["slurm-requeue"] is True


# --- one set of parameters a run


def test_a_run_keeps_the_parameters_it_started_with(project):
    first = Plan(params_of_this_run()).table("tiny").digest
    (project / "params.yaml").write_text(PARAMS.replace("lr: 0.1", "lr: 0.2"))
    assert Plan(params_of_this_run()).table("tiny").digest == first  # as a queued job parses it again
    del os.environ[VARIABLE]
    assert Plan(params_of_this_run()).table("tiny").digest != first  # a new run
    kept = list((project / ".snakemake" / "params").iterdir())
    assert len(kept) == 2
    rates = {load(path).recipes["quick"].optimizer.lr for path in kept}
    assert rates == {0.1, 0.2}


def test_a_mistake_in_the_parameters_is_told_by_the_files_own_name(project):
    (project / "params.yaml").write_text(PARAMS.replace("lr: 0.1", "lr: fast"))
    with pytest.raises(ConfigError, match=r"^params\.yaml: "):
        params_of_this_run()
    assert VARIABLE not in os.environ
    assert not (project / ".snakemake").exists()


def test_a_command_takes_the_parameters_of_the_run_that_started_it(project):
    params_of_this_run()
    (project / "params.yaml").write_text("nonsense")
    path = Plan(load(project / os.environ[VARIABLE])).download("digits").manifest
    done = subprocess.run(["cmw", "download", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (project / path).exists()


# --- Kubernetes


@pytest.fixture
def kubectl(project, monkeypatch):
    """A stand-in that keeps what it is given, and answers with the file ``answer``."""
    folder = project / "bin"
    folder.mkdir()
    tool = folder / "kubectl"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\ncat > {folder}/given\ncat {folder}/answer\n')
    tool.chmod(0o755)
    (folder / "answer").write_text("cmw-x7")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("CMW_IMAGE", "registry.example.org/cmw:1")
    monkeypatch.setenv("CMW_VOLUME", "shelf")
    return folder


def submitted(kubectl):
    command = ["workflow/profiles/kubernetes/submit", "2", "9000", "90", "1", "a/job script.sh"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cmw-x7"
    return read_yaml(kubectl / "given")["spec"]


def test_a_pod_gets_what_the_run_asks_for_and_two_minutes_of_grace(kubectl, project):
    spec = submitted(kubectl)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["activeDeadlineSeconds"] == 90 * 60
    assert spec["backoffLimit"] == 0, "Snakemake counts the attempts"
    assert pod["terminationGracePeriodSeconds"] == 120
    assert container["image"] == "registry.example.org/cmw:1"
    assert container["resources"]["limits"] == {"memory": "9000M", "nvidia.com/gpu": "1"}
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"] == str(project)
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "shelf"
    assert container["command"][-1] == "a/job script.sh"


def test_a_pods_first_process_passes_sigterm_on_and_waits_for_the_checkpoint(kubectl, project):
    command = submitted(kubectl)["template"]["spec"]["containers"][0]["command"]
    (project / "a").mkdir()
    script = "echo $$ > pid; trap 'stopped=1' TERM; touch ready; while [ -z $stopped ]; do sleep 0.1; done"
    (project / "a" / "job script.sh").write_text(f"{script}; sleep 0.5; touch checkpoint; exit 143\n")
    (kubectl / "pkill").write_text(f'#!/bin/sh\n[ "$*" = "-TERM cmw" ] && kill -TERM $(cat {project}/pid)\n')
    (kubectl / "pkill").chmod(0o755)
    pod = subprocess.Popen(command)
    try:
        while not (project / "ready").exists():
            with pytest.raises(subprocess.TimeoutExpired):
                pod.wait(0.1)
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(1800) == 143
    finally:
        pod.kill()
    assert (project / "checkpoint").exists()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("Job ", "running"), ("Job Complete", "success"), ("Job Failed", "failed"), ("", "failed"),
     ("Job Suspended", "running"), ("Job SuccessCriteriaMet Complete", "success")],
)  # fmt: skip
def test_the_state_of_a_job_is_one_of_three_words(kubectl, answer, expected):
    (kubectl / "answer").write_text(answer)
    done = subprocess.run(["workflow/profiles/kubernetes/status", "cmw-x7"], capture_output=True, text=True)
    assert done.stdout == expected + "\n"
    assert "cmw-x7" in (kubectl / "asked").read_text()

"""One GPU a run: four runs get four, the fifth waits, a dead run's GPU is free again, Slurm is left alone."""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from cmw_pipeline.errors import ConfigError, SystemFault
from cmw_pipeline.runtime import devices
from cmw_pipeline.runtime.devices import devices_of, lease, lease_folder, leased_device, shares, visible_gpus

HOLDER = """
import sys
from pathlib import Path
from cmw_pipeline.runtime.devices import lease
with lease(sys.argv[2].split(","), Path(sys.argv[1]), poll_seconds=0.02) as name:
    print(name, flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""
UUIDS = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,MIG-41b36325-61b5-5fe5-b7f7-4f3b6d3e5a56"


class Holder:
    """A real process that leases a device, says which, and holds it until told to let go."""

    def __init__(self, folder, names="0,1,2,3"):
        command = [sys.executable, "-c", HOLDER, str(folder), names]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def says(self, within=1800.0):
        """The next line, or None while it is silent."""
        try:
            return self.lines.get(timeout=within)
        except queue.Empty:
            return None

    def let_go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.says() == "released"


@pytest.fixture
def holder(tmp_path):
    started = []

    def start(**kwargs):
        started.append(Holder(tmp_path / "leases", **kwargs))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        one.process.stdin.close()


def test_four_runs_get_four_devices_a_fifth_waits_and_a_killed_run_frees_its_own(holder):
    first = [holder() for _ in range(4)]
    held = [one.says() for one in first]
    assert sorted(held) == ["0", "1", "2", "3"]

    fifth = holder()
    assert fifth.says(within=0.7) is None
    first[2].let_go()
    assert fifth.says() == held[2]

    sixth = holder()
    assert sixth.says(within=0.7) is None
    first[1].process.send_signal(signal.SIGKILL)
    assert sixth.says() == held[1]


def test_a_device_name_with_slashes_and_colons_can_be_leased(holder):
    names = "MIG-GPU-8932f937/1/0,0000:01:00.0"
    one, two = holder(names=names), holder(names=names)
    assert sorted([one.says(), two.says()]) == sorted(names.split(","))


def test_an_exception_inside_gives_the_lease_back(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), lease(["0"], tmp_path):
            raise KeyError
    with lease(["0"], tmp_path) as name:
        assert name == "0"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", ["0"]),
        ("2,0", ["2", "0"]),
        (" 1 , 3 ", ["1", "3"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        (UUIDS, UUIDS.split(",")),
        ("0,-1,1", ["0"]),  # what follows an invalid entry is invisible to CUDA
    ],
)
def test_cuda_visible_devices_is_respected(monkeypatch, value, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    monkeypatch.setenv("PATH", "/nonexistent")  # nothing else is asked
    assert visible_gpus() == expected


LISTED = """GPU 0: NVIDIA X (UUID: GPU-1)
  MIG 1g.5gb Device 0: (UUID: MIG-2)
GPU 1: NVIDIA X (UUID: GPU-3)"""


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [(0, LISTED, ["0", "1"]), (0, "No devices were found", []), (9, "NVIDIA-SMI has failed", [])],
)
def test_without_it_the_driver_is_asked(monkeypatch, tmp_path, code, text, expected):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{text}\nEND\nexit {code}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == expected


def driver(monkeypatch, folder):
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{LISTED}\nEND\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_device_has_one_lease_in_whatever_spelling(monkeypatch, tmp_path):
    driver(monkeypatch, tmp_path)
    for one, other in (("0", "GPU-1"), ("1", "GPU-3"), ("gpu-3", "1"), ("GPU-1", "GPU-1")):
        assert list(devices_of([one])) == list(devices_of([other]))
    assert devices_of(["0", "GPU-1", "1", "MIG-2"]) == {"GPU-1": "0", "GPU-3": "1", "MIG-2": "MIG-2"}
    assert list(devices_of(["GPU-"])) == ["GPU-"]  # the beginning of two names says neither


def test_a_number_and_a_uuid_of_one_gpu_are_not_two_leases(monkeypatch, tmp_path, no_slurm):
    driver(monkeypatch, tmp_path)
    taken = []
    with contextlib.ExitStack() as stack:
        for given in ("0,1", "GPU-1,GPU-3"):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
            stack.enter_context(leased_device())
            taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["0", "GPU-3"]


def test_the_place_of_the_leases_does_not_depend_on_tmpdir(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    folders = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        monkeypatch.setattr(tempfile, "tempdir", None)
        folders.add(lease_folder())
    assert len(folders) == 1


@pytest.mark.parametrize("kind", ["file", "link", "another's"])
def test_a_place_for_leases_that_is_not_ours_is_one_line(monkeypatch, tmp_path, no_slurm, kind):
    place = tmp_path / f"cmw-gpu-leases-{os.getuid()}"
    if kind == "file":
        place.touch()
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
        uid = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
        place.rename(tmp_path / f"cmw-gpu-leases-{uid + 1}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(SystemFault, match="not a folder of ours"), leased_device():
        pass


def test_a_lock_that_is_a_link_or_a_folder_is_one_line(monkeypatch, tmp_path, no_slurm):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (lease_folder() / "0.lock").mkdir()
    with pytest.raises(SystemFault, match="no lease can be had"), leased_device():
        pass


def test_a_device_name_of_any_length_can_be_leased(monkeypatch, no_slurm):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "x" * 300)
    with leased_device() as device:
        assert device == "cuda"


@pytest.fixture
def no_slurm(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(devices, "PLACE", tmp_path)


@pytest.mark.parametrize("value", ["", "-1", None])
def test_without_a_gpu_it_is_the_cpu_and_the_log_says_so(monkeypatch, tmp_path, caplog, no_slurm, value):
    monkeypatch.setenv("PATH", "/nonexistent")
    if value is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with caplog.at_level(logging.INFO), leased_device() as device:
        assert device == "cpu"
    assert "no GPU is visible: training on the CPU" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_leased_gpu_is_the_only_one_the_run_sees(monkeypatch, caplog, no_slurm):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS)
    with caplog.at_level(logging.INFO), leased_device() as device:
        assert device == "cuda"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == UUIDS.split(",")[0]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS)  # as another process would find it
        with leased_device():
            assert os.environ["CUDA_VISIBLE_DEVICES"] == UUIDS.split(",")[1]
    assert "leased GPU" in caplog.text


def test_under_slurm_the_one_gpu_of_a_job_needs_no_lease(monkeypatch, tmp_path, no_slurm):
    """Each of two jobs may see its own GPU as number 0: neither waits for the other."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for job in ("4711", "4712"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        with leased_device() as one, leased_device() as two:
            assert [one, two] == ["cuda"] * 2
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert list(Path(tmp_path).iterdir()) == []


def test_every_slurm_job_has_leases_of_its_own(monkeypatch, no_slurm):
    folders = [lease_folder()]
    for job in ("4711", "4712"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        folders.append(lease_folder())
        assert lease_folder() == folders[-1]
    assert len(set(folders)) == 3


def test_runs_inside_one_slurm_job_share_out_what_slurm_gave_it(monkeypatch, no_slurm):
    """A ``torchrun`` of two processes, or a Snakemake inside an allocation, gets two GPUs, not one twice."""
    got = []
    with contextlib.ExitStack() as stack:
        for job, given in (("4711", "2,3"), ("4711", "2,3"), ("4712", "2,3")):
            monkeypatch.setenv("SLURM_JOB_ID", job)
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
            assert stack.enter_context(leased_device()) == "cuda"
            got.append((job, os.environ["CUDA_VISIBLE_DEVICES"]))
    assert got == [("4711", "2"), ("4711", "3"), ("4712", "2")]


# --- several runs on one device


def test_four_runs_share_two_devices_evenly_and_a_fifth_waits(holder, monkeypatch):
    monkeypatch.setenv("CMW_RUNS_PER_GPU", "2")
    names = ",".join(shares(["0", "1"]))
    runs = [holder(names=names) for _ in range(4)]
    devices = [run.says().rpartition("@")[2] for run in runs]
    assert sorted(devices) == ["0", "0", "1", "1"]
    fifth = holder(names=names)
    assert fifth.says(within=0.5) is None
    runs[0].let_go()
    assert fifth.says().rpartition("@")[2] == devices[0]


def test_a_shared_device_is_named_to_cuda_without_its_share(monkeypatch, tmp_path):
    monkeypatch.setenv("CMW_RUNS_PER_GPU", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(devices, "PLACE", tmp_path)
    with lease(["7"], tmp_path / f"cmw-gpu-leases-{os.getuid()}"), leased_device() as device:
        assert device == "cuda"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.parametrize("text", ["0", "half", "-1", "1.5", "", "9" * 5000, "²"])
def test_a_wrong_number_of_runs_is_one_line(monkeypatch, text):
    monkeypatch.setenv("CMW_RUNS_PER_GPU", text)
    with pytest.raises(ConfigError, match="how many runs share a GPU"):
        shares(["0"])

"""A GPU that Slurm assigned is the one that a run takes: a real Slurm of one node, plain files as GPUs."""

import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.slurm import GPUS, GUARD, Cluster, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"Slurm is not installed: no {', '.join(missing())}")


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="cmw-slurm-") as folder, Cluster(Path(folder)) as running:
        yield running


LEASE = """
import os, time
from cmw_pipeline.runtime.devices import leased_device
with leased_device() as device:
    print(device, os.environ["CUDA_VISIBLE_DEVICES"], time.time(), flush=True)
    time.sleep(2)
    print(time.time(), flush=True)
"""


def test_jobs_with_a_gpu_each_train_on_the_one_that_slurm_gave_them(cluster, tmp_path):
    """As many jobs as there are GPUs and one more: no two on one GPU at a time."""
    script = tmp_path / "lease.py"
    script.write_text(LEASE)
    ask = ["sbatch", "--parsable", "--ntasks=1", "--gres=gpu:1", f"--wrap={sys.executable} {script}"]
    jobs = [cluster.ask(*ask, f"--output={tmp_path}/{n}") for n in range(GPUS + 1)]
    look = ["squeue", "--states=all", "--noheader", "--format=%T", f"--jobs={','.join(jobs)}"]
    cluster.wait_for(lambda: set(cluster.ask(*look).split()) == {"COMPLETED"}, GUARD)
    held = []
    for n in range(GPUS + 1):
        device, gpu, start, end = (tmp_path / str(n)).read_text().split()
        assert device == "cuda"
        assert gpu in map(str, range(GPUS))
        assert all(end < s or start > e for g, s, e in held if g == gpu), "two runs on one GPU"
        held.append((gpu, start, end))
    assert len({gpu for gpu, _, _ in held}) == GPUS

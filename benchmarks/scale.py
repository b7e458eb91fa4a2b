"""What 1,000 and 10,000 cells cost before anything trains: planning, files, manifests, DVC, submissions.

    python benchmarks/scale.py --cells 1008 --json benchmarks/results/scale.json

The runs are dry: each artefact of the plan is a folder with a manifest and small files under the names of a
real one, made in a temporary project. The plan is that of the demo with more seeds. ``--slurm`` also submits
jobs that do nothing to the one-node Slurm of the tests, as many as it says, by the plugin's own command line.
"""

import argparse
import getpass
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import commit, machine

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.document import read_document
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.io.manifests import is_stored, publish

ROOT = Path(__file__).parents[1]
FILES = {
    "download": ["images.npy", "labels.parquet"],
    "inject": ["labels.parquet"],
    "metaset": ["metaset.parquet"],
    "export": ["weighting.safetensors", "card.json", "curve.csv", "weighting.png"],
    "train": [
        "rows.parquet", "epochs.csv", "samples.parquet", "predictions.parquet", "model.safetensors",
        "method.safetensors",
    ],
}  # fmt: skip
FILES["transfer"] = FILES["train"]


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in used)


def clock(action):
    """What an action took, ``{seconds, cpu_seconds}`` with its children, and its result."""
    start, used = time.perf_counter(), cpu_seconds()
    result = action()
    took = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu_seconds() - used}
    return {name: round(value, 3) for name, value in took.items()}, result


def run(folder, *command):
    """What a command took."""
    took, done = clock(lambda: subprocess.run(command, cwd=folder, capture_output=True, text=True))
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return took


def new_project(folder, cells):
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    stages = (ROOT / "dvc.yaml").read_text().splitlines(keepends=True)
    (folder / "dvc.yaml").write_text("".join(line for line in stages if "- params/" not in line))
    params = read_document(ROOT / "params.yaml").values
    params["seeds"] = list(range(cells // 12))  # 3 biases x 4 methods
    (folder / "params.yaml").write_text(json.dumps(params))
    return Plan(load(folder / "params.yaml"))


def make_dry(artefacts, folder):
    """Publish every artefact with small files of its own; inputs before what is made from them."""
    for artefact in artefacts:
        with publish(artefact, lineage(folder).open_inputs(artefact), folder) as draft:
            for name in FILES[artefact.stage]:
                (draft.path / name).write_bytes(f"{artefact.path}/{name}\n".encode() * 8)
            if artefact.stage == "metaset":
                draft.notes["per_class"] = 10


DRY_RUN = ("snakemake", "results/demo.md", "-n", "--quiet", "all")


def measure(cells):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = new_project(folder, cells)
        row = {"cells": cells}
        row["expand"], found = clock(lambda: plan.artefacts(["demo"]))
        artefacts = [a for a in found.values() if a.stage != "table"]
        row["artefacts"] = len(artefacts)
        row["dry_run_of_nothing_made"] = run(folder, *DRY_RUN)
        row["publish"], _ = clock(lambda: make_dry(artefacts, folder))
        row["dry_run_of_all_made"] = run(folder, *DRY_RUN)
        row["are_there"], _ = clock(lambda: all(is_stored(a, folder) for a in artefacts))
        row["verify_a_tables_inputs"], _ = clock(lambda: lineage(folder).open_inputs(plan.table("demo")))
        return row | count(folder) | measure_dvc(folder)


def count(folder):
    made = [path for path in (folder / "results").rglob("*") if path.name != ".gitignore"]
    return {
        "files": sum(path.is_file() for path in made),
        "folders": sum(path.is_dir() for path in made),
        "locks": len(list((folder / "results" / ".locks").glob("*"))),
        "disk_mib": round(sum(path.stat().st_blocks for path in made) * 512 / 2**20, 1),
    }


def measure_dvc(folder):
    """The first commit of everything, asking again, and after one changed file."""
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    row = {"dvc_first_commit": run(folder, "dvc", "commit", "--force", "--quiet", "data", "runs")}
    row["dvc_status"] = run(folder, "dvc", "status", "data", "runs")
    one = next((folder / "results" / "train").rglob("epochs.csv"))
    one.write_bytes(one.read_bytes() + b"\n")
    row["dvc_status_after_a_change"] = run(folder, "dvc", "status", "data", "runs")
    row["dvc_commit_of_a_change"] = run(folder, "dvc", "commit", "--force", "--quiet", "runs")
    return row


def measure_slurm(jobs):
    """Submissions a minute by the plugin's command line, and one look at them all."""
    sys.path.insert(0, str(ROOT / "tests"))
    from slurm_cluster import Cluster

    with tempfile.TemporaryDirectory(prefix="cmw-slurm-") as name, Cluster(Path(name)) as cluster:
        cluster.ask("scontrol", "update", f"nodename={cluster.host}", "state=drain", "reason=benchmark")
        submit = ["sbatch", "--parsable", "--job-name=run", "--output=/dev/null", "--export=ALL", "-pall",
                  "--time=60", "--mem=4000", "--nodes=1", "--requeue", "--signal=TERM@120", "--gpus=1",
                  "--wrap=true"]  # fmt: skip
        submitted, _ = clock(lambda: [cluster.ask(*submit) for _ in range(jobs)])
        look = ["squeue", "--format=%i|%T", "--states=all", "--noheader", "--name", "run"]
        poll, told = clock(lambda: cluster.ask(*look))
        assert len(told.splitlines()) == jobs
        array, _ = clock(lambda: cluster.ask(*submit, f"--array=1-{min(jobs, 1000)}"))
        cluster.ask("scancel", "--user", getpass.getuser())
    per_minute = 60 * jobs / submitted["seconds"]
    return {"jobs": jobs, "per_minute": round(per_minute), "submit": submitted, "poll": poll, "array": array}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[1_008, 9_996])
    parser.add_argument("--slurm", type=int, nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import torch

    body = {"machine": machine(torch.device("cpu")), "commit": commit(), "rows": [], "slurm": []}
    for cells in options.cells:
        body["rows"].append(measure(cells))
        print(body["rows"][-1], flush=True)
    for jobs in options.slurm:
        body["slurm"].append(measure_slurm(jobs))
        print(body["slurm"][-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()

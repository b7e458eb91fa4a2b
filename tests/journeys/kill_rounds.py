"""Kill a small DAG with SIGKILL at random times, again and again: its tables must not notice.

    python tests/journeys/kill_rounds.py --rounds 50 --seed 0

A round is a fresh project. Snakemake is started and, at a random moment, killed: alone, or one of its jobs,
or everything at once. That happens up to three times; then the same command is left to finish. Every file of
every artefact, and the tables, must be byte for byte those of a run that nobody disturbed. What a run cost
(seconds, memory) is measured anew each time: it is left out, with the hashes over it, and nothing else is.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import pandas as pd

from cmw_pipeline.config import Plan, load
from cmw_pipeline.io.manifests import file_entry, open_stored
from tests.support.processes import environment

SOURCE = Path(__file__).parents[2]
PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [asym-0.4]}
methods:
  erm: {kind: erm, label: ERM}
  cmw-net: {kind: erm, label: CMW-Net, weighting: {kind: cmw-net, meta_set: clean-2, meta_every: 4}}
recipes:
  quick: {network: {name: small-cnn, width: 4}, optimizer: {lr: 0.1}, epochs: 3, batch_size: 100}
tables:
  tiny:
    title: A tiny grid
    weighting_figures: [digits/asym-0.4/cmw-net/quick/seed0]
    grid:
      - {dataset: digits, biases: tiny, methods: [erm, cmw-net], recipe: quick}
"""
MOST_KILLS = 3
VICTIMS = ("all", "snakemake", "job")


def new_project(root):
    root.mkdir(parents=True)
    shutil.copytree(SOURCE / "workflow", root / "workflow")
    (root / "params.yaml").write_text(PARAMS)
    return root


def start(root):
    """Snakemake in a process group of its own, one job at a time."""
    with (root / "said.log").open("a") as log:
        return subprocess.Popen(
            ["snakemake", "--cores", "1"], cwd=root, env=environment(),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def jobs(root):
    """Ids of the `cmw` processes that work in a project."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if (entry / "cwd").resolve() == root.resolve() and any(w.endswith(b"bin/cmw") for w in words[:2]):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill(snakemake, victim, root):
    """Kill one of VICTIMS with SIGKILL; where there is no job at this moment, nobody dies."""
    if victim == "job":
        for number in jobs(root)[:1]:
            os.kill(number, signal.SIGKILL)
    elif victim == "snakemake":
        os.kill(snakemake.pid, signal.SIGKILL)
    else:
        os.killpg(snakemake.pid, signal.SIGKILL)


def result(root):
    """Everything that was made and is in order, file by file, but what it cost."""
    plan = Plan(load(root / "params.yaml"))
    made = [*sorted((root / "results").glob("tiny*")), *(root / "results/numbers").glob("tiny.json")]
    for artefact in plan.artefacts().values():
        if artefact.stage != "table":
            made += [
                root / artefact.path / name for name in open_stored(root / artefact.path).manifest["files"]
            ]
    receipt = json.loads((root / "results/tiny.manifest.json").read_text())
    for name, entry in receipt["files"].items():
        assert file_entry(root / "results" / name) == entry, name
    return {str(file.relative_to(root)): without_cost(file) for file in made}


def without_cost(file):
    """A file's bytes, without seconds and memory."""
    if file.suffix == ".md":
        return re.sub(r"## Cost of one run\n.*?(?=## Notes)", "", file.read_text(), flags=re.DOTALL)
    if file.name == "tiny.parquet":
        return (
            pd.read_parquet(file)
            .drop(columns=["seconds", "evaluation_seconds", "peak_mib"])
            .to_csv(float_format="%.17g")
        )
    if file.name == "tiny.manifest.json":
        return json.loads(file.read_text())["digest"]
    return file.read_bytes()


def scraps(root):
    """What a finished project must not have left: drafts, checkpoints."""
    results = root / "results"
    drafts = [path for path in results.rglob(".*") if path.name != ".locks"]
    return drafts + list((results / "checkpoints").glob("*/*"))


def undisturbed(root):
    """(what it makes, seconds it takes) of a project that nobody kills."""
    begun = time.monotonic()
    assert start(new_project(root)).wait() == 0, (root / "said.log").read_text()
    return result(root), time.monotonic() - begun


def one_round(root, rng, seconds):
    """Kill a fresh project's run up to MOST_KILLS times, then let it finish; returns (kills, result)."""
    new_project(root)
    kills = []
    for _ in range(rng.randint(1, MOST_KILLS)):
        snakemake = start(root)
        moment, victim = rng.uniform(0, seconds), rng.choice(VICTIMS)
        try:
            snakemake.wait(timeout=moment)
            break  # nothing left to disturb
        except subprocess.TimeoutExpired:
            kill(snakemake, victim, root)
            kills.append(f"{victim}@{moment:.1f}")
        if victim == "job":  # Snakemake tries the job once more by itself
            break
        snakemake.wait()
    else:
        snakemake = start(root)
    assert snakemake.wait() == 0, f"after {kills}:\n{(root / 'said.log').read_text()}"
    return kills, result(root)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first round, which decides its draws"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected, seconds = undisturbed(folder / "undisturbed")
        click.echo(f"undisturbed: {seconds:.1f} s, {len(expected)} files")
        victims = Counter()
        for number in range(options.first, options.first + options.rounds):
            root = folder / f"round-{number}"
            kills, found = one_round(root, random.Random(f"{options.seed}/{number}"), seconds)
            assert found == expected, {key for key in expected if found.get(key) != expected[key]}
            assert not scraps(root), scraps(root)
            victims.update(kill.partition("@")[0] for kill in kills)
            click.echo(f"round {number}: {' '.join(kills) or 'finished before'}: equal")
            shutil.rmtree(root)
        click.echo(f"{options.rounds} rounds equal; killed: {dict(victims)}")


if __name__ == "__main__":
    main()

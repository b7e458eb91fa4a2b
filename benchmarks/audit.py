"""Finding wrong labels: `cmw audit` beside cleanlab, on the same folds, of the same network.

    uv pip install --no-deps -r benchmarks/requirements-peers.txt
    python benchmarks/audit.py digits tabular trusted --json benchmarks/results/audit.json
    cmw download cifar10 && cmw download cifar10/human-worst && ...
    python benchmarks/audit.py cifar10n --json benchmarks/results/audit.json
    python benchmarks/audit.py --json benchmarks/results/audit.json        # the tables of what is there

Every cell is labels with known errors; bias, folds and training differ from seed to seed. Of each two methods
are trained by the audit's own code, on everything and on five folds: CMW-Net-SL, which is the audit, and ERM.
cleanlab is given ERM's out-of-fold probabilities, as its users would; *the same score on ERM* is the audit's
score on ERM's trajectory, so that nobody credits the method with what the score does.

AUPR, the hits among the first 50, and F1 of the list are of known errors among rows nobody vouches for, in
percent; the noise rate's error is in points, signed. Accuracy is of test rows with right labels. A cell that
the JSON file has is not made again; fits that were made are in the folder ``--work``.
"""

import argparse
import dataclasses
import functools
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cleanlab.count import estimate_joint
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from common import commit, machine
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.metrics import average_precision_score

from cmw_pipeline.audit.features import choose_view, make_samples
from cmw_pipeline.audit.fit import Part, fit
from cmw_pipeline.audit.planned import planned_data
from cmw_pipeline.audit.run import Asked, find, trusted_rows
from cmw_pipeline.audit.scores import list_length, prior_margin
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.contracts import Biased, MetaSet
from cmw_pipeline.data.own import own_arrays
from cmw_pipeline.io.manifests import is_stored
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.stages import download, inject, metaset, train
from cmw_pipeline.stages.base import make
from cmw_pipeline.types import TEST, TRAIN

CPU, SEEDS = torch.device("cpu"), (1, 2, 3)
NOISES = ("sym-0.2", "sym-0.4", "asym-0.4", "type1-0.35")
TABULAR = {"breast-cancer": load_breast_cancer, "wine": load_wine}
PICTURES, TESTED = 5000, 2000
OURS, ERM = "audit: CMW-Net-SL", "the same score on ERM"
SELF, NORMALISED = "cleanlab, self-confidence, ERM", "cleanlab, normalised margin, ERM"


# --- cells: name -> seed -> a dataset, and the right label of each of its rows


def digits(bias, seed, work):
    """Digits with the labels of a bias, as `cmw inject` draws them under this seed."""
    params = load("params.yaml").model_copy(update={"bias_seed": seed})
    plan, root, name = Plan(params), work / "project", f"digits/{bias}"
    stages = {
        "download": download.run,
        "inject": inject.run,
        "train": functools.partial(train.run, device=CPU, stop=StopRequest()),
    }
    made_with_inputs(plan.inject(name), stages, root)
    return planned_data(plan, name, root), right_labels(plan, name, root)


def right_labels(plan, name, root):
    file = root / plan.inject(name).path / Biased.LABELS
    return pd.read_parquet(file)["clean_label"].to_numpy(np.int64)


def made_with_inputs(artefact, stages, root):
    for source in artefact.inputs.values():
        made_with_inputs(source, stages, root)
    if not is_stored(artefact, root):
        make(artefact, stages[artefact.stage], root)


def vouched(bias, seed, work):
    """The same, and ten samples of each class that a person vouches for: those of the meta-set clean-10."""
    data, clean = digits(bias, seed, work)
    plan, root = Plan(load("params.yaml").model_copy(update={"bias_seed": seed})), work / "project"
    chosen = plan.metaset(f"digits/{bias}/clean-10")
    made_with_inputs(chosen, {"metaset": metaset.run}, root)
    held = pd.read_parquet(root / chosen.path / MetaSet.SAMPLES)["index"]
    trusted = np.isin(np.arange(len(clean)), held)
    rows = data.rows.assign(trusted=trusted, label=np.where(trusted, clean, data.labels).astype(np.int16))
    return dataclasses.replace(data, rows=rows.assign(split=rows["split"].where(~trusted, TRAIN))), clean


def tabular(load_table, noise, seed, work):
    """A table; every fifth row of each class is for testing. ``pair``: a class is taken for the next one."""
    values, clean = load_table(return_X_y=True)
    rng, classes = np.random.default_rng(seed), clean.max() + 1
    order = rng.permutation(len(clean))
    order = order[np.argsort(clean[order], kind="stable")]
    split = np.where(np.arange(len(clean)) % 5 == 4, TEST, TRAIN)[np.argsort(order)]
    kind, _, rate = noise.partition("-")
    step = 1 if kind == "pair" else rng.integers(1, classes, len(clean))
    hit = (rng.random(len(clean)) < float(rate)) & (split == TRAIN)
    return own_arrays(values, np.where(hit, (clean + step) % classes, clean), split=split), clean


def cifar10n(which, seed, work):
    """Pictures of CIFAR-10, always the same ones, the training ones with labels that people gave."""
    plan, root, name = Plan(load("params.yaml")), Path(), f"cifar10/human-{which}"
    made_with_inputs(plan.inject(name), {"inject": inject.run}, root)
    data, clean = planned_data(plan, name, root), right_labels(plan, name, root)
    rng = np.random.default_rng(0)
    wanted = ((TRAIN, PICTURES), (TEST, TESTED))
    chosen = np.concatenate([rng.permutation(data.where(split))[:count] for split, count in wanted])
    rows = data.rows.iloc[chosen].reset_index(drop=True)
    return dataclasses.replace(data, rows=rows, images=data.images[chosen]), clean[chosen]


def cells(options):
    biases = [tail + noise for tail in ("", "lt-10+") for noise in NOISES]
    makers = {f"digits, {b}": functools.partial(digits, b) for b in biases if "digits" in options.what}
    if "trusted" in options.what:
        makers["digits, lt-10+asym-0.4, ten trusted of each class"] = functools.partial(
            vouched, "lt-10+asym-0.4"
        )
    if "tabular" in options.what:
        for name, table in TABULAR.items():
            for noise in ("sym-0.2", "pair-0.3"):
                makers[f"{name}, {noise}"] = functools.partial(tabular, table, noise)
    if "cifar10n" in options.what:
        for which in ("aggregate", "random1", "worst"):
            makers[f"cifar10n, {which}"] = functools.partial(cifar10n, which)
    return makers


# --- one cell under one seed


def measured(maker, seed, work):
    """What is measured of a cell: scorer -> its numbers."""
    data, clean = maker(seed, work)
    view = choose_view(data, "auto" if data.images is None or data.images.shape[1] >= 32 else "none")
    samples = make_samples(data, view, work, CPU, 0)
    found, ways = {}, {}
    for method in ("cmw-net-sl", "erm"):
        asked = Asked(method, 5, seed, CPU)
        found[method], ways[method] = find(data, samples, view, asked, work, StopRequest())
    rows, labels = found["erm"].rows, found["erm"].labels
    trusted = data.rows["trusted"].to_numpy(bool)[rows]
    wrong = (labels != clean[rows]) & ~trusted
    out = found["erm"].out_of_fold
    scored = {
        OURS: audited(found["cmw-net-sl"], trusted),
        ERM: audited(found["erm"], trusted),
        SELF: cleanlabs(labels, out, "self_confidence"),
        NORMALISED: cleanlabs(labels, out, "normalized_margin"),
    }
    numbers = {
        name: judged(score, flagged, wrong, trusted, rate - (labels != clean[rows]).mean())
        for name, (score, flagged, rate) in scored.items()
    }
    right = dataclasses.replace(
        data, rows=data.rows.assign(label=np.where(data.rows["split"] == TEST, clean, data.labels))
    )
    for name in (OURS, ERM, SELF):
        kept = rows[~(scored[name][1] & ~trusted)]
        numbers[name]["accuracy, ERM without its list"] = accuracy(samples, right, ways["erm"], kept, work)
    numbers[OURS]["accuracy, its own model"] = last(found["cmw-net-sl"].main)
    numbers[ERM]["accuracy, its own model"] = last(found["erm"].main)
    about = {"rows": len(rows), "wrong": int(wrong.sum()), "trusted": len(trusted_rows(data))}
    return about | {"seconds": {m: round(f.seconds, 1) for m, f in found.items()}, "scorers": numbers}


def audited(found, trusted):
    """Score, list and noise rate as the audit makes them."""
    margin = np.where(trusted, -np.inf, prior_margin(found.mean, found.labels).margin)
    length = list_length(margin, found.joint.num_wrong)
    flagged = np.zeros(len(margin), bool)
    flagged[np.argsort(-margin, kind="stable")[:length]] = True
    return margin, flagged, float(found.joint.noise.value)


def cleanlabs(labels, probabilities, score):
    """The same by cleanlab; the list is its default one, in which the score has no part."""
    held = ~np.isnan(probabilities[:, 0])
    quality, flagged = np.ones(len(labels)), np.zeros(len(labels), bool)
    quality[held] = get_label_quality_scores(labels[held], probabilities[held], method=score)
    flagged[held] = find_label_issues(labels[held], probabilities[held])
    joint = estimate_joint(labels[held], probabilities[held])
    return -quality, flagged, float(1 - np.trace(joint))


def judged(score, flagged, wrong, trusted, error):
    shown, hit = ~trusted, flagged & ~trusted & wrong
    first = np.argsort(-score[shown], kind="stable")[:50]
    finite = np.nan_to_num(score[shown], neginf=-1e9)
    listed = int((flagged & shown).sum())
    return {
        "aupr": 100 * average_precision_score(wrong[shown], finite),
        "first 50": 100 * float(wrong[shown][first].mean()),
        "f1": 100 * 2 * int(hit.sum()) / (listed + int(wrong.sum())),
        "precision": 100 * int(hit.sum()) / max(listed, 1),
        "listed": listed,
        "noise error": 100 * float(error),
    }


def accuracy(samples, data, way, kept, work):
    part = Part("without", kept, data.labels, kept[:0], data.where(TEST))
    return last(fit(samples, part, way, StopRequest(), work / "none" / str(time.time_ns())))


def last(done):
    return done.state.records[-1]["scores"][TEST]["ema_accuracy"]


# --- tables of what has been measured


def table(rows):
    """Mean and standard deviation over seeds of every number, a line a cell and scorer."""
    flat = [
        {"cell": row["cell"], "scorer": scorer, **numbers}
        for row in rows
        for scorer, numbers in row["scorers"].items()
    ]
    frame = pd.DataFrame(flat)
    grouped = frame.groupby(["cell", "scorer"], sort=False)
    mean, spread, count = grouped.mean(), grouped.std(), grouped.size()
    lines = [
        "| cell | scorer | n | " + " | ".join(mean.columns) + " |",
        "|---" * (len(mean.columns) + 3) + "|",
    ]
    for key in mean.index:
        shown = [
            "" if np.isnan(value) else f"{value:.1f} ± {spread.loc[key, name]:.1f}"
            for name, value in mean.loc[key].items()
        ]
        lines.append(f"| {key[0]} | {key[1]} | {count[key]} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", help="digits, trusted, tabular, cifar10n")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build", "audit-benchmark"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
    for seed in options.seeds:
        for cell, maker in cells(options).items():
            if any((row["cell"], row["seed"]) == (cell, seed) for row in rows):
                continue
            began = time.process_time()
            row = {"cell": cell, "seed": seed, **measured(maker, seed, options.work)}
            rows.append(row | {"commit": commit(), "cpu seconds": round(time.process_time() - began)})
            about = {"machine": machine(CPU), "torch": torch.__version__}
            options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
            print(cell, seed, {s: round(n["aupr"], 1) for s, n in row["scorers"].items()}, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()

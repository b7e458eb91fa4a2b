"""The power of bounded levels, chosen on held-out training digits; the test digits are not read.

    python benchmarks/levels.py FOLDER

Every fifth training digit of each class is held out and takes the place of the test set. MW-Net, CMW-Net and
CMW-Net with bounded levels of powers 1, 2 and 3 are trained in FOLDER by the settings of the digits pages;
their accuracies on what was held out are printed: the mean over seeds 0 and 1, one row a method.
"""

import argparse
import json
import os
from pathlib import Path

import pandas as pd
import torch

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.data import digits
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.stages import download, inject, metaset, train
from cmw_pipeline.stages.base import make

NOISE, TAIL = ["sym-0.6", "sym-0.8", "asym-0.4", "asym-0.8"], ["lt-50"]
NETS = {
    "noise": ("lowest-10", {"weight_net": {"lr": 0.003, "weight_decay": 1e-5, "amsgrad": True}}),
    "tail": (
        "random-min",
        {"normalisation": "sum", "weight_net": {"lr": 0.01, "weight_decay": 1e-5, "amsgrad": True}},
    ),
}
KINDS = {
    "mw": {"kind": "mw-net"},
    "cmw": {"kind": "cmw-net"},
    **{f"power-{p}": {"kind": "cmw-net", "levels": "bounded", "level_power": p} for p in (1, 2, 3)},
}
STAGES = {
    "download": download.run,
    "inject": inject.run,
    "metaset": metaset.run,
    "train": lambda job: train.run(job, torch.device("cpu"), StopRequest()),
}


def params():
    """The parameters: each weighting under each bias, with the settings that its page has for digits."""
    methods = {"erm": {"kind": "erm", "label": "ERM"}}
    for place, (meta_set, options) in NETS.items():
        for name, kind in KINDS.items():
            weighting = {"meta_set": meta_set, **options, **kind}
            methods[f"{place}-{name}"] = {"kind": "erm", "start_epoch": 5, "weighting": weighting}
    recipe = {
        "network": {"name": "small-cnn", "width": 32},
        "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "epochs": 30,
        "batch_size": 100,
    }
    grid = [
        {"dataset": "digits", "biases": p, "methods": ["erm", *(f"{p}-{k}" for k in KINDS)], "recipe": "r"}
        for p in NETS
    ]
    return {
        "build": ["t"],
        "seeds": [0, 1],
        "bias_seed": 1,
        "datasets": {"digits": {"source": "digits"}},
        "biases": {"noise": NOISE, "tail": TAIL},
        "methods": methods,
        "recipes": {"r": recipe},
        "tables": {"t": {"title": "Held-out digits", "grid": grid}},
    }


def held_out(facts=None):
    """The training digits; every fifth of a class is called test."""
    images, labels, split = read_digits()
    images, labels = images[split == "train"], labels[split == "train"]
    return images, labels, digits._split(labels)


def accuracy(run):
    """Of the last epoch, on what was held out."""
    rows = pd.read_parquet(run / "rows.parquet")
    kept = (rows["protocol"] == "last") & (rows["split"] == "test") & (rows["metric"] == "accuracy")
    return rows.loc[kept, "value"].item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    Path("params.yaml").write_text(json.dumps(params()))
    digits.read_digits = held_out
    torch.set_num_threads(1)
    found = []
    for artefact in Plan(load()).artefacts().values():
        if artefact.stage in STAGES:
            make(artefact, STAGES[artefact.stage], Path())
        if artefact.stage == "train":
            cell = Cell.parse(artefact.name)
            found.append((str(cell.bias), cell.method.split("-", 1)[-1], accuracy(Path(artefact.path))))
            print(*found[-1], flush=True)
    frame = pd.DataFrame(found, columns=["bias", "method", "accuracy"])
    print(frame.pivot_table(index="method", columns="bias", values="accuracy").round(2).to_string())


read_digits = digits.read_digits
if __name__ == "__main__":
    main()

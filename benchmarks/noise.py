"""Our feature-dependent noise beside the published label files, in distribution.

    cmw inject cifar10/type1-0.35 && cmw inject cifar10/plc:type1-0.35    # and so on for each type and level
    python benchmarks/noise.py cifar10 type1-0.35 type1-0.7 --json benchmarks/results/noise-cifar10.json

The label tables are those of ``params.yaml`` in the working folder; a row counts where both have a label for
it. ``flip rate`` is the share of wrong labels, ``largest class gap`` the largest difference of the classes'
flip rates, ``destinations`` the mean total variation between the classes' distributions over wrong labels (0:
the same; in brackets, with a uniform draw in place of ours), ``same second`` the share of the samples flipped
by both that both give the same wrong label.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from cmw_pipeline.config import Plan, load


def labels(plan, name):
    """The label table's rows that are trained on."""
    frame = pd.read_parquet(plan.inject(name).path / "labels.parquet")
    return frame[frame["split"] == "train"].set_index("index")[["label", "clean_label"]]


def transition(clean, given, classes):
    """(K, K) counts, a row a true class."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (clean, given), 1)
    return counts


def destinations(counts):
    """(K, K): where a class's wrong labels go; rows sum to 1."""
    wrong = counts * (1 - np.eye(len(counts)))
    return wrong / wrong.sum(axis=1, keepdims=True)


def compare(ours, published):
    """The measures of the module's docstring for two label tables."""
    both = ours.join(published, suffixes=("", "_published"), how="inner")
    clean = both["clean_label"].to_numpy()
    own, theirs = both["label"].to_numpy(), both["label_published"].to_numpy()
    classes = int(clean.max()) + 1
    a, b = (transition(clean, given, classes) for given in (own, theirs))
    rates = [1 - np.diag(counts) / counts.sum(axis=1) for counts in (a, b)]
    uniform = (1 - np.eye(classes)) / (classes - 1)
    apart = [np.abs(x - destinations(b)).sum(axis=1).mean() / 2 for x in (destinations(a), uniform)]
    flipped = (own != clean) & (theirs != clean)
    return {
        "samples": len(both),
        "flip rate": float((own != clean).mean()),
        "flip rate, published": float((theirs != clean).mean()),
        "class flip rates": rates[0].tolist(),
        "class flip rates, published": rates[1].tolist(),
        "largest class gap": float(np.abs(rates[0] - rates[1]).max()),
        "class correlation": float(np.corrcoef(*rates)[0, 1]),
        "destinations": float(apart[0]),
        "destinations, uniform": float(apart[1]),
        "both flipped": float(flipped.mean()),
        "same second": float((own == theirs)[flipped].mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("biases", nargs="+")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    plan = Plan(load("params.yaml"))
    rows = {}
    for bias in options.biases:
        pair = [labels(plan, f"{options.dataset}/{name}") for name in (bias, f"plc:{bias}")]
        rows[bias] = compare(*pair)
        r = rows[bias]
        print(
            f"{bias}: flip rate {r['flip rate']:.3f} ({r['flip rate, published']:.3f} published), "
            f"largest class gap {r['largest class gap']:.3f}, correlation {r['class correlation']:.2f}, "
            f"destinations {r['destinations']:.3f} ({r['destinations, uniform']:.3f}), "
            f"same second {r['same second']:.3f} of {r['both flipped']:.3f}"
        )
    if options.json:
        teacher = plan.params.datasets[options.dataset].teacher.model_dump(exclude_none=True)
        options.json.write_text(json.dumps({"teacher": teacher, "biases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a weighting adds to each objective of a page: the difference to the objective alone, of the same seed.

    python benchmarks/gains.py plug-and-play

Reads results/NAME.parquet and prints, for each bias, objective and weighting, the mean and the standard
deviation over the seeds of the difference in accuracy at the last epoch on the test samples.
"""

import argparse
from pathlib import Path

import pandas as pd

from cmw_pipeline.config import load

KEY = ["dataset", "bias", "recipe", "objective", "seed"]


def weighting(options):
    """Its name in the heading."""
    bounded = getattr(options, "levels", "free") == "bounded"
    return f"{options.kind}, bounded" if bounded else options.kind


def differences(rows, methods):
    """One row a weighted run: its accuracy less that of the objective alone."""
    kept = (rows["protocol"] == "last") & (rows["split"] == "test") & (rows["metric"] == "accuracy")
    runs = rows[kept].assign(
        objective=lambda frame: frame["method"].map(lambda name: methods[name].kind),
        weighting=lambda frame: frame["method"].map(lambda name: weighting(methods[name].weighting)),
    )
    alone = runs["weighting"] == "uniform"
    before = runs[alone].set_index(KEY)["value"].rename("alone")
    return runs[~alone].join(before, on=KEY).assign(gain=lambda frame: frame["value"] - frame["alone"])


def table(found):
    """Markdown: a row a bias and objective, a column a weighting."""
    spread = found.groupby(["bias", "objective", "weighting"], sort=False)["gain"].agg(["mean", "std"])
    text = spread.apply(lambda row: f"{row['mean']:+.1f} ± {row['std']:.1f}", axis=1).unstack("weighting")
    alone = found.groupby(["bias", "objective"], sort=False)["alone"].mean().map("{:.1f}".format)
    text.insert(0, "alone", alone)
    shown = text[["alone", *dict.fromkeys(found["weighting"])]].fillna("").reset_index()
    return shown.to_markdown(index=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page")
    page = parser.parse_args().page
    rows = pd.read_parquet(Path("results") / f"{page}.parquet")
    print(table(differences(rows, load(Path("params.yaml")).methods)))


if __name__ == "__main__":
    main()

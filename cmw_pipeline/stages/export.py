"""Take the learned weighting function out of a run: tensors, card, sampled curve, figure."""

import numpy as np
import pandas as pd
from safetensors.torch import load_file

from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.tables import read_table
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weighting import group_names, load_weighting, save_weighting
from cmw_pipeline.stages.base import Job
from cmw_pipeline.stages.train import METHOD, SAMPLES
from cmw_pipeline.tables.figures import weighting_figure
from cmw_pipeline.types import LABEL_COLUMNS, SAMPLE_COLUMNS

CURVE, FIGURE = "curve.csv", "weighting.png"
_GRID = np.linspace(0.0, 10.0, 201)


def run(job: Job) -> None:
    """Write ``weighting.safetensors``, ``card.json``, ``curve.csv`` and ``weighting.png``.

    The figure's histogram shows which weights right and wrong labels got; only here, after training,
    are the clean labels looked at.
    """
    source = job.inputs["run"]
    state = load_file(source.path / METHOD)
    prefix = "weighting.net."
    tensors = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    net = WeightNet(len(tensors["trunk.bias"]), len(tensors["heads.bias"]))
    net.load_state_dict(tensors)
    origin = {"run": job.artefact.name, "content": source.content, "verified": source.verified}
    save_weighting(job.out, net, state["weighting.groups"].numpy(), origin)

    names = group_names(net.num_groups)
    curves = load_weighting(job.out).curves(_GRID)
    table = pd.DataFrame({"loss": _GRID} | dict(zip(names, curves, strict=True)))
    write_text(job.out / CURVE, table.round(6).to_csv(index=False))

    samples = read_table(source.path / SAMPLES, SAMPLE_COLUMNS)
    labels = read_table(job.inputs["biased"].path / "labels.parquet", LABEL_COLUMNS, ["index", "is_flipped"])
    seen = samples.merge(labels, on="index", validate="one_to_one")
    flipped = seen["is_flipped"].to_numpy(dtype=bool)
    weights = seen["weight"].to_numpy(dtype=np.float64)
    title = job.artefact.name
    weighting_figure(job.out / FIGURE, _GRID, curves, names, weights[~flipped], weights[flipped], title)

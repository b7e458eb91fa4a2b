"""Take the learned weighting function out of a run: tensors, card, sampled curve, figure."""

import csv
import io

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file

from cmw_pipeline.config.contracts import Biased, ExportRequest, Run, Weighting
from cmw_pipeline.config.methods import KINDS
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.tables import read_columns
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weighting import group_names, load_weighting, save_weighting
from cmw_pipeline.methods.base import Method
from cmw_pipeline.methods.registry import implementation
from cmw_pipeline.stages.base import Job
from cmw_pipeline.tables.figures import weighting_figure
from cmw_pipeline.types import Floats, Indices

_GRID = np.linspace(0.0, 10.0, 201)


def run(job: Job[ExportRequest]) -> None:
    """Write ``weighting.safetensors``, ``card.json``, ``curve.csv`` and ``weighting.png``.

    The figure's histogram shows which weights right and wrong labels got, and those of which nobody knows;
    only here, after training, are the clean labels looked at.
    """
    source = job.inputs["run"]
    state = load_file(source.path / Run.METHOD)
    prefix = "weighting.net."
    tensors = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    net = WeightNet(len(tensors["trunk.bias"]), len(tensors["heads.bias"]), "level" in tensors)
    net.load_state_dict(tensors)
    origin = {"run": job.artefact.name, "content": source.content, "verified": source.verified}
    method = source.manifest["params"]["method"]
    normalisation, loss = method["weighting"]["normalisation"], _loss_of(method["kind"])
    save_weighting(job.out, net, state["weighting.groups"].numpy(), origin, normalisation, loss)

    names = group_names(net.num_groups)
    curves = load_weighting(job.out).curves(_GRID)
    write_text(job.out / Weighting.CURVE, _text(["loss", *names], np.vstack([_GRID, curves]).T))

    samples = read_columns(source.path, Run.SAMPLES, ["index", "weight"])
    labels = read_columns(job.inputs["biased"].path, Biased.LABELS, ["index", "clean_label", "is_flipped"])
    rows = _places(samples["index"], labels["index"])
    flipped, unknown = labels["is_flipped"][rows], np.ma.getmaskarray(labels["clean_label"])[rows]
    weights = samples["weight"].astype(np.float64)
    right, wrong, open_ = weights[~flipped & ~unknown], weights[flipped], weights[~flipped & unknown]
    title = job.artefact.name
    weighting_figure(job.out / Weighting.FIGURE, _GRID, curves, names, right, wrong, open_, title)


def _loss_of(kind: str) -> str:
    """What the weighting of a method is a function of."""
    made = implementation(KINDS[kind])
    plain = made.losses is Method.losses and made.sample_loss is Method.sample_loss
    return "cross-entropy" if plain else f"loss of the method {kind}"


def _text(names: list[str], rows: Floats) -> str:
    """CSV with six digits behind the point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(np.round(rows, 6).tolist())
    return text.getvalue()


def _places(wanted: Indices, index: Indices) -> npt.NDArray[np.int64]:
    """(N,) where each of the wanted numbers stands in an index, which has each of them once."""
    order = np.argsort(index)
    return order[np.searchsorted(index, wanted, sorter=order)]

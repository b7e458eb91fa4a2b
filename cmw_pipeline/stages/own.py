"""A dataset of the user's own as the raw artefact that every bias, method and table starts from."""

import numpy as np
import pandas as pd

from cmw_pipeline.audit.ways import settings
from cmw_pipeline.config.contracts import DatasetRequest, Raw
from cmw_pipeline.config.schema import Params
from cmw_pipeline.data.layouts import stamp
from cmw_pipeline.data.own import UNKNOWN, OwnData
from cmw_pipeline.data.raw import Folder, write_files, write_folder, write_vectors
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.tables import Columns, write_columns
from cmw_pipeline.stages.base import Job
from cmw_pipeline.types import TEST, TRAIN


def run(job: Job[DatasetRequest], data: OwnData) -> None:
    """Write vectors, or the table of files, which stay where they are, and the marks of every sample.

    Class names, names of features and the folder are noted.
    """
    job.notes.update({"class_names": list(data.class_names), "verified": True, "imported": True})
    job.notes["features"] = list(data.features)
    write_columns(job.out, Raw.MARKS, _marks(data))
    if data.vectors is not None:
        scale = Scale.of(data.vectors[data.where(TRAIN)])
        split = data.rows["split"].to_numpy(dtype=object)
        write_vectors(job.out, data.vectors, scale, data.labels, split)
        return
    assert data.root is not None
    root = data.root.resolve()
    write_folder(job.out, Folder(root, imported=True))
    rows = data.rows.assign(test_set=np.where(data.rows["split"] == TEST, "test", ""))
    job.notes.update({"root": str(root), "stamp": stamp(root, rows), "faults": {}})
    columns = {
        name: rows[name].to_numpy() for name in ("path", "label", "split", "bytes", "crc32", "test_set")
    }
    write_files(job.out, {"index": np.arange(len(rows), dtype=np.int32), **columns})


def _marks(data: OwnData) -> Columns:
    clean = data.rows["clean_label"].to_numpy(np.int16)
    return {
        "index": np.arange(len(data.rows), dtype=np.int32),
        "trusted": data.rows["trusted"].to_numpy(bool),
        "clean_label": np.ma.MaskedArray(clean, mask=clean == UNKNOWN),
        "group": data.rows["group"].to_numpy(object),
        "name": data.rows["name"].to_numpy(object),
    }


def source_of(data: OwnData) -> str:
    """The dataset's ``source`` in the parameters: ``vectors-K-D`` or ``folder-K``."""
    classes = len(data.class_names)
    return f"folder-{classes}" if data.vectors is None else f"vectors-{classes}-{data.vectors.shape[1]}"


def refuse_taken(name: str, params: Params) -> None:
    """Refuse a name under which :func:`parameters` would write what is there already.

    Raises:
        ConfigError: it would.
    """
    sections = {section: [name] for section in ("biases", "recipes", "audits", "tables")}
    for section, names in (sections | {"methods": [f"{name}-erm", f"{name}-cmw-net-sl"]}).items():
        for other in names:
            if other in getattr(params, section):
                raise ConfigError(f"{section} has a {other} already", "choose another: --name NAME")


def parameters(name: str, data: OwnData) -> str:
    """The text of ``params/NAME.yaml``: the dataset, an audit of it, a table of ERM and CMW-Net-SL.

    Both are trained as an audit trains.
    """
    train = data.rows[data.rows["split"] == TRAIN]
    counts: pd.Series[int] = train["label"].value_counts()
    recipe = settings(len(train), None if data.vectors is None else data.vectors.shape[1])
    network, optimizer, schedule = (_in_braces(recipe[part]) for part in ("network", "optimizer", "schedule"))
    picture = "    picture: {side: 32, resize: 36}\n" if data.vectors is None else ""
    return f"""\
# What `cmw import` wrote about the dataset {name}; yours to change.

datasets:
  {name}:
    source: {source_of(data)}
biases:
  {name}:
  - none
methods:
  {name}-erm:
    kind: erm
    label: ERM
  {name}-cmw-net-sl:
    kind: soft-labels
    label: CMW-Net-SL
    start_epoch: {recipe["epochs"] // 6}
    weighting:
      kind: cmw-net
      meta_set: lowest-{min(10, int(counts.min()))}
      meta_batch: {recipe["batch_size"]}
      meta_every: 2
      weight_net: {{lr: 1.0e-3}}
recipes:
  {name}:
    network: {network}
    optimizer: {optimizer}
    schedule: {schedule}
    epochs: {recipe["epochs"]}
    batch_size: {recipe["batch_size"]}
{picture}    ema: {recipe["ema"]}
audits:
  {name}: {{data: {name}}}
tables:
  {name}:
    title: {name}
    metric: ema_accuracy
    grid:
    - dataset: {name}
      biases: {name}
      methods:
      - {name}-erm
      - {name}-cmw-net-sl
      recipe: {name}
"""


def _in_braces(body: dict[str, object]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in body.items()) + "}"

"""A dataset of the project as an audit sees it: ``digits/asym-0.4``."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmw_pipeline.config import Plan
from cmw_pipeline.config.contracts import Biased
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.data.own import OwnData
from cmw_pipeline.data.own.look import digest
from cmw_pipeline.data.raw import read_files, read_images, read_vectors
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.manifests import is_stored, open_inputs, open_planned
from cmw_pipeline.io.tables import read_table


def planned_data(plan: Plan, name: str, root: Path) -> OwnData:
    """The samples of a dataset with the labels of a bias, ``dataset/bias``; of a dataset alone, as they are.

    Clean labels are not read.

    Raises:
        ConfigError: no such name, or it has not been made yet; the hint says how.
        IntegrityError: what was made is damaged.
    """
    full = name if "/" in name else f"{name}/none"
    biased = plan.inject(full)
    raw = biased.inputs["raw"]
    for artefact in (raw, biased):
        if not is_stored(artefact, root):
            hint = f"`cmw {artefact.stage} {artefact.name}` makes it"
            raise ConfigError(f"{artefact.name} is not there yet", hint)
    file = open_planned(biased, root).path / Biased.LABELS
    labels = read_table(file, Biased.LABELS.columns, ["index", "label", "split"])
    stored = open_inputs(biased, root)["raw"]
    facts = FACTS[biased.request.source]
    notes = stored.manifest["notes"]
    numbers = [str(number) for number in range(facts.num_classes)]
    names = tuple(notes.get("class_names") or facts.class_names or numbers)
    files = read_files(stored.path)
    index = labels["index"].to_numpy()
    rows = labels.drop(columns="index").assign(trusted=False, clean_label=np.int16(-1), group="")
    if (found := read_vectors(stored.path)) is not None:
        vectors = np.ascontiguousarray(found[0][index])
        content: list[str] = [digest(vector.tobytes()) for vector in vectors]
        return _with(rows, content, names, vectors=vectors, name="")
    if files is None:
        images = read_images(stored.path)[index]
        content = [digest(image.tobytes()) for image in images]
        return _with(rows, content, names, images=images, name="")
    chosen = files.take(index).to_pandas()
    place = Path(notes["root"])
    content = [digest((place / path).read_bytes()) for path in chosen["path"]]
    rows = rows.assign(path=chosen["path"].to_numpy())
    return _with(rows, content, names, root=place, name=chosen["path"].to_numpy())


def _with(
    rows: pd.DataFrame, content: list[str], names: tuple[str, ...], *, name: Any, **where: Any
) -> OwnData:
    unit = pd.factorize(np.array(content, dtype=object))[0].astype(np.int64)
    rows = rows.assign(content=content, unit=unit, name=name).reset_index(drop=True)
    return OwnData(rows, names, where.get("root"), where.get("vectors"), where.get("images"))

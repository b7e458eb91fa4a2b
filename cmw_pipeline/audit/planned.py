"""A dataset of the project as an audit sees it: ``digits/asym-0.4``, or ``mine`` as it was imported."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from cmw_pipeline.config import Plan
from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.contracts import Biased
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.data.own import UNKNOWN, OwnData
from cmw_pipeline.data.own.divide import units
from cmw_pipeline.data.own.look import digest
from cmw_pipeline.data.raw import read_files, read_images, read_labels, read_marks, read_vectors
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.lineage import Lineage
from cmw_pipeline.io.manifests import Stored, is_stored
from cmw_pipeline.io.tables import Columns, read_columns


def planned_data(plan: Plan, name: str, root: Path) -> OwnData:
    """The samples of a dataset with the labels of a bias, ``dataset/bias``; of a dataset alone, with its own.

    Clean labels are read where they are known, for the report to say how right the list is.

    Raises:
        ConfigError: no such name, or it has not been made yet; the hint says how.
        IntegrityError: what was made is damaged, or is of data that are not there any more.
    """
    dataset, _, bias = name.partition("/")
    line = lineage(root)
    raw = _opened(plan.download(dataset), line)
    biased = _opened(plan.inject(name), line) if bias else None
    return stored_data(plan.params.datasets[dataset].source, raw, biased)


def _opened(artefact: Artefact[Any], line: Lineage) -> Stored:
    if not is_stored(artefact, line.root):
        hint = f"`cmw {artefact.stage} {artefact.name}` makes it"
        raise ConfigError(f"{artefact.name} is not there yet", hint)
    return line.open(artefact)


def stored_data(source: str, raw: Stored, biased: Stored | None) -> OwnData:
    """The samples of a raw artefact, with its labels or those of a bias.

    Raises:
        IntegrityError: a file that stays where the user has it is gone, or is another one.
    """
    marks = read_marks(raw.path)
    labels = _labels(raw.path, marks) if biased is None else read_columns(biased.path, Biased.LABELS)
    index, clean = labels["index"], np.ma.asanyarray(labels["clean_label"])
    rows = pd.DataFrame(
        {
            "label": labels["label"],
            "split": labels["split"],
            "clean_label": clean.filled(UNKNOWN).astype(np.int16),
            "trusted": False if marks is None else marks["trusted"][index],
            "group": "" if marks is None else marks["group"][index],
            "name": "" if marks is None else marks["name"][index],
        }
    )
    samples, content = _samples(raw, index)
    if "path" in samples:
        rows = rows.assign(path=samples["path"], name=samples["path"])
    rows = rows.assign(content=content, unit=units(np.array(content, object), rows["group"].to_numpy(object)))
    return OwnData(
        rows,
        _class_names(source, raw),
        samples.get("root"),
        samples.get("vectors"),
        samples.get("images"),
        tuple(raw.manifest["notes"].get("features", ())),
    )


def _class_names(source: str, raw: Stored) -> tuple[str, ...]:
    facts = FACTS[source]
    numbers = [str(number) for number in range(facts.num_classes)]
    return tuple(raw.manifest["notes"].get("class_names") or facts.class_names or numbers)


def _labels(path: Path, marks: Columns | None) -> Columns:
    """The columns of a label table, of a raw artefact: which of its own labels are right nobody knows."""
    labels = read_labels(path)
    unknown = np.full(len(labels["index"]), UNKNOWN, np.int16)
    return labels | {"clean_label": unknown if marks is None else marks["clean_label"]}


def _samples(raw: Stored, index: npt.NDArray[np.integer]) -> tuple[dict[str, Any], list[str]]:
    """Vectors, images, or paths below a root; and what tells equal ones."""
    if (found := read_vectors(raw.path)) is not None:
        vectors = np.ascontiguousarray(found[0][index])
        return {"vectors": vectors}, [digest(vector.tobytes()) for vector in vectors]
    files = read_files(raw.path)
    if files is None:
        images = read_images(raw.path)[index]
        return {"images": images}, [digest(image.tobytes()) for image in images]
    root, chosen = Path(raw.manifest["notes"]["root"]), files.take(pa.array(index)).to_pydict()
    listed = zip(*(chosen[name] for name in ("path", "bytes", "crc32")), strict=True)
    return {"root": root, "path": np.array(chosen["path"], object)}, [
        _file_digest(root / path, size, crc32) for path, size, crc32 in listed
    ]


def _file_digest(file: Path, size: int, crc32: int) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{file}: {error.strerror}", _CHANGED) from None
    if (len(data), zlib.crc32(data)) != (size, crc32):
        raise IntegrityError(f"{file}: not the file that it was when the dataset was read", _CHANGED)
    return digest(data)


_CHANGED = "`cmw import FOLDER --name NAME --again` reads a folder that has changed"

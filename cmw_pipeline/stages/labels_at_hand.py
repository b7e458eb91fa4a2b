"""Labels that a user has at hand, in the place of a download: ``cmw inject NAME --labels FILE``."""

import functools
from pathlib import Path

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.contracts import BiasRequest
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.schema import Params
from cmw_pipeline.data.label_files import label_digest, read_label_file
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.stages import download
from cmw_pipeline.stages.base import make


def named_labels(params: Params, name: str, file: Path) -> str:
    """The name of the biased table: that which is given, or of a dataset alone ``dataset/file-DIGEST``."""
    if name not in params.datasets:
        return name
    labels, _ = read_label_file(file, FACTS[params.datasets[name].source].num_classes)
    return f"{name}/file-{label_digest(labels)[:12]}"


def place_labels(
    artefact: Artefact[BiasRequest], file: Path, root: Path, *, accept_unverified: bool = False
) -> None:
    """Use a file at hand as the label file that a bias names.

    Args:
        artefact: the biased table that is planned.
        file: the labels, in any format of :func:`~cmw_pipeline.data.label_files.read_label_file`.
        root: the project folder.
        accept_unverified: take labels that are not the published ones.

    Raises:
        ConfigError: the bias names no label file.
        IntegrityError: the labels are not the ones that it names, or others are there already.
    """
    facts = FACTS[artefact.request.source]
    named = artefact.inputs.get("labels")
    if named is None:
        labels, _ = read_label_file(file, facts.num_classes)
        dataset = artefact.name.partition("/")[0]
        raise ConfigError(
            f"{artefact.name}: this bias reads no label file",
            f"write {dataset}/file-{label_digest(labels)[:12]} for the labels of {file}",
        )
    if make(named, functools.partial(download.run, local=file, accept_unverified=accept_unverified), root):
        return
    published = facts.label_file(named.request.labels)
    labels, _ = read_label_file(file, facts.num_classes, published.entry if published else None)
    there = lineage(root).open(named)
    if there.manifest["notes"]["labels_sha256"] != label_digest(labels):
        raise IntegrityError(f"{file}: not the labels in {there.path}", "remove that folder to use these")

"""Stage download: raw data, label files and published weights, fetched or from what is at hand."""

from pathlib import Path
from typing import TypeAlias

from cmw_pipeline.config.contracts import DatasetRequest, LabelFileRequest, PretrainedRequest
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.pretrained import PRETRAINED
from cmw_pipeline.data.raw import read_folder
from cmw_pipeline.data.sources import write_dataset
from cmw_pipeline.data.sources.asked import Asked, Notes
from cmw_pipeline.data.sources.label_file import write_labels
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.runtime.workers import decode_workers
from cmw_pipeline.stages.base import Job

DownloadJob: TypeAlias = Job[DatasetRequest] | Job[LabelFileRequest] | Job[PretrainedRequest]


def run(job: DownloadJob, *, local: Path | None = None, accept_unverified: bool = False) -> None:
    """Write ``images.npy`` and ``labels.parquet`` of a dataset, or the ``labels.parquet`` of a label file.

    Of published weights, only those of a network's trunk are written, as ``weights.safetensors``.

    Of a dataset of image files, which stay where they are, ``files.parquet`` takes the place of the images,
    and ``faults.parquet`` reports those that were left out or converted.

    Args:
        job: asks for a dataset, for labels of it, or for published weights.
        local: an archive or a folder to read in place of fetching, of any form; None for a folder of image
            files that was read before: that one.
        accept_unverified: take local files whose hashes are not the published ones, and say so in the
            notes; their sizes, shapes and labels must still be right.

    Raises:
        ConfigError: nothing of the dataset is at ``local``, or ``cmw import`` brought it.
        IntegrityError: the bytes are not the published ones, or not a dataset.
        SystemFault: no mirror can be reached, or a file cannot be read or written.
    """
    downloads = job.side.parent.parent / "downloads"  # results/downloads
    place = local or _folder_before(job)
    asked = Asked(job.out, downloads, job.side, place, accept_unverified, decode_workers())
    job.notes.update(_written(job, asked))


def _written(job: DownloadJob, asked: Asked) -> Notes:
    request = job.request
    if isinstance(request, PretrainedRequest):
        from cmw_pipeline.data.sources.pretrained import write_pretrained  # loads torch

        return write_pretrained(PRETRAINED[request.pretrained], asked)
    facts = FACTS[request.source]
    if isinstance(request, LabelFileRequest):
        return write_labels(facts, request.labels, job.artefact.name, asked)
    return write_dataset(facts, request.form, asked)


def _folder_before(job: DownloadJob) -> Path | None:
    """The folder of image files that what lies in this place was read from."""
    folder = read_folder(job.place)
    if folder and folder.imported:
        name = job.artefact.name
        hint = f"`cmw import PATH --name {name} --again`, with the PATH and the options of the first time"
        raise ConfigError(f"{name}: came by `cmw import`, which alone can read it again", hint)
    return folder and folder.root

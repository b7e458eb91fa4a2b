"""Raw data and label files: from the publisher, from a file or folder at hand, or from a package."""

import hashlib
from importlib import metadata
from pathlib import Path, PurePosixPath

from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.datasets import FACTS, Archive
from cmw_pipeline.config.label_files import LabelFile, label_file
from cmw_pipeline.config.pretrained import PRETRAINED, WEIGHTS
from cmw_pipeline.data.cifar import read_cifar
from cmw_pipeline.data.digits import read_digits
from cmw_pipeline.data.label_files import label_digest, read_label_file, write_given
from cmw_pipeline.data.listings import missing
from cmw_pipeline.data.store import write_files, write_raw
from cmw_pipeline.data.survey import MAX_LEFT_OUT, READERS, survey
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.archives import SIZE_CAP, Members, read_members, top_folder
from cmw_pipeline.io.atomic import system_faults
from cmw_pipeline.io.checkpoints import read_state_dict, save_tensors
from cmw_pipeline.io.download import fetch
from cmw_pipeline.io.manifests import file_entry
from cmw_pipeline.io.tables import write_table
from cmw_pipeline.runtime.workers import decode_workers
from cmw_pipeline.stages.base import Job
from cmw_pipeline.types import FAULT_COLUMNS

FAULTS = "faults.parquet"


def run(job: Job, *, local: Path | None = None, accept_unverified: bool = False) -> None:
    """Write ``images.npy`` and ``labels.parquet`` of a dataset, or the ``labels.parquet`` of a label file.

    Of published weights, only those of a network's trunk are written, as ``weights.safetensors``.

    Of a dataset of image files, which stay where they are, ``files.parquet`` takes the place of the images,
    and ``faults.parquet`` reports those that were left out or converted.

    Args:
        job: its parameters name the ``source`` and, for CIFAR, the published ``form`` to fetch; or the
            ``source`` and the bias step whose label file is wanted, as ``labels``.
        local: an archive or a folder to read in place of fetching, of either form.
        accept_unverified: take local files whose hashes are not the published ones, and say so in the
            notes; their sizes, shapes and labels must still be right.

    Raises:
        ConfigError: nothing of the dataset is at ``local``.
        IntegrityError: the bytes are not the published ones, or not a dataset.
        SystemFault: no mirror can be reached, or a file cannot be read or written.
    """
    if "pretrained" in job.params:
        _write_pretrained(job, local, accept_unverified=accept_unverified)
        return
    source = job.params["source"]
    if "labels" in job.params:
        _write_labels(job, local, accept_unverified=accept_unverified)
        return
    if FACTS[source].files is not None:
        _survey(job, local)
        return
    if source.startswith("digits"):
        _write_digits(job, local)
        return
    if local is None:
        files = _fetched(job)
        differing: list[str] = []
    else:
        files, differing = _local(job, local)
    if differing and not accept_unverified:
        raise IntegrityError(
            f"{local}: not the published files, by their hashes: {', '.join(differing)}",
            "use `--accept-unverified` to go on; everything made from them will say so",
        )
    job.notes["verified"] = not differing
    if differing:
        job.notes["unverified_files"] = differing
    write_raw(job.out, *read_cifar(files, source))


def _write_digits(job: Job, local: Path | None) -> None:
    if local is not None:
        raise ConfigError("digits come with scikit-learn; there is nothing to read from a file")
    job.notes["origin"] = f"scikit-learn {metadata.version('scikit-learn')}"
    job.notes["verified"] = True
    write_raw(job.out, *read_digits(FACTS[job.params["source"]].class_names))


def _survey(job: Job, local: Path | None) -> None:
    """List a dataset of image files, and open every one of them once."""
    facts = FACTS[job.params["source"]]
    assert facts.files is not None
    if local is None or not local.is_dir():
        raise missing(Path(job.artefact.name if local is None else local), facts)
    root = local.resolve()
    listing = READERS[facts.files.layout](root, facts)
    files, faults = survey(root, listing, decode_workers())
    report = job.side / FAULTS
    write_table(report, faults, FAULT_COLUMNS)
    lost = faults[faults["left_out"]]
    if len(lost) > MAX_LEFT_OUT * len(listing.files):
        reasons = ", ".join(f"{count} {reason}" for reason, count in lost["fault"].value_counts().items())
        raise IntegrityError(
            f"{local}: {len(lost)} of {len(listing.files)} files cannot be used, more than 0.1%: {reasons}; "
            f"the first is {lost['path'].iloc[0]}",
            f"all of them are in {report}",
        )
    job.notes["root"] = str(root)
    job.notes["class_names"] = list(listing.class_names)
    job.notes["faults"] = {str(reason): int(n) for reason, n in faults["fault"].value_counts().items()}
    write_files(job.out, files)
    write_table(job.out / FAULTS, faults, FAULT_COLUMNS)


def _write_pretrained(job: Job, local: Path | None, *, accept_unverified: bool) -> None:
    """The published weights that a network can start from, without their output layer."""
    published = PRETRAINED[job.params["pretrained"]]
    if local is None:
        file = _downloads(job) / PurePosixPath(published.url).name
        job.notes["origin"] = fetch([published.url], published.sha256, file)
    else:
        file = local
        job.notes["origin"] = local.resolve().name
        if not file.is_file():
            raise ConfigError(f"{file}: no such file")
    digest = file_entry(file)["sha256"]
    job.notes["verified"] = digest == published.sha256
    if not job.notes["verified"] and not accept_unverified:
        raise IntegrityError(
            f"{file}: not the published weights: its sha256 is {digest}; expected {published.sha256}",
            "use `--accept-unverified` to go on; everything made from them will say so",
        )
    tensors = read_state_dict(file)
    save_tensors(job.out / WEIGHTS, {n: t for n, t in tensors.items() if not n.startswith("classifier.")})


def _write_labels(job: Job, local: Path | None, *, accept_unverified: bool) -> None:
    """The label file of one bias step, ``plc:type1-0.35``, ``human-worst`` or a user's ``file-DIGEST``.

    A copy at hand may be in any format that :func:`read_label_file` reads: the labels themselves are
    compared with the published ones.
    """
    source = job.params["source"]
    (step,) = parse_bias(job.params["labels"])
    facts = label_file(source, step)
    if local is not None:
        file = local
        job.notes["origin"] = local.resolve().name
    elif facts is not None:
        file = _downloads(job) / PurePosixPath(facts.url).name
        job.notes["origin"] = fetch([facts.url], facts.sha256, file)
    else:
        raise ConfigError(
            f"{job.artefact.name}: a label file of your own has no address to fetch it from",
            f"use `cmw download {job.artefact.name} --from FILE`",
        )
    labels, clean = read_label_file(file, FACTS[source].num_classes, facts.entry if facts else None)
    digest = label_digest(labels)
    problem = _other_labels(digest, step.word, facts, len(labels))
    if problem and (facts is None or len(labels) != facts.rows or not accept_unverified):
        raise IntegrityError(f"{file}: {problem[0]}", problem[1])
    job.notes["verified"] = problem is None
    job.notes["labels_sha256"] = digest
    write_given(job.out, labels, clean)


def _other_labels(
    digest: str, word: str | None, facts: LabelFile | None, rows: int
) -> tuple[str, str] | None:
    """Why labels are not the ones that the step names, and what to do; None where they are."""
    if facts is None:
        name = f"file-{digest[:12]}"
        return None if digest.startswith(word or "-") else (f"its labels are {name}", f"name the bias {name}")
    if rows != facts.rows:
        return f"{rows} labels; expected {facts.rows}", "the file is of another dataset or split"
    if digest != facts.labels_sha256:
        return (
            f"not the published labels: their sha256 is {digest}; expected {facts.labels_sha256}",
            "use `--accept-unverified` to go on; everything made from them will say so",
        )
    return None


def _downloads(job: Job) -> Path:
    """Where fetched files stay: ``results/downloads``."""
    return job.side.parent.parent / "downloads"


def _fetched(job: Job) -> dict[str, bytes]:
    """The wanted files of the published archive, which stays in ``results/downloads``."""
    archive = FACTS[job.params["source"]].archives[job.params["form"]]
    file = _downloads(job) / PurePosixPath(archive.urls[0]).name
    job.notes["origin"] = fetch(archive.urls, archive.sha256, file)
    return read_members(file, archive.folder, archive.members)


def _local(job: Job, local: Path) -> tuple[dict[str, bytes], list[str]]:
    """The wanted files at ``local``, and the names of those that are not the published ones."""
    archives = list(FACTS[job.params["source"]].archives.values())
    job.notes["origin"] = local.resolve().name
    if local.is_dir():
        archive, folder = _find_folder(archives, local)
        files = {name: _read(folder / name, archive.members) for name in archive.members}
    elif local.is_file():
        archive = _recognise(archives, local)
        files = read_members(local, archive.folder, archive.members)
    else:
        raise ConfigError(f"{local}: no such file or folder")
    hashes = {name: digest for name, (_, digest) in archive.members.items()}
    return files, [name for name, data in files.items() if not _published(data, hashes[name])]


def _find_folder(archives: list[Archive], local: Path) -> tuple[Archive, Path]:
    for archive in archives:
        for folder in (local, local / archive.folder):
            if any((folder / name).is_file() for name in archive.members):
                return archive, folder
    wanted = " or ".join(f"{next(iter(archive.members))} of {archive.folder}" for archive in archives)
    raise ConfigError(f"{local}: none of the dataset's files is here; looked for {wanted}")


def _recognise(archives: list[Archive], file: Path) -> Archive:
    folder = top_folder(file)
    for archive in archives:
        if archive.folder == folder:
            return archive
    expected = " or ".join(archive.folder for archive in archives)
    raise IntegrityError(f"{file}: holds the folder {folder!r}; expected {expected}")


def _read(file: Path, members: Members) -> bytes:
    if not file.is_file():
        raise IntegrityError(f"{file}: missing")
    size, found = members[file.name][0], file.stat().st_size
    if size is not None and found != size:
        raise IntegrityError(f"{file}: {found} bytes; expected {size}")
    if found > SIZE_CAP:
        raise IntegrityError(f"{file}: {found} bytes; at most {SIZE_CAP} are read")
    with system_faults(file):
        return file.read_bytes()


def _published(data: bytes, expected: str | None) -> bool:
    if expected is None:
        return False
    kind, _, digest = expected.partition(":")
    return hashlib.new(kind, data, usedforsecurity=False).hexdigest() == digest

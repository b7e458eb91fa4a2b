"""Small, well-formed CIFAR files, folders and archives for tests."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.origins import Archive
from cmw_pipeline.data import cifar

ROWS = 10


def shrink(monkeypatch, source: str) -> dict[str, dict[str, bytes]]:
    """Make CIFAR a dataset of ``ROWS`` rows a file for one test; return its genuine files by form."""
    layout = tuple((stem, ROWS, split) for stem, _, split in cifar.LAYOUT[source])
    monkeypatch.setitem(cifar.LAYOUT, source, layout)
    facts = FACTS[source]
    files = {"binary": binary_files(source), "python": python_files(source)}
    forms = {
        form: (
            dataclasses.replace(
                archive(source, form),
                sha256=hashlib.sha256(tar_gz(entries(archive(source, form), files[form]))).hexdigest(),
                members={
                    name: (
                        len(data) if form == "binary" else None,
                        "sha256:" + hashlib.sha256(data).hexdigest(),
                    )
                    for name, data in files[form].items()
                },
            ),
        )
        for form in files
    }
    origin = dataclasses.replace(facts.origin, forms=forms)
    monkeypatch.setitem(FACTS, source, dataclasses.replace(facts, origin=origin))
    return files


def archive(source: str, form: str) -> Archive:
    """The one archive of a published form."""
    (only,) = FACTS[source].origin.forms[form]
    return only


def rows_of(source: str, number: int) -> tuple[np.ndarray, list[int], list[int]]:
    """Pixels (ROWS, 3072), labels and superclasses of a file; equal for both forms."""
    rng = np.random.default_rng(number)
    classes = FACTS[source].num_classes
    pixels = rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8)
    return pixels, rng.integers(0, classes, ROWS).tolist(), rng.integers(0, 20, ROWS).tolist()


def binary_files(source: str) -> dict[str, bytes]:
    files = {}
    for number, (stem, _, _) in enumerate(cifar.LAYOUT[source]):
        pixels, labels, coarse = rows_of(source, number)
        columns = [coarse, labels] if source == "cifar100" else [labels]
        records = np.column_stack([*(np.array(column, np.uint8) for column in columns), pixels])
        files[stem + ".bin"] = records.tobytes()
    return files


def python_files(source: str) -> dict[str, bytes]:
    files = {}
    for number, (stem, _, _) in enumerate(cifar.LAYOUT[source]):
        pixels, labels, coarse = rows_of(source, number)
        named = (
            {"fine_labels": labels, "coarse_labels": coarse} if source == "cifar100" else {"labels": labels}
        )
        files[stem] = pickled({"data": pixels, **named, "batch_label": stem})
    return files


def pickled(content: dict) -> bytes:
    return pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=2)


def entries(archive: Archive, files: dict[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Tar entries as the official archives have them: the folder, the files, one companion."""
    folder = tarfile.TarInfo(archive.folder)
    folder.type = tarfile.DIRTYPE
    named = [file_entry(f"{archive.folder}/{name}", data) for name, data in files.items()]
    return [(folder, b""), *named, file_entry(f"{archive.folder}/readme.html", b"<html>")]


def file_entry(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def tar_gz(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """The same members give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return gzipped(plain.getvalue())


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder

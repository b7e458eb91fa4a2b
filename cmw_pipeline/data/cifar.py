"""CIFAR-10 and CIFAR-100 from the files of either published form."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.data.cifar_pickle import read_batch
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.types import TEST, TRAIN, Images, Labels

LAYOUT: dict[str, tuple[tuple[str, int, str], ...]] = {
    "cifar10": (
        *((f"data_batch_{number}", 10_000, TRAIN) for number in range(1, 6)),
        ("test_batch", 10_000, TEST),
    ),
    "cifar100": (("train", 50_000, TRAIN), ("test", 10_000, TEST)),
}
"""Files in order: name without ``.bin``, rows, split."""
_LABEL_KEY = {"cifar10": "labels", "cifar100": "fine_labels"}
_LABEL_BYTES = {"cifar10": 1, "cifar100": 2}
"""Bytes before a binary record's pixels; the last of them is the label, one before it the superclass."""
_PIXELS = 3_072
_SUPERCLASSES = 20


def read_cifar(
    facts: DatasetFacts, files: Mapping[str, bytes]
) -> tuple[Images, Labels, npt.NDArray[np.str_]]:
    """Put the files of a CIFAR dataset together.

    Args:
        facts: of ``cifar10`` or ``cifar100``.
        files: name -> content, all of the binary form (``*.bin``) or all of the python form.

    Returns:
        Images, (N, 32, 32, 3) uint8; labels, (N,) int16, the fine ones of CIFAR-100; and split, (N,) of
        ``train`` and ``test``. Training files come first, in their order.

    Raises:
        IntegrityError: a file has another number of rows, another layout, or a label out of range.
    """
    layout = LAYOUT[facts.name]
    total = sum(rows for _, rows, _ in layout)
    images = np.empty((total, 32, 32, 3), np.uint8)
    labels = np.empty(total, np.int16)
    binary = all(name.endswith(".bin") for name in files)
    start = 0
    for stem, rows, _ in layout:
        name = stem + ".bin" if binary else stem
        part = slice(start, start + rows)
        pixels, labels[part] = (_binary if binary else _pickled)(files[name], name, facts, rows)
        images[part] = pixels.reshape(rows, 3, 32, 32).transpose(0, 2, 3, 1)
        start += rows
    split = np.repeat([split for _, _, split in layout], [rows for _, rows, _ in layout])
    return images, labels, split


def _binary(data: bytes, name: str, facts: DatasetFacts, rows: int) -> tuple[npt.NDArray[np.uint8], Labels]:
    before = _LABEL_BYTES[facts.name]
    size = rows * (before + _PIXELS)
    if len(data) != size:
        raise IntegrityError(f"{name}: {len(data)} bytes; expected {size}, which are {rows} rows")
    records = np.frombuffer(data, np.uint8).reshape(rows, before + _PIXELS)
    check_range(records[:, before - 1], facts.num_classes, name, "label")
    check_range(records[:, : before - 1].ravel(), _SUPERCLASSES, name, "superclass")
    return records[:, before:], records[:, before - 1].astype(np.int16)


def _pickled(data: bytes, name: str, facts: DatasetFacts, rows: int) -> tuple[npt.NDArray[np.uint8], Labels]:
    pixels, labels = read_batch(data, name, _LABEL_KEY[facts.name])
    for what, found in (("images", len(pixels)), ("labels", len(labels))):
        if found != rows:
            raise IntegrityError(f"{name}: {found} {what}; expected {rows}")
    return pixels, _integers(labels, facts.num_classes, name)


def _integers(labels: list[Any], classes: int, name: str) -> Labels:
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            raise IntegrityError(f"{name}: row {row}: label {label!r}; expected 0 to {classes - 1}")
    return np.array(labels, np.int16)


def check_range(values: npt.NDArray[np.integer], classes: int, name: str, what: str) -> None:
    """See that all values lie in [0, classes).

    Raises:
        IntegrityError: one does not; the message names the row.
    """
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if wrong.size:
        row = int(wrong[0])
        raise IntegrityError(f"{name}: row {row}: {what} {values[row]}; expected 0 to {classes - 1}")

"""Facts about published label files and factors: where they are, what they hold, how noisy they are.

``label_files.csv`` lists the feature-dependent labels of PLC (Zhang et al., ICLR 2021), which CMW-Net's
Tables 4 and 5 read, and the human labels of CIFAR-N (Wei et al., ICLR 2022; CC BY-NC 4.0: fetched, never
handed on).
``factors.csv`` lists the factors F that gave their levels with PLC's teacher (its cifar/readme.md).
"""

from typing import Annotated

from pydantic import Field

from cmw_pipeline.config.facts import Hex, Https, Row, Sha256, read


class LabelFile(Row):
    """One published set of labels for the first ``rows`` training samples of a dataset, in file order.

    ``sha256`` is of the file at ``url``, ``begins`` its first bytes; ``labels_sha256`` is of the labels
    alone, as little-endian int16, so that a copy in another format can be recognised. ``entry`` is the
    labels' key where the file holds several sets. ``level`` is the share of labels that differ from the
    dataset's, rounded to 4 digits.
    """

    dataset: str
    bias: str
    url: Https
    begins: Hex
    sha256: Sha256
    labels_sha256: Sha256
    rows: Annotated[int, Field(gt=0)]
    level: Annotated[float, Field(gt=0, lt=1)]
    entry: str | None = None


class Factor(Row):
    """The published factor of a feature-dependent step."""

    dataset: str
    bias: str
    factor: Annotated[float, Field(ge=1)]


_LABEL_FILES = read("label_files", LabelFile)
_FACTORS = read("factors", Factor)


def label_files(dataset: str) -> dict[str, LabelFile]:
    """Name of a bias step -> its published file."""
    return {row.bias: row for row in _LABEL_FILES if row.dataset == dataset}


def factors(dataset: str) -> dict[str, float]:
    """Name of a bias step -> its published factor."""
    return {row.bias: row.factor for row in _FACTORS if row.dataset == dataset}

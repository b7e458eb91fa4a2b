"""The 1,797 handwritten digits that come inside scikit-learn."""

import hashlib

import numpy as np
import numpy.typing as npt

from cmw_pipeline.config.datasets import FACTS, DatasetFacts
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.types import TEST, TRAIN, Images, Labels

_SHA256 = "f8c0eac51b606a239a10db010c0a527d5ec50f53fca6cecf3a782df68a022a20"
"""Hash of the images' bytes and then the labels' bytes, as this module returns them."""
_GREY = 15
"""The source has 17 greys, 0 to 16; times 15 they are 0 to 240."""
_TEST_EVERY = 5


def read_digits(facts: DatasetFacts = FACTS["digits"]) -> tuple[Images, Labels, npt.NDArray[np.str_]]:
    """Read the digits.

    Args:
        facts: their class names are the digits that are wanted, ``"5", "6", ...``; others are left out.

    Returns:
        Images, (N, 8, 8, 1) uint8, of all digits N = 1797; labels, (N,) int16, places among the class
        names; and split, (N,): within each class every fifth image in file order is ``test``, so that no
        seed has a say.

    Raises:
        IntegrityError: the installed scikit-learn has other digits.
    """
    from sklearn.datasets import load_digits  # two seconds that every other start is spared

    digits = load_digits()
    images = (digits.images.astype(np.uint8) * _GREY)[..., np.newaxis]
    labels = digits.target.astype(np.int16)
    found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if found != _SHA256:
        raise IntegrityError(f"scikit-learn's digits: sha256 is {found}; expected {_SHA256}")
    place = {int(digit): number for number, digit in enumerate(facts.class_names)}
    kept = np.isin(labels, list(place))
    labels = np.array([place[digit] for digit in labels[kept].tolist()], dtype=np.int16)
    return images[kept], labels, _split(labels)


def _split(labels: Labels) -> npt.NDArray[np.str_]:
    split = np.full(len(labels), TRAIN)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        split[rows[_TEST_EVERY - 1 :: _TEST_EVERY]] = TEST
    return split

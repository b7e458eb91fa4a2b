"""How wrong a classifier is on the predictions that it is surest of; all numbers in percent.

Every score ranks: only the order of the confidences matters. Samples of equal confidence share their
errors evenly, which is the mean over all orders among them, so no number depends on the samples' order.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from cmw_pipeline.errors import NumericsError
from cmw_pipeline.types import Floats

COVERAGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of the test set that the tables of selective classification look at."""
CURVE = tuple(percent / 100 for percent in range(5, 101, 5))
"""Shares that a drawn risk-coverage curve goes through."""
_ROUNDING = 1e-9


def risk_coverage(wrong: npt.NDArray[np.bool_], confidence: npt.NDArray[np.floating[Any]]) -> Floats:
    """The risk-coverage curve: the error among the n surest predictions, for n = 1 .. N.

    Args:
        wrong: (N,) True where the prediction is not the label.
        confidence: (N,) the larger, the surer.

    Returns:
        (N,) percent; entry n - 1 belongs to the coverage n / N.

    Raises:
        ValueError: the shapes or dtypes do not fit.
        NumericsError: a confidence is not a number, so that no order exists.

    >>> risk_coverage(np.array([True, False, False, True]), np.array([0.1, 0.9, 0.8, 0.3])).round(1).tolist()
    [0.0, 0.0, 33.3, 50.0]
    """
    if wrong.ndim != 1 or wrong.shape != confidence.shape or wrong.size == 0:
        raise ValueError(f"{wrong.shape} errors, {confidence.shape} confidences; expected (N,) twice, N > 0")
    if wrong.dtype.kind != "b" or confidence.dtype.kind != "f":
        raise ValueError(f"errors {wrong.dtype}, confidences {confidence.dtype}; expected bool and floats")
    if np.isnan(confidence).any():
        raise NumericsError(f"{np.isnan(confidence).sum()} of {len(confidence)} confidences are NaN")
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    share = np.bincount(group, weights=wrong) / sizes
    risk: Floats = 100.0 * np.cumsum(np.repeat(share, sizes)) / np.arange(1, len(wrong) + 1)
    return risk


def aurc(wrong: npt.NDArray[np.bool_], confidence: npt.NDArray[np.floating[Any]]) -> float:
    """The area under the risk-coverage curve: its mean over the N coverages (Geifman et al., ICLR 2019)."""
    return float(risk_coverage(wrong, confidence).mean())


def selective_error(
    wrong: npt.NDArray[np.bool_], confidence: npt.NDArray[np.floating[Any]], coverage: float
) -> float:
    """The error at a coverage: among the surest ``coverage`` of these samples, rounded up to whole ones.

    The threshold is set on the samples themselves, so the coverage is exact.

    Raises:
        ValueError: the coverage is not in (0, 1].
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"the coverage is {coverage:g}; it must lie in (0, 1]")
    accepted = int(np.ceil(coverage * len(wrong) - _ROUNDING))
    return float(risk_coverage(wrong, confidence)[accepted - 1])

"""What brings vectors to mean 0 and one length."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cmw_pipeline.types import Vectors

_LENGTH = 4.0
"""Root mean square length of a standardised vector: a linear layer learns from it at ordinary rates."""


@dataclass(frozen=True)
class Scale:
    """What brings a dataset's vectors to mean 0 and one length; of its training samples."""

    mean: npt.NDArray[np.float32]
    """(D,)."""
    factor: npt.NDArray[np.float32]
    """(D,); 0 of a feature that is constant."""

    @classmethod
    def of(cls, vectors: Vectors) -> "Scale":
        """The scale of (N, D) training vectors."""
        mean, std = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64)
        varies = std > 1e-6 * np.maximum(np.abs(mean), 1e-6)
        dimensions = max(int(varies.sum()), 1)
        factor = np.where(varies, _LENGTH / np.sqrt(dimensions) / np.where(varies, std, 1), 0)
        return cls(mean.astype(np.float32), factor.astype(np.float32))

    def apply(self, vectors: Vectors) -> Vectors:
        """(N, D) vectors, scaled."""
        return (vectors - self.mean) * self.factor

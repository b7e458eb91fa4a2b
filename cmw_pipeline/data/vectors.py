"""Samples that are vectors: embeddings, or rows of a table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch

from cmw_pipeline.data.loader import Ask, Draws
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.types import Vectors

_LENGTH = 4.0
"""Root mean square length of a standardised vector: a linear layer learns from it at ordinary rates."""
_PREDICTED = 4096


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


@dataclass(frozen=True)
class VectorStore:
    """Vectors on the device; nothing about them is augmented."""

    values: torch.Tensor
    """(N, D) float32, scaled."""
    always_crops = False
    size = (1, 1)

    @classmethod
    def put(cls, vectors: Vectors, scale: Scale, device: torch.device) -> "VectorStore":
        """Scale (N, D) vectors and move them to the device."""
        return cls(torch.from_numpy(scale.apply(np.asarray(vectors))).to(device))

    @property
    def device(self) -> torch.device:
        """Where the vectors are."""
        return self.values.device

    def plain(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, D)."""
        return self.values[rows]

    def augmented(self, draws: Draws) -> torch.Tensor:
        """(B, D), as they are."""
        return self.values[draws.rows]

    def strong(self, draws: Draws) -> NoReturn:
        """No vector has a strong view.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("vectors have no strong view", "choose a method without strong_view")

    def in_order(self, rows: range) -> Iterator[torch.Tensor]:
        """Consecutive vectors, a batch at a time."""
        yield from torch.split(self.values[rows.start : rows.stop], _PREDICTED)

    def expect(self, asks: Iterable[Ask]) -> None:
        """Nothing to prepare."""

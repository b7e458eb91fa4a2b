"""Samples that are vectors: embeddings, or rows of a table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch

from cmw_pipeline.data.loader import Ask, Draws
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.types import Vectors

_PREDICTED = 4096


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

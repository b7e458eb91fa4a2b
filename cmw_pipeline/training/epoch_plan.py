"""The order and the augmentation of an epoch: functions of (seed, epoch) alone.

There is nothing to save for a resume, and the order is the same on every device.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cmw_pipeline.config.schema import Augment
from cmw_pipeline.data.loader import Draws


@dataclass(frozen=True)
class EpochPlan:
    """What an epoch will do to each of its samples, in order of use, in each of V views."""

    rows: torch.Tensor
    """(R,) int64, R >= steps * B."""
    shift: torch.Tensor
    """(R, V, 2) int64."""
    flip: torch.Tensor
    """(R, V) bool."""
    hole: torch.Tensor | None
    """(R, V, 3) int64."""
    batch_size: int
    seed: torch.Tensor
    """(R, V) int64."""
    angle: torch.Tensor | None = None
    """(R, V) float32."""

    @classmethod
    def draw(
        cls,
        pool: npt.NDArray[np.int64],
        batch_size: int,
        steps: int,
        augment: Augment,
        rng: np.random.Generator,
        views: int = 1,
        size: tuple[int, int] = (32, 32),
    ) -> "EpochPlan":
        """Permute the pool as often as it takes to fill ``steps`` batches, and draw the augmentation.

        An incomplete batch at the end of a pass is left out, so every batch is full.

        Args:
            pool: (P,) rows to draw from.
            batch_size: at most P.
            steps: batches in the epoch.
            augment: what is drawn for each sample.
            rng: of this epoch and purpose alone.
            views: V.
            size: height and width of the images, for cutout's centres.
        """
        usable = len(pool) // batch_size * batch_size
        passes = -(-steps * batch_size // usable)
        rows = np.concatenate([rng.permutation(pool)[:usable] for _ in range(passes)])
        shape = (len(rows), views)
        shift = rng.integers(0, 2 * augment.pad + 1, (*shape, 2))
        flip = rng.random(shape) < 0.5 if augment.flip else np.zeros(shape, dtype=bool)
        hole = None
        if augment.cutout:
            centre = rng.integers(0, size, (*shape, 2))
            side = np.full((*shape, 1), augment.cutout)
            hole = torch.from_numpy(np.concatenate([centre - augment.cutout // 2, side], axis=2))
        angle = None
        if augment.rotate:
            turn = math.radians(augment.rotate)
            angle = torch.from_numpy(rng.uniform(-turn, turn, shape).astype(np.float32))
        seed = torch.from_numpy(rng.integers(0, 2**62, shape))
        tensors = torch.from_numpy(rows), torch.from_numpy(shift), torch.from_numpy(flip)
        return cls(*tensors, hole, batch_size, seed, angle)

    def to(self, device: torch.device) -> "EpochPlan":
        """A copy of the plan on a device."""
        hole, angle = (None if t is None else t.to(device) for t in (self.hole, self.angle))
        tensors = self.rows.to(device), self.shift.to(device), self.flip.to(device)
        return EpochPlan(*tensors, hole, self.batch_size, self.seed.to(device), angle)

    def batch(self, step: int, view: int = 0) -> Draws:
        """The draws of one step and view."""
        part = slice(step * self.batch_size, (step + 1) * self.batch_size)
        hole, angle = (None if t is None else t[part, view] for t in (self.hole, self.angle))
        tensors = self.rows[part], self.shift[part, view], self.flip[part, view]
        return Draws(*tensors, hole, self.seed[part, view], angle)

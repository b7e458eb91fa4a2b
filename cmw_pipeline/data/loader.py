"""Training images that live on the device as uint8; batches are index arithmetic on them.

The order and the augmentation of an epoch are functions of (seed, epoch) alone: nothing to save for a
resume, and the same on every device.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from cmw_pipeline.config.schema import Augment


@dataclass(frozen=True)
class ImageStore:
    """Images on the device, ready to be normalised; padded when they will be cropped."""

    padded: torch.Tensor
    """(N, C, H + 2 pad, W + 2 pad) uint8."""
    pad: int
    mean: torch.Tensor
    """(C, 1, 1) float, in pixel units."""
    std: torch.Tensor

    @classmethod
    def put(
        cls,
        images: npt.NDArray[np.uint8],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augment: Augment,
        device: torch.device,
    ) -> "ImageStore":
        """Move (N, H, W, C) uint8 images to the device; mean and std are in units of pixel/255."""
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)
        if augment.pad:
            pixels = _pad(pixels, augment)
        scale = [torch.tensor(v, device=device).view(-1, 1, 1) * 255 for v in (mean, std)]
        return cls(pixels, augment.pad, *scale)

    def plain(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised images without augmentation."""
        inner = slice(self.pad, -self.pad or None)
        return self._normalise(self.padded[rows][:, :, inner, inner])

    def augmented(self, rows: torch.Tensor, shift: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised images, each cropped at its shift and mirrored where ``flip``.

        Args:
            rows: (B,) int64.
            shift: (B, 2) int64 corner of the crop in the padded image, each in 0..2 pad.
            flip: (B,) bool.
        """
        channels, height, width = self.padded.shape[1:]
        height, width = height - 2 * self.pad, width - 2 * self.pad
        device = self.padded.device
        down = torch.arange(height, device=device) + shift[:, :1]
        across = torch.arange(width, device=device).expand(len(rows), width)
        across = torch.where(flip[:, None], width - 1 - across, across) + shift[:, 1:]
        picked = self.padded[
            rows[:, None, None, None],
            torch.arange(channels, device=device)[None, :, None, None],
            down[:, None, :, None],
            across[:, None, None, :],
        ]
        return self._normalise(picked)

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() - self.mean) / self.std


@dataclass(frozen=True)
class EpochPlan:
    """What an epoch will do to each of its samples, in order of use."""

    rows: torch.Tensor
    """(R,) int64, R >= steps * B."""
    shift: torch.Tensor
    """(R, 2) int64."""
    flip: torch.Tensor
    """(R,) bool."""

    @classmethod
    def draw(
        cls,
        pool: npt.NDArray[np.int64],
        batch_size: int,
        steps: int,
        augment: Augment,
        rng: np.random.Generator,
    ) -> "EpochPlan":
        """Permute the pool as often as it takes to fill ``steps`` batches, and draw the augmentation.

        An incomplete batch at the end of a pass is left out, so every batch is full.

        Args:
            pool: (P,) rows to draw from.
            batch_size: at most P.
            steps: batches in the epoch.
            augment: what is drawn for each sample.
            rng: of this epoch and purpose alone.
        """
        usable = len(pool) // batch_size * batch_size
        passes = -(-steps * batch_size // usable)
        rows = np.concatenate([rng.permutation(pool)[:usable] for _ in range(passes)])
        shift = rng.integers(0, 2 * augment.pad + 1, (len(rows), 2))
        flip = rng.random(len(rows)) < 0.5 if augment.flip else np.zeros(len(rows), dtype=bool)
        return cls(torch.from_numpy(rows), torch.from_numpy(shift), torch.from_numpy(flip))

    def to(self, device: torch.device) -> "EpochPlan":
        """The same plan on the device."""
        return EpochPlan(self.rows.to(device), self.shift.to(device), self.flip.to(device))

    def batch(self, step: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows, shifts and flips of one step."""
        part = slice(step * batch_size, (step + 1) * batch_size)
        return self.rows[part], self.shift[part], self.flip[part]


def _pad(pixels: torch.Tensor, augment: Augment) -> torch.Tensor:
    sides = (augment.pad,) * 4
    if augment.pad_mode == "zero":
        return F.pad(pixels, sides)
    return F.pad(pixels.float(), sides, mode="reflect").to(torch.uint8)

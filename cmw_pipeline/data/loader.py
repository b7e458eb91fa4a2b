"""Training images that live on the device as uint8; batches are index arithmetic on them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from cmw_pipeline.config.schema import Augment

_PREDICTED = {"cpu": 100, "cuda": 1000}
"""Images that are predicted at a time: on a CPU as many as its cache holds the activations of."""


class Store(Protocol):
    """Images of a training or test set, wherever they are."""

    @property
    def always_crops(self) -> bool:
        """Whether a weak view is a random part of the picture even where no augmentation is asked for."""

    @property
    def device(self) -> torch.device:
        """Where its batches are."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""

    def plain(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised images without augmentation."""

    def augmented(self, draws: "Draws") -> torch.Tensor:
        """(B, C, H, W) normalised images, augmented as drawn."""

    def strong(self, draws: "Draws") -> torch.Tensor:
        """(B, C, H, W) normalised images, augmented as drawn, with AutoAugment on top."""

    def in_order(self, rows: range) -> Iterator[torch.Tensor]:
        """Normalised images of consecutive rows without augmentation, a batch at a time."""

    def expect(self, asks: "Iterable[Ask]") -> None:
        """Hear what will be asked for, in this order, until the next call of this."""


@dataclass(frozen=True)
class ImageStore:
    """Images on the device, ready to be normalised; padded when they will be cropped."""

    padded: torch.Tensor
    """(N, C, H + 2 pad, W + 2 pad) uint8."""
    pad: int
    normalise: Callable[[torch.Tensor], torch.Tensor]
    """Of (B, C, H, W) uint8 pixels."""
    always_crops = False

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
        return cls(pixels, augment.pad, normaliser(mean, std, device))

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.padded.device

    def in_order(self, rows: range) -> Iterator[torch.Tensor]:
        """Normalised images of consecutive rows without augmentation, a batch at a time."""
        every = torch.arange(rows.start, rows.stop, device=self.device)
        yield from map(self.plain, torch.split(every, _PREDICTED[self.device.type]))

    def expect(self, asks: "Iterable[Ask]") -> None:
        """Nothing to prepare: every image is there."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self.padded.shape[2:]
        return height - 2 * self.pad, width - 2 * self.pad

    def plain(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised images without augmentation."""
        inner = slice(self.pad, -self.pad or None)
        return self.normalise(self.padded[rows][:, :, inner, inner])

    def augmented(self, draws: "Draws") -> torch.Tensor:
        """(B, C, H, W) normalised images, cropped, mirrored, turned and with a hole as drawn."""
        images = self.normalise(self._cropped(draws))
        return images if draws.hole is None else images.masked_fill(self._holes(draws.hole), 0.0)

    def strong(self, draws: "Draws") -> torch.Tensor:
        """(B, C, H, W) normalised images, augmented as drawn, with AutoAugment (CIFAR-10 policy) on top."""
        pixels = self._cropped(draws)
        colours = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
        images = auto_augmented(colours, draws.seed.tolist(), "cifar10")
        return self.normalise(torch.stack(images)[:, : pixels.shape[1]])

    def _cropped(self, draws: "Draws") -> torch.Tensor:
        channels, (height, width) = self.padded.shape[1], self.size
        device = self.padded.device
        down = torch.arange(height, device=device) + draws.shift[:, :1]
        across = torch.arange(width, device=device).expand(len(draws.rows), width)
        across = torch.where(draws.flip[:, None], width - 1 - across, across) + draws.shift[:, 1:]
        pixels = self.padded[
            draws.rows[:, None, None, None],
            torch.arange(channels, device=device)[None, :, None, None],
            down[:, None, :, None],
            across[:, None, None, :],
        ]
        return pixels if draws.angle is None else _turned(pixels, draws.angle)

    def _holes(self, hole: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W) bool: true inside each sample's square, whose edges may lie outside the picture."""
        sides = [torch.arange(side, device=hole.device) for side in self.size]
        inside = [
            (side >= hole[:, axis, None]) & (side < hole[:, axis, None] + hole[:, 2, None])
            for axis, side in enumerate(sides)
        ]
        return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


@dataclass(frozen=True)
class Draws:
    """What happens to each sample of a batch in one view."""

    rows: torch.Tensor
    """(B,) int64."""
    shift: torch.Tensor
    """(B, 2) int64 corner of the crop in the padded image, each in 0..2 pad."""
    flip: torch.Tensor
    """(B,) bool."""
    hole: torch.Tensor | None
    """(B, 3) int64: upper edge, left edge and side of a square without content; None: no cutout."""
    seed: torch.Tensor
    """(B,) int64: of what else is random about a sample, its AutoAugment or the crop of a file."""
    angle: torch.Tensor | None = None
    """(B,) float32 radians."""

    @classmethod
    def still(cls, rows: torch.Tensor) -> "Draws":
        """These rows, and nothing happens to them."""
        nothing = torch.zeros(len(rows), 2, dtype=torch.int64, device=rows.device)
        return cls(rows, nothing, nothing[:, 0].bool(), None, nothing[:, 0])

    def part(self, part: slice) -> "Draws":
        """The draws of some of the samples."""
        hole, angle = (None if t is None else t[part] for t in (self.hole, self.angle))
        return Draws(self.rows[part], self.shift[part], self.flip[part], hole, self.seed[part], angle)


@dataclass(frozen=True)
class Ask:
    """A call for images to come: what happens to them, and the view, ``plain``, ``weak`` or ``strong``."""

    draws: Draws
    view: str


def auto_augmented(
    images: Iterable[torch.Tensor], seeds: Iterable[int], policy: Literal["cifar10", "imagenet"]
) -> list[torch.Tensor]:
    """Each (3, H, W) uint8 picture under torchvision's AutoAugment, a function of its seed alone."""
    from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy  # seconds, and few need it

    change, changed = AutoAugment(AutoAugmentPolicy(policy)), []
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(images, seeds, strict=True):
            torch.default_generator.manual_seed(seed)  # not that of a GPU, which training draws from
            changed.append(change(image))
    return changed


def normaliser(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """From (B, C, H, W) uint8 pixels to normalised float ones; mean and std are in units of pixel/255."""
    scale = [torch.tensor(v, device=device).view(-1, 1, 1) * 255 for v in (mean, std)]

    def normalise(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.float() - scale[0]) / scale[1]

    return normalise


def _pad(pixels: torch.Tensor, augment: Augment) -> torch.Tensor:
    sides = (augment.pad,) * 4
    if augment.pad_mode == "zero":
        return F.pad(pixels, sides)
    return F.pad(pixels.float(), sides, mode="reflect").to(torch.uint8)


def _turned(pixels: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) uint8 images turned about their centres, by the nearest pixel; what comes in is black."""
    cos, sin, aspect = angle.cos(), angle.sin(), pixels.shape[2] / pixels.shape[3]
    zero = torch.zeros_like(cos)
    rows = torch.stack([cos, -sin * aspect, zero, sin / aspect, cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(rows, list(pixels.shape), align_corners=False)
    turned = F.grid_sample(pixels.float(), grid, mode="nearest", align_corners=False)
    return turned.to(pixels.dtype)

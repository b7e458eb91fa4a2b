"""Image files decoded as training asks for them, by worker processes that know what will be asked next.

What a picture looks like is a function of (seed, epoch, place in the epoch), drawn with the epoch's plan, so
neither the number of workers nor a resume changes it.
"""

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image

from cmw_pipeline.config.schema import Picture
from cmw_pipeline.data.loader import Ask, Draws, auto_augmented, normaliser
from cmw_pipeline.data.pictures import Unreadable, at_random, decode, in_full, read_bytes
from cmw_pipeline.data.workers import in_workers
from cmw_pipeline.errors import IntegrityError

_CHUNK = 32
"""Pictures a worker makes at a time."""
_PREDICTED = 4 * _CHUNK


@dataclass(frozen=True)
class _Order:
    """A chunk for a worker: rows of the file table, and how to show them."""

    rows: list[int]
    seeds: list[int]
    flips: list[bool]
    view: str


class FileStore:
    """The image files of a training or test set; the counterpart of ``ImageStore`` for what does not fit.

    Args:
        root: the folder that the paths are relative to.
        files: N rows with ``path``, ``bytes`` and ``crc32``, as when the set was read.
        picture: how a file becomes a picture.
        mean: of each channel in units of pixel/255.
        std: of each channel in units of pixel/255.
        device: where batches go.
        workers: processes that decode; 0: this one.
    """

    always_crops = True

    def __init__(
        self,
        root: Path,
        files: pa.Table,
        picture: Picture,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        workers: int,
    ) -> None:
        self.picture, self.device, self.workers = picture, device, workers
        self._normalise = normaliser(mean, std, device)
        paths = files["path"].combine_chunks()  # as it lies in the file: processes share its memory
        sizes, sums = files["bytes"].to_numpy(), files["crc32"].to_numpy()
        decode = functools.partial(_decoded, root, paths, sizes, sums, picture)
        self._made = functools.partial(_made, decode, workers, device.type == "cuda")
        self._coming: Iterator[torch.Tensor] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        return self.picture.side, self.picture.side

    def expect(self, asks: Iterable[Ask]) -> None:
        """Let the workers get ahead: these are the next calls for pictures, in this order."""
        self._coming = None  # ends the workers of what was expected before
        orders = (order for ask in asks for order in _orders(ask))
        if self.workers:
            self._coming = self._made(orders)

    def plain(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, C, S, S) normalised centres, without augmentation."""
        return self._seen(Ask(Draws.still(rows), "plain"))

    def augmented(self, draws: Draws) -> torch.Tensor:
        """(B, C, S, S) normalised pictures, cropped and mirrored as drawn."""
        return self._seen(Ask(draws, "weak"))

    def strong(self, draws: Draws) -> torch.Tensor:
        """(B, C, H, W) normalised images at random crops, with AutoAugment (ImageNet policy) on top."""
        return self._seen(Ask(draws, "strong"))

    def in_order(self, rows: range) -> Iterator[torch.Tensor]:
        """Normalised centres of consecutive rows, a batch at a time."""
        batches = (rows[start : start + _PREDICTED] for start in range(0, len(rows), _PREDICTED))
        asks = [Ask(Draws.still(torch.arange(part.start, part.stop)), "plain") for part in batches]
        made = self._made(order for ask in asks for order in _orders(ask))
        for ask in asks:
            yield self._put([next(made) for _ in range(_count(ask))])

    def _seen(self, ask: Ask) -> torch.Tensor:
        made = self._coming or self._made(_orders(ask))
        return self._put([next(made) for _ in range(_count(ask))])

    def _put(self, chunks: list[torch.Tensor]) -> torch.Tensor:
        return self._normalise(torch.cat([chunk.to(self.device, non_blocking=True) for chunk in chunks]))


def _made(
    decode: Callable[[_Order], torch.Tensor | str], workers: int, pinned: bool, orders: Iterable[_Order]
) -> Iterator[torch.Tensor]:
    """The pixels of each order, (b, C, S, S) uint8.

    It knows no store, so that one that is dropped ends its workers at once: those of a cycle that the garbage
    collector finds may never hear that they are to end, for their pipes may be closed first.

    Raises:
        IntegrityError: a file is not what it was when the set was read.
    """
    for pixels in in_workers(decode, orders, workers, pinned):
        if isinstance(pixels, str):
            hint = "put the file back, or remove the dataset below results/download and read it again"
            raise IntegrityError(pixels, hint)
        yield pixels


def _count(ask: Ask) -> int:
    return -(-len(ask.draws.rows) // _CHUNK)


def _orders(ask: Ask) -> Iterator[_Order]:
    draws = ask.draws
    rows, flips = draws.rows.tolist(), draws.flip.tolist()
    seeds = draws.seed.tolist()
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        yield _Order(rows[part], seeds[part], flips[part], ask.view)


def _decoded(
    root: Path,
    paths: pa.StringArray,
    sizes: npt.NDArray[np.int64],
    sums: npt.NDArray[np.int64],
    picture: Picture,
    order: _Order,
) -> torch.Tensor | str:
    """(b, C, S, S) uint8, or what is wrong with a file."""
    pictures = []
    for row, seed, flip in zip(order.rows, order.seeds, order.flips, strict=True):
        file = root / paths[row].as_py()
        try:
            data = read_bytes(file)
            if len(data) != sizes[row] or zlib.crc32(data) != sums[row]:
                return f"{file}: not the file that was there when the dataset was read"
            pictures.append(_pixels(decode(data)[0], picture, order.view, seed, flip))
        except Unreadable as error:
            return f"{file}: {error}"
    return torch.stack(pictures)


def _pixels(image: Image.Image, picture: Picture, view: str, seed: int, flip: bool) -> torch.Tensor:
    shown = in_full(image, picture) if view == "plain" else at_random(image, picture, seed, flip)
    pixels = torch.from_numpy(np.asarray(shown).copy()).permute(2, 0, 1)
    return auto_augmented([pixels], [seed], "imagenet")[0] if view == "strong" else pixels.contiguous()

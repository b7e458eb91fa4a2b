"""Image files: decoded with limits, and made into pictures of one size.

What is random about a picture is a function of a seed of its own, so it is the same whoever decodes it.
"""

import io
import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cmw_pipeline.config.schema import Picture

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
MAX_BYTES = 100_000_000
MAX_PIXELS = 64_000_000
"""Before decoding: a small file can unfold into gigabytes."""
MAX_ASPECT = 50
"""Longer side over shorter side; the shorter one may be scaled up."""
_AREA, _ASPECT, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""Of a random resized crop, as in torchvision: share of the area, aspect ratio, attempts."""


class Unreadable(Exception):
    """Why a file gives no picture, in a few words that are the same for all files of the kind."""


def read_bytes(file: Path) -> bytes:
    """The content of a file.

    Raises:
        Unreadable: it is missing, empty, no file, too large, or the system refuses it.
    """
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise Unreadable("no file")
        if size == 0 or size > MAX_BYTES:
            raise Unreadable("empty" if size == 0 else f"more than {MAX_BYTES:,} bytes")
        return file.read_bytes()
    except FileNotFoundError:
        raise Unreadable("missing") from None
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or "a name that is no file's") from None


def decode(data: bytes) -> tuple[Image.Image, str]:
    """An RGB picture, and from what it was converted: "", "CMYK", "16 bits", ...

    Raises:
        Unreadable: no image of a known format, truncated or damaged, too many pixels, too narrow.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the limits below refuse, and of odd metadata
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            short, long = sorted(image.size)
            if short * long > MAX_PIXELS:
                raise Unreadable(f"more than {MAX_PIXELS:,} pixels")
            if long > MAX_ASPECT * short:
                raise Unreadable(f"more than {MAX_ASPECT} times as long as wide")
            image.load()
            return _as_rgb(image)
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("no image") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # the readers of damaged files raise anything
        raise Unreadable("truncated" if "truncated" in str(error) else "damaged") from None


def _as_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    if image.mode.startswith("I"):  # 16 bits a pixel, which PIL would clip at 255
        values = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB"), "16 bits"
    if image.mode == "RGB":
        return image, ""
    return image.convert("RGB"), image.mode


def in_full(image: Image.Image, picture: Picture) -> Image.Image:
    """The centre of the picture, as it is shown for predictions."""
    image = _scaled(image, picture)
    left, top = ((length - picture.side) // 2 for length in image.size)
    return image.crop((left, top, left + picture.side, top + picture.side))


def at_random(image: Image.Image, picture: Picture, seed: int, flip: bool) -> Image.Image:
    """A part of the picture as the recipe crops it, drawn by the seed alone; mirrored where ``flip``."""
    image, rng = _scaled(image, picture), np.random.default_rng(seed)
    side = picture.side
    if picture.crop == "resized":
        image = image.resize((side, side), Image.Resampling.BILINEAR, _part(image.size, rng))
    else:
        left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
        image = image.crop((left, top, left + side, top + side))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image


def _scaled(image: Image.Image, picture: Picture) -> Image.Image:
    """The shorter side brought to ``resize``, or to ``side`` where the picture is smaller than that."""
    short = min(image.size)
    wanted = picture.resize or max(short, picture.side)
    if short == wanted:
        return image
    width, height = (int(wanted * length / short) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _part(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of a random resized crop; the centre if none fits."""
    width, height = size
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*_AREA)
        aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * _ASPECT[1])), min(height, round(width / _ASPECT[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h

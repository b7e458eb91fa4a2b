"""Image files: decoded with limits, and made into pictures of one size.

What is random about a picture is a function of a seed of its own, so it is the same whoever decodes it.
"""

import contextlib
import io
import math
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from cmw_pipeline.config.schema import Picture

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
MAX_BYTES = 100_000_000
MAX_PIXELS = 64_000_000
"""Size of a picture that is still decoded: a small file can unfold into gigabytes."""
MAX_ASPECT = 50
"""Longer side over shorter side; the shorter one may be scaled up."""
_AREA, _ASPECT, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
"""A random resized crop, as in torchvision: share of the area, aspect ratio, attempts."""


_ORIENTATION, _PHOTOMETRIC = 0x0112, 262
"""Numbers of tags."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of the EXIF standard; 1 is upright."""
BACKGROUND = "white"
"""Behind what is transparent."""
_PNG, _PNG_KEPT = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
"""How a PNG begins, and the chunks that a picture is made of; the others are texts, profiles, times."""


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
    """An RGB picture as a person sees it, and from what it was converted: "", "CMYK", "16 bits", ...

    Turned upright as its EXIF says, what is transparent on white. Metadata that cannot be read do no harm.

    Raises:
        Unreadable: no image of a known format, truncated or damaged, too many pixels, too narrow, or numbers
            of no known range.
    """
    try:
        return _decoded(data)
    except Unreadable:
        bare = b"".join(_picture_chunks(data)) if data.startswith(_PNG) else data
        if len(bare) == len(data):
            raise
        with contextlib.suppress(Unreadable):
            return _decoded(bare)
        raise


def _decoded(data: bytes) -> tuple[Image.Image, str]:
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
            turn = _UPRIGHT.get(_orientation(image))
            picture, converted = _as_rgb(image)
            return picture if turn is None else picture.transpose(turn), converted
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("no image") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # the readers of damaged files raise anything
        raise Unreadable("truncated" if "truncated" in str(error) else "damaged") from None


def _picture_chunks(data: bytes) -> Iterator[bytes]:
    """A PNG without the chunks that say nothing about its pixels."""
    yield _PNG
    place = len(_PNG)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind in _PNG_KEPT:
            yield data[place : place + 12 + length]
        place += 12 + length


def _orientation(image: Image.Image) -> int:
    """As the EXIF of a loaded picture has it; 1 where it has none that can be read."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata raise anything
        return 1
    return found if isinstance(found, int) else 1


def _as_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    if image.mode.startswith("I;16"):
        return _of_16_bits(image), "16 bits"
    if image.mode in ("I", "F"):
        return _of_numbers(image, "32-bit integers" if image.mode == "I" else "32-bit floats")
    if image.has_transparency_data:
        return _on_background(image), image.mode if image.mode != "RGB" else "RGB with a transparent colour"
    if image.mode == "RGB":
        return image, ""
    return image.convert("RGB"), image.mode


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 0 to 65,535; PIL would clip it at 255."""
    values = np.asarray(image).astype(np.int64)
    grey = (values >> 8).astype(np.uint8)
    if isinstance(key := image.info.get("transparency"), int):
        grey[values == key] = 255
    return _of_grey(grey, image)


def _of_numbers(image: Image.Image, what: str) -> tuple[Image.Image, str]:
    """Grey of a file that does not say what white is: the first usual range that holds all of its numbers."""
    values = np.asarray(image).astype(np.float64)
    ranges = (1, 255) if image.mode == "F" else (255, 65_535, 2**31 - 1)
    low, high = float(values.min()), float(values.max())
    white = next((white for white in ranges if low >= 0 and high <= white), None)
    if white is None:
        raise Unreadable(f"{what} of no known range")
    grey = np.round(values * (255 / white)).astype(np.uint8)
    return _of_grey(grey, image), f"{what}, taken to be of 0 to {white:,}"


def _of_grey(grey: npt.NDArray[np.uint8], image: Image.Image) -> Image.Image:
    """RGB of the grey of an image, which a TIFF may count from white down; PIL minds that in 8 bits only."""
    from_white = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    return Image.fromarray(255 - grey if from_white else grey).convert("RGB")


def _on_background(image: Image.Image) -> Image.Image:
    if image.mode in ("La", "RGBa"):  # colours already multiplied by how opaque they are
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    sheet = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(sheet, image.convert("RGBA")).convert("RGB")


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

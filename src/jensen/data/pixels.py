"""One image file: opened without trust in it, turned upright, and made 8-bit pixels of one size."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Resampling, Transpose

__all__ = ["ENDINGS", "SIDE", "Facts", "ImageSize", "decode", "look", "reason_of"]

Array = NDArray[Any]
ImageSize = int | tuple[int, ...] | None

SIDE = 64
"""The side of images in pixels, where most of them are at least that large and none is asked for."""

# fmt: off
ENDINGS = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".pbm", ".pfm",
    ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tif", ".tiff", ".webp",
)
# fmt: on
# What Pillow unpacks itself, whatever the ending says: an EPS file, for one, would be handed to Ghostscript to run.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
_ORIENTATION = 0x0112
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_MAX_REASON = 120
_GAP = 3.0  # how many times larger than needed an image is left by quick ways of making it smaller


class _UnreadableError(Exception):
    """What keeps a file from being read, in words."""


@dataclass(frozen=True)
class Facts:
    """What an image file was before it became pixels.

    Arguments:
        size: Width and height as stored.
        mode: Pillow's name for the kind of its pixels.
        turned: Whether its orientation tag asked for a turn or a mirror image.
        enlarged: Whether it was smaller than what it became.
        transparent: Whether something of it was transparent.
        several: Whether it has more than one frame or page.
        colour: Whether a pixel that came of it has a colour.
        peak: The largest of its values where these have 16 bits; 0 otherwise.
    """

    size: tuple[int, int]
    mode: str
    turned: bool = False
    enlarged: bool = False
    transparent: bool = False
    several: bool = False
    colour: bool = False
    peak: int = 0


def look(path: Path) -> Facts:
    """The size and mode of an image, from the head of its file."""
    with _opened(path) as image:
        return Facts(image.size, image.mode)


def decode(path: Path, height: int, width: int, *, grey: bool) -> tuple[Array, Facts]:
    """The pixels of an image: upright, over white, 8 bits, its centre at the wanted size.

    Arguments:
        path: The file.
        height: The number of rows of pixels.
        width: The number of columns.
        grey: Whether a pixel is one value, shape (H, W), rather than three, shape (H, W, 3).
    """
    with _opened(path) as image:
        size, mode = image.size, image.mode
        several = bool(getattr(image, "is_animated", False))
        # JPEG files are unpacked at a half, a quarter or an eighth where three times the size that is needed is left.
        draft = image.draft(None, (round(_GAP * max(height, width)),) * 2)
        # Pillow turns TIFF files upright as it loads them, and then takes the tag away.
        before = _orientation(image) if image.format == "TIFF" else 1
        image.load()
        turn = _orientation(image)
        box = (image.width, image.height) if draft is None else draft[1][2:]
        plain, transparent, peak = _eight_bits(image)
        target = (height, width) if turn >= 5 else (width, height)
        small = _cover(_as(plain, "L" if grey else "RGB"), box, *target)
    pixels = np.asarray(small.transpose(_TURNS[turn]) if turn in _TURNS else small)
    enlarged = size[0] < target[0] or size[1] < target[1]
    colour = pixels.ndim == 3 and bool((pixels != pixels[..., :1]).any())
    return pixels, Facts(size, mode, before != 1 or turn != 1, enlarged, transparent, several, colour, peak)


def _as(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
        raise _UnreadableError("not a regular file")
    if status.st_size == 0:
        raise _UnreadableError("zero bytes")
    with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
        yield image


def _orientation(image: Image.Image) -> int:
    """The orientation tag; 1, which is upright, where there is none or the tags are damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in _TURNS else 1
    except Exception:  # what a stranger's bytes raise is not known beforehand; the pixels may still be whole
        return 1


def _eight_bits(image: Image.Image) -> tuple[Image.Image, bool, int]:
    """An image in mode L or RGB, whether it was transparent, and the peak of 16-bit values."""
    if image.mode.startswith("I"):
        return _from_integers(np.asarray(image).astype(np.int64))
    if image.mode == "F":
        return _from_floats(np.asarray(image)), False, 0
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        transparent = layer.getchannel("A").getextrema()[0] < 255  # type: ignore[operator]
        return Image.alpha_composite(white, layer).convert("RGB"), transparent, 0
    return _as(image, "L" if image.mode in ("1", "L") else "RGB"), False, 0


def _from_integers(values: Array) -> tuple[Image.Image, bool, int]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise _UnreadableError(f"its whole numbers run from {low:,} to {high:,}; expected 0, black, to 65,535, white")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)), False, high


def _from_floats(values: Array) -> Image.Image:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # true of what is not a number, too
        raise _UnreadableError(f"its real numbers run from {low:g} to {high:g}; expected 0 to 1, or 0 to 255")
    return Image.fromarray(np.rint(values * 255 if high <= 1 else values).astype(np.uint8))


def _cover(image: Image.Image, box: tuple[float, float], width: int, height: int) -> Image.Image:
    """The centre of the right proportions, as large as it can be, resized without aliasing."""
    w, h = box
    scale = min(w / width, h / height)
    if scale == 1:  # whole pixels, left as they are
        left, top = int(w - width) // 2, int(h - height) // 2
        return image.crop((left, top, left + width, top + height))
    left_edge, top_edge = max(0.0, (w - scale * width) / 2), max(0.0, (h - scale * height) / 2)
    edges = (left_edge, top_edge, min(w, left_edge + scale * width), min(h, top_edge + scale * height))
    # First by whole factors, then in full: quick, and no different to the eye.
    return image.resize((width, height), Resampling.LANCZOS, edges, reducing_gap=_GAP)


def reason_of(error: Exception) -> str:
    """Why a file could not be read, in a few words."""
    match error:
        case _UnreadableError():
            return str(error)
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            limit = f"{Image.MAX_IMAGE_PIXELS:,}" if Image.MAX_IMAGE_PIXELS else "so many"
            return f"claims more than {limit} pixels, too many to unpack safely"
        case UnidentifiedImageError():
            return "its content is of no known kind of image"
        case PermissionError():
            return "may not be read by this user"
        case FileNotFoundError():
            return "there is no such file; a link that leads nowhere?"
        case MemoryError():
            return "too large for the memory that is left"
        case _:
            text = " ".join(str(error).split()) or type(error).__name__
            return f"damaged: {text[:_MAX_REASON]}"

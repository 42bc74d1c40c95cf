"""One picture file as a small square of 8-bit RGB pixels.

A picture is turned upright as its EXIF orientation says, converted to RGB of 8 bits, and resized by exact area
averaging: the sums are of integers, so that every machine gets the same bits. Colour profiles are ignored, and
transparency is composited on white.

Book: chapter "Data".
"""

from __future__ import annotations

import functools
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from isonb import disk
from isonb.training.sources import DataError
from isonb.training.sources.tree import printable

VERSION = 1  # of the decoder; raise it when any picture comes out differently, so that caches are made anew
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
LARGEST = 50_000_000  # pixels; photographs have fewer, and a tiny file can claim to be larger than memory
BYTES = 8  # per pixel at most, 16 bits in each of 4 channels: longer files are refused without reading them
ORIENTATION = 274  # the EXIF tag that says how a camera was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Square:
    """A decoded file: its pixels after resizing, the SHA-256 of its bytes, and a hash of its pixels before resizing.

    `content` is the latter, of the whole upright picture; `is_enlarged` says that the picture was smaller than asked.
    """

    pixels_HWC: np.ndarray
    sha256: bytes
    content: int
    is_enlarged: bool


def read(path: Path, size: int, corner: tuple[float, float] | None = None) -> Square:
    """A picture's central square resized to `size` by `size`, or a crop of that size whose corner is given.

    `corner` is the position of the crop from the top and from the left, as shares, in [0, 1), of what is possible.
    A picture smaller than `size` gives its central square, enlarged, in either case.
    Raises `DataError` naming a file that cannot be read.
    """
    data = content(path)
    picture_HWC = np.asarray(_decode(data, path))
    height, width = picture_HWC.shape[:2]
    side, is_enlarged = min(width, height), min(width, height) < size
    top, left = (height - side) // 2, (width - side) // 2
    if corner and not is_enlarged:
        side, top, left = size, int(corner[0] * (height - size + 1)), int(corner[1] * (width - size + 1))
    whole = hashlib.blake2b(picture_HWC, digest_size=8, salt=height.to_bytes(4) + width.to_bytes(4))
    return Square(
        pixels_HWC=shrink(picture_HWC[top : top + side, left : left + side], size),
        sha256=hashlib.sha256(data).digest(),
        content=int.from_bytes(whole.digest()),
        is_enlarged=is_enlarged,
    )


def shrink(square_HWC: np.ndarray, size: int) -> np.ndarray:
    """A square resized: each pixel is the mean over the area that it covers, rounded half to even."""
    side = len(square_HWC)
    if side == size:
        return square_HWC
    weights = _overlaps(side, size)
    rows_HWC = np.empty((size, side, 3))
    for i in range(size):
        first, end = i * side // size, -(-(i + 1) * side // size)
        rows_HWC[i] = np.tensordot(weights[i, first:end], square_HWC[first:end], axes=1)
    sums_HWC = weights @ rows_HWC  # of integers below 2^53: exact in any order of summation
    return np.rint(sums_HWC / side**2).astype(np.uint8)


def shrink_all(squares_BHWC: np.ndarray, size: int) -> np.ndarray:
    """What `shrink` gives for each of several squares, all at once; B x size x size x 3."""
    side = squares_BHWC.shape[1]
    if side == size:
        return squares_BHWC
    weights = _overlaps(side, size)
    rows_BHX = weights @ squares_BHWC.reshape(len(squares_BHWC), side, -1)  # products and sums of integers: exact
    columns_BWX = weights @ rows_BHX.reshape(-1, size, side, 3).swapaxes(1, 2).reshape(-1, side, size * 3)
    sums_BHWC = columns_BWX.reshape(-1, size, size, 3).swapaxes(1, 2)
    return np.rint(sums_BHWC / side**2).astype(np.uint8)


@functools.lru_cache(maxsize=256)
def _overlaps(side: int, size: int) -> np.ndarray:
    """How much of each of `side` pixels each of `size` pixels covers, in units of 1/size of one; size x side."""
    first_i, first_j = np.arange(size)[:, None] * side, np.arange(side) * size
    return np.clip(np.minimum(first_i + side, first_j + size) - np.maximum(first_i, first_j), 0, None).astype(float)


def content(path: Path) -> bytes:
    """The bytes of a picture file. Raises `DataError` naming a file that is unreadable, empty or too long."""
    try:
        data = disk.read_bytes(path, BYTES * LARGEST)
    except disk.Unreadable as error:
        raise DataError(f"{printable(path)} cannot be read ({error}): replace it or remove it.") from None
    if not data:
        raise DataError(f"{printable(path)} is empty: replace it or remove it.")
    return data


def _decode(data: bytes, path: Path) -> Image.Image:
    """An upright RGB picture."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)  # reads no pixels yet
        if picture.width * picture.height <= LARGEST:
            if picture.format == "PNG":  # whose checksums load() ignores
                picture.verify()
                picture = Image.open(io.BytesIO(data), formats=FORMATS)
            picture.load()
            return _as_rgb(_upright(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass  # Pillow itself refuses the largest ones
    except Image.UnidentifiedImageError:
        raise DataError(f"{printable(path)} is not a picture: rename it, replace it or remove it.") from None
    except Exception as error:  # damaged files make decoders raise almost anything
        raise DataError(f"{printable(path)} is damaged ({error}): replace it or remove it.") from None
    raise DataError(
        f"{printable(path)} has more than {LARGEST / 1e6:.0f} million pixels: shrink it or remove it."
    ) from None


def _upright(picture: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(picture.getexif().get(ORIENTATION))
    except Exception:  # damaged metadata of an intact picture
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        value_HW = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((value_HW + 128) // 257).astype(np.uint8)).convert("RGB")  # 65535 / 255 is 257
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    on_white = Image.new("RGB", picture.size, "white")
    on_white.paste(picture, mask=picture)
    return on_white

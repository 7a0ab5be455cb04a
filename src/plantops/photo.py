"""Photo bytes to the pixels a model sees and to its input, as a :class:`Preprocessing` says.

Training, evaluation and serving all call these functions, so they cannot differ.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from plantops.preprocess import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 100_000_000
LARGEST_FILE = 1 << 30  # bytes; more than a picture of MAX_PIXELS takes: a film, an archive
_MAX_SIDE = 65_535  # what a JPEG can have; a row is the least that is worked on at once
_BAND = 1 << 18  # pixels brought to RGB at once
DRAWN = b"plantops: a drawn sample leaf, not a photo"

# What decoding and `pixels` hold at once, measured on pictures made to take the most; 10 for the other formats.
_BYTES_PER_PIXEL = {"WEBP": 20, "TIFF": 16}
MOST_BYTES_PER_PIXEL = max(_BYTES_PER_PIXEL.values())
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Markers of a JPEG (ITU-T T.81, table B.1): baseline and sequential frames; a scan; tables, application data, remarks.
_FRAMES, _SCAN, _BESIDE = (0xC0, 0xC1), 0xDA, frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})

PngImagePlugin.MAX_TEXT_MEMORY = 4 * PngImagePlugin.MAX_TEXT_CHUNK  # compressed remarks beside the picture, unpacked


class NotAPhoto(ValueError):
    """These bytes cannot be used as a photo; the text says why, in words for a person."""


def open_photo(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Open ``data`` without decoding the pixels. Raises NotAPhoto when it is no picture or too large."""
    with _only_not_a_photo(), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise NotAPhoto("not an image (JPEG, PNG, WebP, BMP, TIFF or GIF)" if data else "empty file") from None
        except Image.DecompressionBombError:
            raise NotAPhoto(f"more than {max_pixels:,} pixels") from None
    if image.width * image.height > max_pixels:
        raise NotAPhoto(f"{image.width} x {image.height} is more than {max_pixels:,} pixels")
    if max(image.size) > _MAX_SIDE:
        raise NotAPhoto(f"{image.width} x {image.height} is more than {_MAX_SIDE:,} pixels long")
    return image


def is_drawn(image: Image.Image) -> bool:
    """Whether `plantops sample` drew this picture (it says so in its JPEG comment)."""
    return image.info.get("comment") == DRAWN


def pixels(image: Image.Image, spec: Preprocessing) -> NDArray[np.uint8]:
    """Decode, turn, and resize an opened photo: uint8, shape (size, size, 3), RGB. The photo is used up by it.

    Raises NotAPhoto when the pixels cannot be decoded.
    """
    with _only_not_a_photo():
        _skip_detail(image, spec)
        return np.asarray(_fit(_coloured(image, spec.turn), spec))


def whole(image: Image.Image) -> NDArray[np.uint8]:
    """Decode and turn an opened photo at its own size: uint8, shape (height, width, 3), RGB. Raises NotAPhoto."""
    with _only_not_a_photo():
        return np.asarray(_coloured(image, True))


def is_turned(image: Image.Image) -> bool:
    """Whether the EXIF orientation of an opened photo says that its pixels do not lie upright."""
    return _turn(image) is not None


def footprint(image: ImageFile.ImageFile, spec: Preprocessing) -> int:
    """Bytes that ``pixels`` holds at its peak for an opened photo, at most, beside the file. Raises NotAPhoto."""
    whole = 0
    with _only_not_a_photo():
        if image.format in ("JPEG", "MPO") and not _in_one_scan(cast(io.BytesIO, image.fp).getbuffer()):
            whole = 2 * len(image.getbands()) * image.width * image.height  # two bytes a value
        _skip_detail(image, spec)
    return whole + _BYTES_PER_PIXEL.get(image.format or "", 10) * image.width * image.height


def decode(data: bytes, spec: Preprocessing, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Photo bytes to uint8 pixels, shape (size, size, 3). Raises NotAPhoto."""
    return pixels(open_photo(data, max_pixels), spec)


def table(spec: Preprocessing) -> NDArray[np.float32]:
    """Lookup table from pixel value to model input, float32, shape (3, 256): half the time of arithmetic."""
    values = np.arange(256, dtype=np.float64) / 255
    return np.stack([(values - m) / s for m, s in zip(spec.mean, spec.std, strict=True)]).astype(np.float32)


def normalise(batch: NDArray[np.uint8], lookup: NDArray[np.float32]) -> NDArray[np.float32]:
    """uint8 (n, size, size, 3) to the model's input, float32 (n, 3, size, size), by ``table``'s values."""
    out = np.empty((len(batch), 3, *batch.shape[1:3]), np.float32)
    for channel in range(3):
        np.take(lookup[channel], batch[..., channel], out=out[:, channel])
    return out


def _in_one_scan(jpeg: memoryview) -> bool:
    """Whether the first scan of a JPEG is all of it: of any other the decoder holds the whole, not some rows.

    What libjpeg decides by in `jdinput.c`, `initial_setup`: progressive, or not all components in the first scan. Only
    segments that every reader skips alike may come before: of anything else it is not sure which scan comes first.
    """
    at, components = 2, 0
    while at + 10 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == _SCAN:
            return 0 < components == jpeg[at + 4]
        if marker in _FRAMES:
            components = jpeg[at + 9]
        elif marker not in _BESIDE:
            return False
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return False


@contextmanager
def _only_not_a_photo() -> Iterator[None]:
    """Pillow's decoders raise nearly every kind of error on bytes made to hurt, struct.error and TypeError included."""
    try:
        yield
    except (NotAPhoto, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001
        raise NotAPhoto(f"damaged image: {error}") from None


def _coloured(image: Image.Image, upright: bool) -> Image.Image:
    """An opened photo decoded, in RGB, and turned where ``upright`` is wanted."""
    image.load()
    turn = _turn(image) if upright else None
    if image.mode != "RGB" or "transparency" in image.info:
        coloured = _in_bands(image)
        image.close()
        image = coloured
    return image if turn is None else image.transpose(turn)


def _skip_detail(image: Image.Image, spec: Preprocessing) -> None:
    """Have the JPEG decoder skip what the resize would throw away; never below twice the size."""
    image.draft("RGB", (2 * spec.size, 2 * spec.size))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings a decoded picture upright, by its EXIF orientation; None where it is so or cannot be read.

    Not ``ImageOps.exif_transpose``: that writes the other tags anew, and fails where one has the wrong type.
    """
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  as above: the tags are the client's bytes
        return None


def _in_bands(image: Image.Image) -> Image.Image:
    """The picture as ``_rgb`` makes it, some rows at a time: what is made on the way would be five such pictures."""
    whole = Image.new("RGB", image.size)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(_rgb(band), (0, top))
    return whole


def _rgb(image: Image.Image) -> Image.Image:
    """RGB on white where the picture is transparent; 16-bit grey scaled down rather than clipped."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, spec: Preprocessing) -> Image.Image:
    resample = Image.Resampling[spec.filter.upper()]
    target = (spec.size, spec.size)
    if spec.fit == "squash":
        return image.resize(target, resample)
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize(target, resample, box=(left, top, left + side, top + side))

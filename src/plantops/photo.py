"""Photo bytes to the pixels a model sees and to its input, as a :class:`Preprocessing` says.

Training, evaluation and serving all call these functions, so they cannot differ.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from plantops.preprocess import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 100_000_000
DRAWN = b"plantops: a drawn sample leaf, not a photo"


class NotAPhoto(ValueError):
    """These bytes cannot be used as a photo; the text says why, in words for a person."""


def open_photo(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open ``data`` without decoding the pixels. Raises NotAPhoto when it is no picture or too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise NotAPhoto("empty file" if not data else "not an image (JPEG, PNG, WebP, BMP, TIFF or GIF)") from None
    except Image.DecompressionBombError:
        raise NotAPhoto(f"more than {max_pixels:,} pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise NotAPhoto(f"damaged image: {error}") from None
    if image.width * image.height > max_pixels:
        raise NotAPhoto(f"{image.width} x {image.height} is more than {max_pixels:,} pixels")
    return image


def is_drawn(image: Image.Image) -> bool:
    """Whether `plantops sample` drew this picture (it says so in its JPEG comment)."""
    return image.info.get("comment") == DRAWN


def pixels(image: Image.Image, spec: Preprocessing) -> NDArray[np.uint8]:
    """Decode, turn, and resize an opened photo: uint8, shape (size, size, 3), RGB.

    Raises NotAPhoto when the pixels cannot be decoded.
    """
    try:
        # Lets the JPEG decoder skip detail that the resize would throw away; never below twice the size.
        image.draft("RGB", (2 * spec.size, 2 * spec.size))
        if spec.turn:
            image = ImageOps.exif_transpose(image)
        return np.asarray(_fit(_rgb(image), spec))
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise NotAPhoto(f"damaged image: {error}") from None


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

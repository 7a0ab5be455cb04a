"""Test photos as they might also have come: compressed, blurred, darker, lighter, turned, without their background."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from plantops.ml import shortcut
from plantops.photo import decode
from plantops.preprocess import Preprocessing

Pixels = NDArray[np.uint8]
TITLES = {
    "jpeg_40": "JPEG quality 40", "blurred": "blurred by one pixel in 128", "darker": "40 % darker",
    "lighter": "40 % lighter", "turned_90": "turned by 90°", "turned_20": "turned by 20°",
    "exif": "lying, with an EXIF note to turn it", "on_grey": "the leaf alone, on plain grey",
}  # fmt: skip
_ORIENTATION = 0x0112
_TURNED_LEFT = 6  # to be turned right by who reads it
_GREY = np.uint8(128)


def changes(spec: Preprocessing) -> dict[str, Callable[[Pixels], Pixels]]:
    """What is done to the pixels (n, size, size, 3) of ``spec``, by name; each gives pixels of the same shape."""
    blur = spec.size / 128  # a pixel where photos are 128 pixels wide
    one_by_one: dict[str, Callable[[Image.Image], Image.Image]] = {
        "jpeg_40": _compressed,
        "blurred": lambda photo: photo.filter(ImageFilter.GaussianBlur(blur)),
        "darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.6),
        "lighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.4),
        "turned_90": lambda photo: photo.transpose(Image.Transpose.ROTATE_90),
        "turned_20": lambda photo: photo.rotate(20, Image.Resampling.BILINEAR, fillcolor=_corner(photo)),
        "exif": lambda photo: _by_exif(photo, spec),
        "on_grey": _on_grey,
    }
    return {name: _each(change) for name, change in one_by_one.items()}


def _each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Pixels], Pixels]:
    return lambda photos: np.stack([np.asarray(change(Image.fromarray(photo))) for photo in photos])


def _compressed(photo: Image.Image) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


def _corner(photo: Image.Image) -> tuple[int, ...]:
    red, green, blue = np.asarray(photo)[[0, 0, -1, -1], [0, -1, 0, -1]].mean(0).astype(int).tolist()
    return red, green, blue


def _by_exif(photo: Image.Image, spec: Preprocessing) -> Image.Image:
    """Stored lying on its side with a note to turn it, as phones do, and read as the API reads it.

    At the full quality and in all colours: a phone loses them before its photo is made as small as this.
    """
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED_LEFT
    file = io.BytesIO()
    photo.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=100, subsampling=0, exif=exif)
    return Image.fromarray(decode(file.getvalue(), spec))


def _on_grey(photo: Image.Image) -> Image.Image:
    """Without its background, where the leaf can be told from it by its colour; else as it is."""
    shown = np.asarray(photo)
    mask = shortcut.leaf(shown)
    return photo if mask is None else Image.fromarray(np.where(mask[..., None], shown, _GREY))

"""What one photo is: format, size, oddities, and a hash of what it shows. One read, decoded as small as will do."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from PIL import Image

from plantops import near
from plantops.photo import NotAPhoto, is_drawn, is_turned, open_photo, pixels, whole
from plantops.preprocess import Preprocessing

VERSION = 1  # of what is written here: another one has every photo looked at again
EMPTY, FOREIGN, HUGE, DAMAGED = "empty", "foreign", "huge", "damaged"

_SMALL = Preprocessing(near.SIDE, "squash", "bilinear", True, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Facts(NamedTuple):
    """What a look at a photo gave; ``problem`` (one of the kinds above) and why, in words, where it cannot be used.

    ``width``, ``height``: pixels as stored. ``odd``: what its colours are where they are not plain RGB. ``spread``:
    standard deviation of the brightness, 0 to 128. ``hash``: near.HASH_BITS as hex. ``pixels``: a digest of all upright
    pixels; empty until somebody asked for it.
    """

    problem: str = ""
    why: str = ""
    format: str = ""
    width: int = 0
    height: int = 0
    frames: int = 1
    odd: str = ""
    turned: bool = False
    drawn: bool = False
    spread: float = 0.0
    hash: str = ""
    pixels: str = ""

    def to_text(self) -> str:
        """One line for the store."""
        return json.dumps(self)

    @classmethod
    def from_text(cls, text: str) -> Facts:
        """Read what :meth:`to_text` wrote."""
        return cls(*json.loads(text))


def read(data: bytes) -> Facts:
    """Look at the bytes of a photo. Never raises: what cannot be used says so."""
    try:
        image = open_photo(data)
    except NotAPhoto as error:
        return Facts(_kind(data, str(error)), str(error))
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a JPEG with a preview behind it
    try:
        known = (image.format or "", *image.size, frames, _odd(image), is_turned(image), is_drawn(image))
        small = pixels(image, _SMALL)
    except NotAPhoto as error:
        return Facts(DAMAGED, str(error), image.format or "", *image.size)
    grey = near.grey(small)
    return Facts("", "", *known, round(float(grey.std()), 2), near.perceptual(grey))


def pixel_digest(data: bytes) -> str:
    """A digest of all pixels, upright, in RGB: what shows exactly the same has the same. Empty if undecodable."""
    try:
        full = whole(open_photo(data))
    except NotAPhoto:
        return ""
    return hashlib.blake2b(full.tobytes(), digest_size=16, salt=b"%dx%d" % full.shape[:2]).hexdigest()


def _kind(data: bytes, why: str) -> str:
    if not data:
        return EMPTY
    if "pixels" in why:
        return HUGE
    return FOREIGN if why.startswith("not an image") else DAMAGED


def _odd(image: Image.Image) -> str:
    """What the colours are stored as, where it is not 8-bit RGB (or a palette of it)."""
    stored = str(getattr(image, "tile", ""))  # Pillow opens 16-bit RGB as RGB; the raw mode tells
    if image.mode.startswith(("I", "F")) or ";16" in stored:
        return "16 bits"
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return "transparency"
    return {"L": "grey", "1": "black and white", "RGB": "", "P": ""}.get(image.mode, image.mode)

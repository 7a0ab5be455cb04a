"""Photos that were answered wrongly and rightly, with what the model looked at: few, small, inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plantops.ml.examine import Asked
from plantops.ml.shortcut import spread

WRONG, RIGHT, CONFUSED = 18, 12, 4
_SIDE, _THUMB = 128, 64  # pixels
_QUALITY = 80

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One photo as data URLs (``looked`` is empty where the network cannot say), what it shows and what was said."""

    photo: str
    looked: str
    path: str
    actual: str
    predicted: str
    confidence: float


def wrong(asked: Asked, classes: Sequence[str]) -> list[Picture]:
    """At most 18 mistakes, the surest first, but of each pair of classes one before the second of any."""
    sure = sorted(np.flatnonzero(~asked.right).tolist(), key=lambda one: -asked.confidence[one])
    return [_picture(asked, one, classes) for one in _varied(asked, sure)[:WRONG]]


def right(asked: Asked, classes: Sequence[str]) -> list[Picture]:
    """At most 12 right answers, from as many classes as possible: of each the one of middling confidence."""
    good = np.flatnonzero(asked.right)
    middling = {number: float(np.median(asked.confidence[good[asked.actual[good] == number]]))
                for number in set(asked.actual[good].tolist())}  # fmt: skip
    near = sorted(good.tolist(), key=lambda one: abs(asked.confidence[one] - middling[int(asked.actual[one])]))
    return [_picture(asked, one, classes) for one in _varied(asked, near)[:RIGHT]]


def confused(asked: Asked, classes: Sequence[str], pair: Mapping[str, Any]) -> list[Picture]:
    """At most 4 small photos of ``pair["actual"]`` that were taken for ``pair["predicted"]``, the surest first."""
    actual, predicted = list(classes).index(pair["actual"]), list(classes).index(pair["predicted"])
    found = np.flatnonzero((asked.actual == actual) & (asked.predicted == predicted)).tolist()
    surest = sorted(found, key=lambda one: -asked.confidence[one])[:CONFUSED]
    return [_picture(asked, one, classes, _THUMB) for one in surest]


def _varied(asked: Asked, ranked: Sequence[int]) -> list[int]:
    """``ranked`` photos, those first that are the first of their pair of actual and answered class, and so on."""
    seen: dict[tuple[int, int], int] = {}
    turns = []
    for place, one in enumerate(ranked):
        pair = int(asked.actual[one]), int(asked.predicted[one])
        seen[pair] = seen.get(pair, 0) + 1
        turns.append((seen[pair], place, one))
    return [one for *_, one in sorted(turns)]


def _picture(asked: Asked, one: int, classes: Sequence[str], side: int = _SIDE) -> Picture:
    photo = asked.pixels[one]
    maps = asked.seen.activation if side == _SIDE else None
    looked = "" if maps is None else _url(_overlay(photo, maps[one]), side)
    return Picture(
        _url(photo, side), looked, asked.photos[one].path, classes[asked.actual[one]], classes[asked.predicted[one]],
        float(asked.confidence[one]),
    )  # fmt: skip


def _overlay(photo: Pixels, activation: NDArray[np.floating]) -> Pixels:
    """The photo in grey, with what speaks for the answer in colour over it."""
    where = spread(activation, photo.shape[0])[..., None]
    grey = photo.mean(2, keepdims=True) * 0.7
    colour = matplotlib.colormaps["inferno"](where[..., 0])[..., :3] * 255
    mixed = grey * (1 - 0.65 * where) + colour * 0.65 * where
    return np.broadcast_to(mixed, photo.shape).clip(0, 255).astype(np.uint8)


def _url(photo: Pixels, side: int) -> str:
    image = Image.fromarray(photo)
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

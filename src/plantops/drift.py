"""Drift: do the photos of a window look, and are they answered, as photos do that the model had not learned from?

Each photo becomes numbers: how its picture is (:data:`PICTURE`), what the model says of it (:data:`SAID`), and some
components of its embedding. From each the mean of held-out photos *with the same answer* is taken away, so that
another mix of classes alone moves nothing but the mix. A window's statistic for an aspect is how far the mean of what
is left lies from zero; for the embedding its length; for the classes half the sum of differences in share; and for each
class its own difference, in units of how much that differs anyway, of which the largest is the statistic.

Arrays in ``reference.npz``, each name with ``drift_`` before it; bundles without them say nothing of drift:

``axes``    float32 (d, p): embedding to components
``means``   float32 (classes, 7 + p): what a held-out photo with that answer has on average
``mix``     float32 (classes,): shares of answers on held-out photos
``sizes``   int64 (s,): photos in a window
``spread``  float32 (s, classes): the difference in share of each answer that a window seldom exceeds by itself
``limits``  float32 (s, 10): the statistic of each aspect that windows of held-out photos exceed, all aspects together,
            at the ``rate``
``rate``    float: share of undrifted windows over a limit in any aspect
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

PREFIX = "drift_"
PICTURE = ("brightness", "contrast", "sharpness", "colour", "warmth")
SAID = ("confidence", "distance")
SINGLE = (*PICTURE, *SAID)
EMBEDDING, CLASSES, CLASS = "embedding", "classes", "class"
ASPECTS = (*SINGLE, EMBEDDING, CLASSES, CLASS)
_WORDS = {  # more, less
    "brightness": ("brighter", "darker"),
    "contrast": ("richer in contrast", "flatter"),
    "sharpness": ("sharper", "more blurred"),
    "colour": ("more colourful", "paler"),
    "warmth": ("redder", "bluer"),
    "confidence": ("answered more surely", "answered less surely"),
    "distance": ("less like anything it learned from", "more alike"),
}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Usual:
    """The arrays, as the module says."""

    axes: NDArray[np.float32]
    means: NDArray[np.float32]
    mix: NDArray[np.float32]
    sizes: NDArray[np.int64]
    spread: NDArray[np.float32]
    limits: NDArray[np.float32]
    rate: float

    @classmethod
    def read(cls, arrays: Mapping[str, Any]) -> Self | None:
        """From ``reference.npz``; None where it holds none. Raises KeyError when it holds some only.

        Bundles of before ``spread`` was there have no limit for one class: it is never over.
        """
        names = [one.name for one in fields(cls)]
        if not any(PREFIX + name in arrays for name in names):
            return None
        found = {name: arrays[PREFIX + name] for name in names if name != "spread"}
        if PREFIX + "spread" in arrays:
            found["spread"] = arrays[PREFIX + "spread"]
        else:
            found["limits"] = np.pad(found["limits"], ((0, 0), (0, 1)), constant_values=np.inf)
            found["spread"] = np.ones((len(found["sizes"]), len(found["mix"])), np.float32)
        return cls(**{**found, "rate": float(found["rate"])})

    def arrays(self) -> dict[str, Any]:
        """What :meth:`read` reads."""
        return {PREFIX + one.name: getattr(self, one.name) for one in fields(self)}

    def photo(self, pixels: NDArray[np.uint8], embedding: NDArray[np.float32], confidence: float, far: float) -> Floats:
        """One photo as numbers, (7 + p,): its pixels (size, size, 3), and the squared distance of its embedding."""
        return np.concatenate([picture(pixels), (confidence, np.log(far + 1e-9)), embedding @ self.axes])

    def odd(self, photo: Floats, answer: int) -> Floats:
        """How a photo differs from held-out ones with the same answer, the class of that number: (7 + p,)."""
        away: Floats = photo - self.means[answer]
        return away

    def over(self, size: int, odd: Floats, counts: Floats) -> Floats:
        """The statistic of each aspect as a share of its limit, (10,): above 1 is drift.

        ``odd``: the mean over a window of ``size`` photos; ``counts`` of answers in it (classes,).
        """
        at = self._at(size)
        found = statistics(odd[None], counts[None] / counts.sum() - self.mix, self.spread[at])[0]
        shares: Floats = found / self.limits[at]
        return shares

    def over_by_class(self, size: int, counts: Floats) -> Floats:
        """The same of each answer's share alone, (classes,)."""
        at = self._at(size)
        apart: Floats = np.abs(counts / counts.sum() - self.mix) / (self.spread[at] * self.limits[at][-1])
        return apart

    def _at(self, size: int) -> int:
        return int(np.flatnonzero(self.sizes == size)[0])


def picture(pixels: NDArray[np.uint8]) -> Floats:
    """:data:`PICTURE` of pixels (size, size, 3). Sharpness is the step between neighbours, against the contrast."""
    planes = [np.ascontiguousarray(pixels[::2, ::2, channel]) for channel in range(3)]  # a third of the time
    red, green, blue = (plane.mean() for plane in planes)
    lines = pixels[::4, :, 1].astype(np.float32)
    contrast, step = lines.std(), np.abs(lines[:, 1:] - lines[:, :-1]).mean()
    colour = (np.maximum.reduce(planes) - np.minimum.reduce(planes)).mean()
    sharpness = np.log((step + 0.5) / (contrast + 0.5))
    return np.array([(red + green + blue) / 3, contrast, sharpness, colour, red - blue], np.float64)


def statistics(odd: Floats, shares: Floats, spread: NDArray[Any]) -> Floats:
    """Of windows: mean of what is odd (n, 7 + p), differences in share (n, classes), to (n, 10).

    ``spread`` (classes,): as the module says.
    """
    single, embedding = np.abs(odd[:, : len(SINGLE)]), np.sqrt((odd[:, len(SINGLE) :] ** 2).sum(1, keepdims=True))
    apart = np.abs(shares)
    mix, most = apart.sum(1, keepdims=True) / 2, (apart / spread).max(1, keepdims=True)
    return np.concatenate([single, embedding, mix, most], 1)


def said(aspect: str, odd: Floats, shares: Floats, classes: tuple[str, ...]) -> str:
    """What drifted, in words: "brighter than what it learned from"."""
    if aspect == CLASSES:
        most, least = int(shares.argmax()), int(shares.argmin())
        moved = f"{shares[most]:+.0%} {classes[most]}, {shares[least]:+.0%} {classes[least]}"
        return f"another mix of classes ({moved})"
    if aspect == CLASS:
        most = int(np.abs(shares).argmax())
        often = "more often" if shares[most] > 0 else "less often"
        return f"{often} answered {classes[most]} ({shares[most]:+.0%})"
    if aspect == EMBEDDING:
        return "unlike what it learned from in what the model sees"
    return f"{_WORDS[aspect][0 if odd[SINGLE.index(aspect)] > 0 else 1]} than what it learned from"

"""What passes between the process that answers HTTP and those that look at photos: lines of JSON.

``{"photos": [bytes], "tops": [n], "explain": false}`` goes in. A few small photos follow it; a larger one comes alone,
and lies in memory that the two share. Back comes ``{"looked": [...]}``: for each photo ``Looked``, or ``{"error":
why}`` for what is none. Before that may come ``{"room": bytes}``, for decoding the next of them; an empty line says
that there is room. Python writes and reads floats in JSON without loss, so no probability moves by a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plantops.bundle import Bundle, Manifest
from plantops.drift import Usual
from plantops.serve.identity import Identity

MOST = 4  # photos in one question
SMALL = 65_536  # bytes of a photo that is sent, at most


@dataclass(frozen=True)
class Input:
    """A photo as it came: its format, bytes, sides in pixels; and its mean brightness, 0..255, as the model sees it."""

    format: str
    bytes: int
    sides: tuple[int, int]
    brightness: float


@dataclass(frozen=True)
class Looked:
    """What the model said of one photo.

    ``ranked``: the likeliest classes with their probability, likeliest first. ``unsure``, ``unlike``: whether to doubt
    it, None where the bundle cannot tell. ``seconds`` in the model. ``heatmap``: where it was asked for and can be had.
    ``odd``: how the photo differs from what is usual (:meth:`plantops.drift.Usual.odd`), where the bundle can tell.
    """

    photo: Input
    ranked: list[tuple[str, float]]
    unsure: bool | None
    unlike: bool | None
    seconds: float
    heatmap: list[list[float]] | None = None
    odd: list[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON (`asdict` would copy every list on its way)."""
        return {**vars(self), "photo": vars(self.photo)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Looked:
        """Read what :meth:`to_dict` wrote."""
        return cls(**{**values, "photo": Input(**values["photo"])})


@dataclass(frozen=True)
class Served:
    """The bundle that is served, as the process knows it that answers HTTP: without its graph.

    ``together``: how many photos it looks at in one pass. ``usual``: what its photos are like, where it can tell drift.
    """

    bundle: Bundle
    identity: Identity
    golden_difference: float
    together: int
    usual: Usual | None

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "manifest": self.manifest.to_dict(),
            "identity": vars(self.identity),
            "golden_difference": self.golden_difference,
            "together": self.together,
        }

"""The one preprocessing as data: what the bundle's manifest says of it. `photo.py` does what it says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FILTERS = ("bilinear", "bicubic")
FITS = ("crop", "squash")


@dataclass(frozen=True)
class Preprocessing:
    """How a photo becomes the model's input.

    ``size``: side of the square, pixels. ``fit``: ``crop`` (shorter side to ``size``, centre cut out) or
    ``squash`` (both sides to ``size``). ``filter``: Pillow's resampling filter. ``turn``: obey the EXIF
    orientation. ``mean``, ``std``: per channel RGB, for pixels scaled to 0..1.
    """

    size: int
    fit: str
    filter: str
    turn: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.fit not in FITS or self.filter not in FILTERS:
            raise ValueError(f"unknown preprocessing: fit={self.fit!r}, filter={self.filter!r}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Read what :meth:`to_dict` wrote. Raises TypeError or ValueError on unknown or missing keys."""
        values = dict(values)
        values["mean"], values["std"] = tuple(values["mean"]), tuple(values["std"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

"""Small charts as SVG, to stand in a page. Colours come from the page's style, so they follow light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from plantops.ml.calibration import Bin

_WIDE, _HIGH, _LEFT, _BELOW = 340, 250, 48, 40
_CELL, _NAMES = 20, 272
_STEPS = 200  # points of a curve


def whisker(low: float, value: float, high: float) -> Markup:
    """A share with its interval, on a line from 0 to 1."""
    return Markup(
        '<svg class="whisker" viewBox="0 0 160 14" role="img" aria-label="{} to {}">'
        '<path class="rail" d="M5 7H155"/><path class="reach" d="M{:.1f} 7H{:.1f}"/>'
        '<circle class="dot" cx="{:.1f}" cy="7" r="4"/></svg>'
    ).format(f"{low:.2f}", f"{high:.2f}", 5 + 150 * low, 5 + 150 * high, 5 + 150 * value)


def reliability(bins: Sequence[Bin]) -> Markup:
    """Stated confidence against accuracy; the larger a dot, the more photos."""
    most = max(one.count for one in bins)
    dots = [
        Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{:,} photos</title></circle>').format(
            _x(one.confidence), _y(one.accuracy), 3 + 7 * (one.count / most) ** 0.5, one.count
        )
        for one in bins
    ]
    line = _line([(one.confidence, one.accuracy) for one in bins], "line")
    ideal = _line([(0, 0), (1, 1)], "ideal")
    return _axes("stated confidence", "share answered rightly", [ideal, line, *dots])


def coverage(share: NDArray[np.float64], accuracy: NDArray[np.float64], chosen: tuple[float, float] | None) -> Markup:
    """Accuracy of the answers given over the share of photos answered; ``chosen``: where the model stands."""
    kept = np.unique(np.linspace(0, len(share) - 1, _STEPS).astype(int))
    low = float(min(accuracy.min(), 0.9))
    floor = max(0.0, np.floor(low * 10) / 10)
    inside = [_line([(share[i], (accuracy[i] - floor) / (1 - floor)) for i in kept], "line")]
    if chosen:
        at = _x(chosen[0]), _y((chosen[1] - floor) / (1 - floor))
        inside.append(Markup('<circle class="mark" cx="{:.1f}" cy="{:.1f}" r="6"/>').format(*at))
    return _axes("share of photos answered", "accuracy of those answers", inside, floor)


def matrix(counts: NDArray[np.int64], names: Sequence[str]) -> Markup:
    """Rows: what the photo shows; columns, numbered as the rows: what the model said."""
    side = len(names) * _CELL
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    parts = [Markup('<svg class="matrix" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img">').format(
        _NAMES + side + 4, side + 24)]  # fmt: skip
    for number, name in enumerate(names):
        middle = 20 + number * _CELL + _CELL / 2
        parts.append(Markup('<text x="{}" y="{}" class="name">{} <tspan class="number">{}</tspan></text>').format(
            _NAMES - 8, middle + 4, name if len(name) < 36 else name[:35] + "…", number + 1))  # fmt: skip
        parts.append(Markup('<text x="{}" y="14" class="column">{}</text>').format(
            _NAMES + number * _CELL + _CELL / 2, number + 1))  # fmt: skip
    for row, column in np.argwhere((counts > 0) | np.eye(len(names), dtype=bool)):
        x, y = _NAMES + column * _CELL, 20 + row * _CELL
        kind = "right" if row == column else "wrong"
        depth = 0.12 + 0.88 * shares[row, column] if kind == "right" else 0.25 + 0.75 * shares[row, column] ** 0.5
        parts.append(Markup(
            '<g><title>{} taken for {}: {}</title><rect class="{}" x="{}" y="{}" width="{}" height="{}" '
            'fill-opacity="{:.2f}"/><text class="count{}" x="{}" y="{}">{}</text></g>'
        ).format(names[row], names[column], counts[row, column], kind, x + 1, y + 1, _CELL - 2, _CELL - 2, depth,
                 " on" if depth > 0.6 else "", x + _CELL / 2, y + 14, counts[row, column]))  # fmt: skip
    parts.append(Markup('<rect class="frame" x="{}" y="20" width="{}" height="{}"/></svg>').format(_NAMES, side, side))
    return Markup("").join(parts)


def _x(value: float) -> float:
    return _LEFT + value * (_WIDE - _LEFT - 22)


def _y(value: float) -> float:
    return (_HIGH - _BELOW) - value * (_HIGH - _BELOW - 12)


def _line(points: Iterable[tuple[float, float]], kind: str) -> Markup:
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(kind, path)


def _axes(x_title: str, y_title: str, inside: Iterable[Markup], floor: float = 0.0) -> Markup:
    ticks = []
    for part in (0, 0.25, 0.5, 0.75, 1):
        ticks.append(Markup('<path class="grid" d="M{:.1f} {:.1f}H{}"/>').format(_x(0), _y(part), _x(1)))
        ticks.append(Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(
            _x(part), _HIGH - _BELOW + 16, f"{part:.0%}"))  # fmt: skip
        ticks.append(Markup('<text class="tick left" x="{}" y="{:.1f}">{}</text>').format(
            _LEFT - 6, _y(part) + 4, f"{100 * (floor + part * (1 - floor)):.3g}%"))  # fmt: skip
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{} over {}">{}{}'
        '<text class="axis" x="{}" y="{}">{}</text></svg>'
    ).format(
        _WIDE, _HIGH, y_title, x_title, Markup("").join(ticks), Markup("").join(inside), (_x(0) + _x(1)) / 2,
        _HIGH - 4, x_title,
    )  # fmt: skip

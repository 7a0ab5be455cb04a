"""How sure the numbers are: intervals and tests for shares, and for two models on the same photos.

Everything is a function of its arguments; the bootstrap draws by a fixed seed. NumPy is imported only where the
bootstrap needs it, because `plantops check` passes by here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_NORMAL = NormalDist()
_DRAWS, _SEED, _CELLS = 2000, 5, 4_000_000  # resamples; where the generator begins; weights held at once


@dataclass(frozen=True)
class Interval:
    """Where a value surely lies, as sure as was asked."""

    low: float
    high: float


def wilson(right: float, photos: float, confidence: float) -> Interval:
    """Of a share ``right / photos``, without continuity correction (Wilson 1927). Counts may be fractions."""
    z = _z(confidence)
    share = right / photos
    middle = (share + z**2 / (2 * photos)) / (1 + z**2 / photos)
    half = z * math.sqrt(share * (1 - share) / photos + z**2 / (4 * photos**2)) / (1 + z**2 / photos)
    return Interval(max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


def newcombe(cells: tuple[float, float, float, float], confidence: float) -> Interval:
    """Of the difference of two shares on the same photos, new minus old (Newcombe 1998, paired, method 10).

    ``cells``: photos that both have right, only the new model, only the old one, neither. Counts may be fractions.
    """
    both, gained, lost, neither = cells
    photos = both + gained + lost + neither
    new, old = (both + gained) / photos, (both + lost) / photos
    ours, theirs = wilson(both + gained, photos, confidence), wilson(both + lost, photos, confidence)
    phi = _phi(both, gained, lost, neither)

    def half(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    low = new - old - half(new - ours.low, theirs.high - old)
    high = new - old + half(ours.high - new, old - theirs.low)
    return Interval(max(-1.0, low), min(1.0, high))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p that as many are gained as lost: McNemar's exact test, mid-p (Fagerland, Lydersen & Laake 2013)."""
    changed = gained + lost
    if gained == lost:
        return 1.0
    shares = [math.comb(changed, k) / (1 << changed) for k in range(min(gained, lost) + 1)]
    return min(1.0, 2 * sum(shares) - shares[-1])


def design_effect(values: Sequence[float], units: Sequence[Hashable]) -> float:
    """How many times less a photo says because its group says alike: variance by groups over that by photos, >= 1.

    ``values`` one number a photo, ``units`` its group (Kish 1965, the linearised variance of a mean). Without any
    difference between photos there is nothing to see: 1.
    """
    photos = len(values)
    mean = sum(values) / photos
    sums: dict[Hashable, float] = defaultdict(float)
    for value, unit in zip(values, units, strict=True):
        sums[unit] += value - mean
    alone = sum((value - mean) ** 2 for value in values) / max(1, photos - 1)
    if alone == 0 or len(sums) < 2:
        return 1.0
    grouped = sum(one**2 for one in sums.values()) * len(sums) / (len(sums) - 1) / photos
    return max(1.0, grouped / alone)


def resampled(
    counts: Array, score: Callable[[Array], Array], confidence: float, draws: int = _DRAWS, seed: int = _SEED
) -> list[Interval]:
    """Of scores of summed counts, by drawing groups with replacement (Davison & Hinkley 1997, 3.8).

    ``counts`` (groups, …): what each group adds. ``score`` takes sums (draws, …) to values (draws, scores).
    Percentiles, widened for few groups as Student's t is wider than the normal (Hesterberg 2015: *expanded*).
    """
    import numpy as np

    groups = len(counts)
    generator = np.random.default_rng(seed)
    flat, found = counts.reshape(groups, -1), []
    step = max(1, _CELLS // groups)
    for first in range(0, draws, step):
        many = min(step, draws - first)
        drawn = generator.integers(groups, size=(many, groups)) + np.arange(many)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=many * groups).reshape(many, groups)
        found.append(score((times @ flat).reshape(many, *counts.shape[1:])))
    tail = _expanded(groups, confidence)
    lows, highs = np.quantile(np.concatenate(found), [tail, 1 - tail], axis=0)
    return [Interval(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def student(share: float, freedom: int) -> float:
    """Student's t below which ``share`` lies (Hill 1970, as an expansion around the normal; within 1 % from 4 on)."""
    z, n = _NORMAL.inv_cdf(share), freedom
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / n**power for power, term in enumerate(terms)))


def _expanded(groups: int, confidence: float) -> float:
    """The share left out at each end."""
    if groups < 2:
        return 0.0
    t = student((1 + confidence) / 2, groups - 1)
    return _NORMAL.cdf(-math.sqrt(groups / (groups - 1)) * t)


def _z(confidence: float) -> float:
    return _NORMAL.inv_cdf((1 + confidence) / 2)


def _phi(both: float, gained: float, lost: float, neither: float) -> float:
    """Correlation of two models' being right, corrected towards 0 as method 10 wants; 0 where one never changes."""
    edges = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross = both * neither - gained * lost
    if cross > 0:
        cross = max(0.0, cross - (both + gained + lost + neither) / 2)
    return cross / math.sqrt(edges) if edges > 0 else 0.0

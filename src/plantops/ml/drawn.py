"""Windows of photos, drawn at random by groups: whole groups but for the last, none again before all were in.

Without replacement, because the series in a window of photos to come are series of their own: one that is drawn twice
would have windows vary more than they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from plantops.drift import Floats

_AT_ONCE = 250  # windows: their groups, as a table, stay below some ten megabytes


@dataclass(frozen=True)
class Grouped:
    """Numbers of photos, group after group.

    ``below`` (n + 1, m): the sum over all photos before one, so that a sum over a part of a group is one difference.
    ``ends`` (groups,): where each group ends.
    """

    below: Floats
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, values: Floats, groups: NDArray[np.int64]) -> Self:
        """``values`` (n, m) of photos, ``groups``: their numbers (n,), all from 0 on."""
        ordered = values[np.argsort(groups, kind="stable")]
        below = np.concatenate([np.zeros((1, values.shape[1])), ordered.cumsum(0)])
        return cls(below, np.bincount(groups).cumsum())

    def windows(self, size: int, count: int, rng: np.random.Generator) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
        """Means (k, m) over windows of ``size`` photos, and which groups each holds (k, groups): ``count`` in all."""
        for done in range(0, count, _AT_ONCE):
            yield self._some(size, min(_AT_ONCE, count - done), rng)

    def _some(self, size: int, count: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
        begins = np.concatenate([[0], self.ends[:-1]])
        lengths, each = self.ends - begins, np.arange(count)
        order = np.tile(rng.random((count, len(lengths))).argsort(1), (1, -(-size // int(self.ends[-1]))))
        filled = lengths[order].cumsum(1)
        whole = filled <= size
        last = whole.sum(1)
        left = size - np.where(last > 0, filled[each, last - 1], 0)
        cut = begins[order[each, np.minimum(last, order.shape[1] - 1)]]  # of this group the first ``left`` photos
        times = np.zeros((count, len(lengths)))
        np.add.at(times, (each[:, None], order), whole)
        sums = times @ (self.below[self.ends] - self.below[begins]) + self.below[cut + left] - self.below[cut]
        inside = times > 0
        inside[each, order[each, np.minimum(last, order.shape[1] - 1)]] |= left > 0
        return sums / size, inside

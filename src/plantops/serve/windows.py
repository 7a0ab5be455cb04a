"""Drift in service: photos summed up in windows, one after the other, of each size that the bundle has limits for.

Nothing of a photo is kept but its share of a few sums. One window in a hundred is over a limit by chance (the rate in
the bundle), so that nothing is said before the same aspect is over in two windows of a size in a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from plantops.drift import ASPECTS, CLASS, Floats, Usual, said

IN_A_ROW = 2


@dataclass
class Window:
    """The window of one size that is being filled, and how the ones before it ended.

    ``over``: the last one's statistics as shares of their limits, (10,). ``row``: windows in a row over the limit.
    ``classes``, ``class_row``: the same of each answer's share alone, (classes,); the aspect of one class is in a row
    where it is the same class.
    """

    size: int
    odd: Floats
    counts: Floats
    classes: Floats
    class_row: Floats
    ended: int = 0
    over: Floats = field(default_factory=lambda: np.zeros(len(ASPECTS)))
    row: Floats = field(default_factory=lambda: np.zeros(len(ASPECTS)))
    words: tuple[str, ...] = ()


class Windows:
    """All windows of one worker. Lives in one thread."""

    def __init__(self, usual: Usual, classes: tuple[str, ...]) -> None:
        self._usual, self._classes = usual, classes
        self.rate = usual.rate
        self.each = [self._fresh(int(size)) for size in usual.sizes]

    def add(self, odd: Floats, answer: int) -> list[Window]:
        """One photo more; returns the windows that it completed."""
        full = []
        for window in self.each:
            window.odd += odd
            window.counts[answer] += 1
            if window.counts.sum() >= window.size:
                self._judge(window)
                full.append(window)
        return full

    def words(self) -> list[str]:
        """What drifted, of the largest windows that say so: "brighter than what it learned from, last 200 photos"."""
        found: dict[str, str] = {}
        for window in self.each:
            for aspect, text, row in zip(ASPECTS, window.words, window.row, strict=False):
                if row >= IN_A_ROW:
                    found[aspect] = f"{text}, in {int(row)} times {window.size} photos"
        return list(found.values())

    def _judge(self, window: Window) -> None:
        """Say how a full window ended, and begin the next one."""
        mean, shares = window.odd / window.size, window.counts / window.size - self._usual.mix
        window.over = self._usual.over(window.size, mean, window.counts)
        window.row = np.where(window.over > 1, window.row + 1, 0)
        window.classes = self._usual.over_by_class(window.size, window.counts)
        window.class_row = np.where(window.classes > 1, window.class_row + 1, 0)
        window.row[ASPECTS.index(CLASS)] = longest = window.class_row.max()
        named = dict.fromkeys(ASPECTS, shares) | {CLASS: np.where(window.class_row == longest, shares, 0)}
        window.words = tuple(said(one, mean, named[one], self._classes) for one in ASPECTS)
        window.ended += 1
        window.odd, window.counts = np.zeros_like(window.odd), np.zeros_like(window.counts)

    def _fresh(self, size: int) -> Window:
        counts, apart, row = (np.zeros(len(self._usual.mix)) for _ in range(3))
        return Window(size, np.zeros(self._usual.means.shape[1]), counts, apart, row)

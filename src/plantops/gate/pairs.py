"""Two models' answers on the same photos, and what surely differs between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from plantops.gate import evidence
from plantops.gate.answers import Answer, accuracy, macro_f1
from plantops.gate.evidence import Interval

if TYPE_CHECKING:
    from plantops.gate.evidence import Array

# What is counted for each group and class: photos, and for the new and the old model those that it has right and
# those that it says are of this class; then the photos without the two that were added.
_PHOTOS, _NEW, _NEW_SAID, _OLD, _OLD_SAID, _REAL = range(6)


@dataclass(frozen=True)
class Measured:
    """A score of both models, and where its difference (new minus old) surely lies."""

    new: float
    old: float
    bounds: Interval

    @property
    def difference(self) -> float:
        """New minus old."""
        return self.new - self.old


@dataclass(frozen=True)
class Pairs:
    """The new and the old model's answers, photo by photo."""

    ours: tuple[Answer, ...]
    theirs: tuple[Answer, ...]

    @classmethod
    def on_the_same(cls, candidate: Sequence[Answer], champion: Sequence[Answer]) -> Pairs:
        """The photos that both were asked."""
        ours = {one.photo: one for one in candidate}
        theirs = {one.photo: one for one in champion if one.photo in ours}
        return cls(tuple(ours[photo] for photo in theirs), tuple(theirs.values()))

    def __len__(self) -> int:
        return len(self.ours)

    @property
    def groups(self) -> int:
        """How many groups the photos are of."""
        return len({one.unit for one in self.ours})

    @cached_property
    def changes(self) -> list[int]:
        """For each photo: 1 where only the new model is right, -1 where only the old one is, else 0."""
        return [new.right - old.right for new, old in zip(self.ours, self.theirs, strict=True)]

    @property
    def gained(self) -> int:
        """Photos that only the new model has right."""
        return self.changes.count(1)

    @property
    def lost(self) -> int:
        """Photos that only the old model has right."""
        return self.changes.count(-1)

    def chance(self) -> float:
        """McNemar's exact mid-p of the groups in which one of the two has more photos right."""
        net: Counter[str] = Counter()
        for one, change in zip(self.ours, self.changes, strict=True):
            net[one.unit] += change
        return evidence.mcnemar(sum(n > 0 for n in net.values()), sum(n < 0 for n in net.values()))

    def scores(self, confidence: float) -> dict[str, Measured]:
        """Accuracy and macro-F1, bounded by drawing groups of photos anew."""
        accuracies, f1s = evidence.resampled(self._counts(), _differences, confidence)
        return {
            "accuracy": Measured(accuracy(self.ours), accuracy(self.theirs), accuracies),
            "macro_f1": Measured(macro_f1(self.ours), macro_f1(self.theirs), f1s),
        }

    def recall(self, name: str, confidence: float) -> Measured | None:
        """Recall of one class; None where it has no photo. Photos count for as much as their groups let them."""
        places = [place for place, one in enumerate(self.ours) if one.actual == name]
        if not places:
            return None
        table = Counter((self.ours[place].right, self.theirs[place].right) for place in places)
        cells = [table[new, old] for new, old in ((True, True), (True, False), (False, True), (False, False))]
        both, gained, lost, neither = (cell / self._effect for cell in cells)
        bounds = evidence.newcombe((both, gained, lost, neither), confidence)
        photos = both + gained + lost + neither
        return Measured((both + gained) / photos, (both + lost) / photos, bounds)

    @cached_property
    def _effect(self) -> float:
        return evidence.design_effect(self.changes, [one.unit for one in self.ours])

    def _counts(self) -> Array:
        """(groups + 2, classes, 6). The two that are added hold one photo each, that only one model has right.

        Without them no difference among few photos would look like certainty (Bonett & Price 2012 do so for the
        difference of two paired shares). Each is spread over the classes, so that it weighs in macro-F1 as well.
        """
        import numpy as np

        numbers = {name: number for number, name in enumerate(sorted({one.actual for one in self.ours}))}
        units: dict[str, int] = {}
        counts = np.zeros((self.groups + 2, len(numbers), 6))
        for new, old in zip(self.ours, self.theirs, strict=True):
            group = counts[units.setdefault(new.unit, len(units))]
            group[numbers[new.actual], [_PHOTOS, _REAL]] += 1
            for one, right, said in ((new, _NEW, _NEW_SAID), (old, _OLD, _OLD_SAID)):
                group[numbers[one.actual], right] += one.right
                if one.predicted in numbers:
                    group[numbers[one.predicted], said] += 1
        counts[-2][:, [_PHOTOS, _NEW, _NEW_SAID]] = counts[-1][:, [_PHOTOS, _OLD, _OLD_SAID]] = 1 / len(numbers)
        return counts


def _differences(sums: Array) -> Array:
    """Accuracy and macro-F1, new minus old: (draws, classes, 6) to (draws, 2)."""
    import numpy as np

    photos, there = sums[:, :, _PHOTOS], sums[:, :, _REAL] > 0
    right = sums[:, :, _NEW].sum(1) - sums[:, :, _OLD].sum(1)
    new, old = (2 * sums[:, :, r] / np.maximum(photos + sums[:, :, s], 1e-12) for r, s in _F1)
    f1 = ((new - old) * there).sum(1) / np.maximum(there.sum(1), 1)
    return np.stack([right / np.maximum(photos.sum(1), 1e-12), f1], axis=1)


_F1 = ((_NEW, _NEW_SAID), (_OLD, _OLD_SAID))

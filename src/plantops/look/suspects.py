"""Photos whose folder a model contradicts: for a person to look at, never moved.

Those that it did not learn from are found by confident learning (Northcutt, Jiang, Chuang 2021, arXiv:1911.00068, there
filter_by='confident_learning'): a photo is confidently of a class when its probability there is at least the mean of
that class's own photos. Written out, in place of cleanlab (Apache 2.0), because that takes two seconds to import for
these lines; the tests compare the two.

Those that it learned from are found by what it took them for all along, while it learned: see ml/course.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plantops.look.photos import Photo

Course = Mapping[str, tuple[str, str, float, float]]


_ALL_ALONG = 0.3  # so much more share for another class than for its own: docs/data.md has what that finds


@dataclass(frozen=True)
class Suspect:
    """A photo, what the model takes it for, and how probable it finds that and the folder (0 to 1).

    ``learned``: the model learned from it, and the two are means over the training.
    """

    photo: Photo
    predicted: str
    confidence: float
    own: float
    learned: bool = False


@dataclass(frozen=True)
class Suspects:
    """The worst first; ``asked``: photos that the model had not learned from; ``learned``: that it had; ``rest``."""

    found: tuple[Suspect, ...]
    asked: int
    learned: int
    rest: int

    def whom(self) -> str:
        """Whom the model was asked about, in words; empty when about nobody."""
        parts = []
        if self.asked:
            parts.append(f"{self.asked:,} that it did not learn from, by its answers")
        if self.learned:
            parts.append(f"{self.learned:,} that it learned from, by what it took them for all along")
        if parts and self.rest:
            parts.append(f"{self.rest:,} others not at all")
        return "; ".join(parts)


def find(
    photos: Iterable[Photo], answers: tuple[Sequence[str], Mapping[str, Sequence[float]]], course: Course
) -> Suspects:
    """``answers``: classes, and by md5 their probabilities, for photos that the model did not learn from.

    ``course``: by md5 of those that it did: class, what it was taken for, the shares of both.
    """
    asked, found, learned, rest = list[Photo](), list[Suspect](), 0, 0
    for one in photos:
        if one.facts.problem:
            continue
        if one.md5 in answers[1] and one.label in answers[0]:
            asked.append(one)
        elif one.md5 not in answers[1] and one.label == course.get(one.md5, ("",))[0]:
            learned += 1
            found += _all_along(one, *course[one.md5][1:])
        else:
            rest += 1
    found = [*_held_out(asked, *answers), *found]
    found.sort(key=lambda one: one.own - one.confidence)
    return Suspects(tuple(found), len(asked), learned, rest)


def _held_out(
    asked: Sequence[Photo], classes: Sequence[str], answers: Mapping[str, Sequence[float]]
) -> Iterator[Suspect]:
    if not asked:
        return
    number = {name: at for at, name in enumerate(classes)}
    labels = np.array([number[one.label] for one in asked])
    shares = np.array([answers[one.md5] for one in asked])
    for at, best in confident(labels, shares):
        yield Suspect(asked[at], classes[best], float(shares[at, best]), float(shares[at, labels[at]]))


def _all_along(photo: Photo, taken_for: str, share: float, own: float) -> Iterator[Suspect]:
    if share - own >= _ALL_ALONG:
        yield Suspect(photo, taken_for, share, own, learned=True)


def confident(labels: NDArray[np.int64], shares: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(row, class) of those confidently of another class than their label's, the widest margin first.

    ``labels`` (n,), ``shares`` (n, classes): probabilities. A class without a row is no one's. The margin is that
    between the most probable class and the label's.
    """
    rows = np.arange(len(labels))
    own = shares[rows, labels]
    counts = np.bincount(labels, minlength=shares.shape[1])
    sums = np.bincount(labels, own, minlength=shares.shape[1])
    least = np.divide(sums, counts, out=np.full(shares.shape[1], np.inf), where=counts > 0)
    sure, likeliest = shares >= least - 1e-6, shares.argmax(1)
    best = np.where(sure.sum(1) > 1, likeliest, sure.argmax(1))
    wrong = np.flatnonzero(sure.any(1) & (best != labels) & (likeliest != labels))
    margin = own - shares.max(1)
    return [(int(at), int(best[at])) for at in wrong[np.argsort(margin[wrong], kind="stable")]]

"""Photos whose folder a model contradicts that did not learn from them: for a person to look at, never moved.

Confident learning (Northcutt, Jiang, Chuang 2021, arXiv:1911.00068, there filter_by='confident_learning'): a photo
is confidently of a class when its probability there is at least the mean of that class's own photos. Written out, in
place of cleanlab (Apache 2.0), because that takes two seconds to import for these lines; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantops.look.photos import Photo

_PREFIX = "p:"


@dataclass(frozen=True)
class Suspect:
    """A photo, what the model takes it for, and how probable it finds that and the folder (0 to 1)."""

    photo: Photo
    predicted: str
    confidence: float
    own: float


@dataclass(frozen=True)
class Suspects:
    """The worst first; ``asked``: photos that the model was asked about and had not learned from; ``rest``: others."""

    found: tuple[Suspect, ...]
    asked: int
    rest: int


def find(photos: Sequence[Photo], predictions: Sequence[Mapping[str, Any]]) -> Suspects:
    """``predictions``: of photos the model did not learn from: md5, and a column ``p:<class>`` for each class."""
    names = [key for key in (predictions[0] if predictions else ()) if key.startswith(_PREFIX)]
    number = {name.removeprefix(_PREFIX): at for at, name in enumerate(names)}
    rows = {row["md5"]: row for row in predictions}
    asked = [one for one in photos if one.md5 in rows and one.label in number and not one.facts.problem]
    usable = sum(not one.facts.problem for one in photos)
    if not asked:
        return Suspects((), 0, usable)
    labels = np.array([number[one.label] for one in asked])
    shares = np.array([[float(rows[one.md5][name]) for name in names] for one in asked])
    found = [
        Suspect(asked[at], names[best].removeprefix(_PREFIX), float(shares[at, best]), float(shares[at, labels[at]]))
        for at, best in confident(labels, shares)
    ]
    return Suspects(tuple(found), len(asked), usable - len(asked))


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

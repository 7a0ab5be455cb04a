"""What is usual: learned from photos that were held out, with limits that windows of such photos seldom exceed.

Held out, because a network is surer of the photos that it learned from. The limits come from resampling by groups (the
shots of one series come together, in a collection as at an API): a window is some whole groups, its reference the
others. One quantile for all aspects is chosen so that all of them together exceed their limits in a share of ``_AIM``
of the windows (the first step of Westfall and Young 1993). Groups that are not there have no part in that; so the same
is done over and over without a part of the groups, windows of that part are judged by it, and all limits are widened by
what it takes to keep the rate there, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plantops.drift import ASPECTS, Floats, Usual, picture, statistics
from plantops.ml.drawn import Grouped

RATE = 0.01
_AIM = RATE / 2  # a quantile that so few groups give is exceeded about twice as often by others (decision 15)
SIZES = (100, 200, 400)
FEWEST_GROUPS = 20
_COMPONENTS = 8
_WINDOWS = 2_000
# With other groups beside them; of fewer, not two would lie over the limits, which were then luck.
_FEWEST_WINDOWS = 400
_FOLDS, _TIMES = 4, 5  # into so many parts the groups are divided, so often anew
_PRIOR = 5.0  # photos of any class that stand beside those of one


@dataclass(frozen=True)
class Held:
    """Held-out photos (n): pixels (n, size, size, 3), embeddings (n, d), squared distances, confidence (0..1),
    answers (class numbers below ``classes``), and which group each belongs to (numbers)."""

    pixels: NDArray[np.uint8]
    embeddings: NDArray[np.float32]
    distances: Floats
    confidence: Floats
    answers: NDArray[np.int64]
    groups: NDArray[np.int64]
    classes: int


@dataclass(frozen=True)
class _Photos:
    """``numbers`` (n, 7 + p), answers ``one_hot`` (n, classes), and ``groups`` (n,), their numbers from 0 on."""

    numbers: Floats
    one_hot: Floats
    groups: NDArray[np.int64]

    def some(self, wanted: NDArray[np.bool_]) -> _Photos:
        """A part of them, whole groups."""
        groups = np.unique(self.groups[wanted], return_inverse=True)[1]
        return _Photos(self.numbers[wanted], self.one_hot[wanted], groups)

    def by_group(self) -> tuple[Floats, Floats]:
        """Of each group the sums by answer, (groups, classes, 7 + p), and counts (groups, classes)."""
        shape = (int(self.groups.max()) + 1, self.one_hot.shape[1])
        sums, counts = np.zeros((*shape, self.numbers.shape[1])), np.zeros(shape)
        np.add.at(sums, (self.groups, self.one_hot.argmax(1)), self.numbers)
        np.add.at(counts, self.groups, self.one_hot)
        return sums, counts

    def windows(self, size: int, count: int, rng: np.random.Generator) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
        """Means (k, 7 + p + classes), and which groups: see :meth:`Grouped.windows`."""
        return Grouped.of(np.concatenate([self.numbers, self.one_hot], 1), self.groups).windows(size, count, rng)


@dataclass(frozen=True)
class _Bounds:
    """Of windows of one size: ``spread`` of each answer's share (classes,), and ``limits`` of the aspects (10,)."""

    spread: Floats
    limits: Floats


def learn(held: Held) -> Usual | None:
    """What is usual of them; None where they are too few to say, or too few groups hold nearly all of them."""
    sizes = [size for size in SIZES if 2 * size <= len(held.answers)]
    if not sizes or len(np.unique(held.groups)) < FEWEST_GROUPS:
        return None
    axes = _axes(held.embeddings.astype(np.float64), held.answers)
    said = np.stack([held.confidence, np.log(held.distances + 1e-9)], 1)
    numbers = np.concatenate([np.stack([picture(one) for one in held.pixels]), said, held.embeddings @ axes], 1)
    one_hot = np.eye(held.classes)[held.answers]
    photos = _Photos(numbers, one_hot, np.unique(held.groups, return_inverse=True)[1])
    limits = {size: found for size in sizes if (found := _wide_bounds(photos, size)) is not None}
    if not limits:
        return None
    return Usual(
        axes, means(one_hot.T @ numbers, one_hot.sum(0)).astype(np.float32), one_hot.mean(0).astype(np.float32),
        np.array(list(limits), np.int64), np.stack([one.spread for one in limits.values()]).astype(np.float32),
        np.stack([one.limits for one in limits.values()]).astype(np.float32), RATE,
    )  # fmt: skip


def means(sums: Floats, counts: Floats) -> Floats:
    """Of photos by their answer, (..., classes, m), from sums and counts; near the mean of all where it is rare."""
    everywhere = sums.sum(-2, keepdims=True) / counts.sum(-1)[..., None, None]
    found: Floats = (sums + _PRIOR * everywhere) / (counts + _PRIOR)[..., None]
    return found


def _axes(embeddings: Floats, answers: NDArray[np.int64]) -> NDArray[np.float32]:
    """(d, p): the main directions in which embeddings with the same answer differ, scaled to about one."""
    centres = np.stack([embeddings[answers == one].mean(0) for one in np.unique(answers)])
    odd = embeddings - centres[np.unique(answers, return_inverse=True)[1]]
    spread, directions = np.linalg.eigh(np.cov(odd.T))
    first = np.argsort(spread)[::-1][:_COMPONENTS]
    first = first[spread[first] > spread.max() * 1e-6]
    axes: NDArray[np.float32] = (directions[:, first] / np.sqrt(spread[first])).astype(np.float32)
    return axes


def _wide_bounds(photos: _Photos, size: int) -> _Bounds | None:
    """So wide that they hold for groups that had no part in them; None as :func:`_bounds`."""
    bounds = _bounds(photos, size)
    wider = None if bounds is None else _wider(photos, size)
    return None if bounds is None or wider is None else replace(bounds, limits=bounds.limits * wider)


def _bounds(photos: _Photos, size: int) -> _Bounds | None:
    """For windows of ``size`` photos, each against those of the groups that it does not hold.

    None where nearly every window holds all groups, so that nothing is left to compare it with.
    """
    sums, counts = photos.by_group()
    found = list[tuple[Floats, Floats]]()
    for mean, inside in photos.windows(size, _WINDOWS, np.random.default_rng(size)):
        taken = inside.astype(np.float64)
        left = counts.sum(0) - taken @ counts
        there = left.any(1)
        rest = sums.sum(0) - np.tensordot(taken[there], sums, 1)
        found.append(_against(mean[there], rest, left[there]))
    odd, shares = (np.concatenate(each) for each in zip(*found, strict=True))
    if len(odd) < _FEWEST_WINDOWS:
        return None
    spread = _spread(shares, size)
    return _Bounds(spread, _together(statistics(odd, shares, spread)))


def _spread(shares: Floats, size: int) -> Floats:
    """Of each answer, (classes,): the difference in share that few windows (n, classes) exceed, each as seldom.

    At least that of the middle class, and a few photos: of a class whose groups are few, windows that have none of them
    tell nothing of those to come.
    """
    each = np.quantile(np.abs(shares), 1 - _AIM, axis=0)
    found: Floats = np.maximum(each, max(float(np.median(each)), _PRIOR / size))
    return found


def _against(mean: Floats, sums: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """What is odd in windows, (k, 7 + p), and differences in share, (k, classes): the means of their numbers and
    answers, against photos' sums by answer, (k, classes, 7 + p) or the same ones for all, and their counts."""
    numbers, share = np.split(mean, [sums.shape[-1]], axis=1)
    usual = (share[:, None] @ means(sums, counts))[:, 0]
    return numbers - usual, share - counts / counts.sum(-1, keepdims=True)


def _wider(photos: _Photos, size: int) -> Floats | None:
    """By how much limits (10,) have to be widened to hold the rate on windows of groups that had no part in them.

    By one factor for all, but for one class: of a class a part of the groups may hold none or most, and a factor that
    is large enough for that would take the others' power. It has a factor of its own, at a tenth of the rate.

    None where there are none without a part of the groups.
    """
    over, rng = list[Floats](), np.random.default_rng(size)
    for apart in _parts(photos.groups, rng):
        known, rest = photos.some(~apart), photos.some(apart)
        bounds = _bounds(known, size)
        if bounds is None:
            return None
        sums, counts = (each.sum(0) for each in known.by_group())
        for mean, _ in rest.windows(size, _WINDOWS // _FOLDS, rng):
            over.append(statistics(*_against(mean, sums, counts), bounds.spread) / bounds.limits)
    *others, one_class = np.concatenate(over).T
    common, own = np.quantile(np.max(others, 0), 1 - _AIM), np.quantile(one_class, 1 - _AIM / len(ASPECTS))
    factors: Floats = np.maximum(1.0, np.append(np.full(len(others), common), own))
    return factors


def _parts(groups: NDArray[np.int64], rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Photos (n,) of a part of the groups: each is in one of ``_FOLDS`` parts, and that ``_TIMES`` times anew."""
    for _ in range(_TIMES):
        fold = rng.permutation(groups.max() + 1)[groups] % _FOLDS
        yield from (fold == number for number in range(_FOLDS))


def _together(found: Floats) -> Floats:
    """Limits (10,) that a share of ``_AIM`` of the windows (n, 10) exceeds in any aspect, each aspect as often."""
    place = found.argsort(0).argsort(0) / len(found)
    limits: Floats = np.quantile(found, np.quantile(place.max(1), 1 - _AIM), axis=0)
    return np.maximum(limits, 1e-9)

"""What is usual: learned from photos that were held out, with limits that windows of such photos seldom exceed.

Held out, because a network is surer of the photos that it learned from. The limits come from resampling by groups (the
shots of one series come together, in a collection as at an API): a window is some whole groups, its reference the
others. One quantile for all aspects is chosen so that all of them together exceed their limits in a share of ``RATE``
of the windows (the first step of Westfall and Young 1993). Groups that are not there have no part in that; so the same
is done without a part of the groups, windows of that part are judged by it, and all limits are widened by what it
takes to keep the rate there, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plantops.drift import ASPECTS, Floats, Usual, picture, statistics

RATE = 0.01
SIZES = (100, 200, 400)
FEWEST_GROUPS = 20
_COMPONENTS = 8
_WINDOWS = 2_000
_FEWEST_WINDOWS = (
    200  # with other groups beside them; of fewer, not two would lie over the limits, which were then luck
)
_FOLDS = 4
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
    photos = np.concatenate([np.stack([picture(one) for one in held.pixels]), said, held.embeddings @ axes], 1)
    one_hot = np.eye(held.classes)[held.answers]
    where = np.unique(held.groups, return_inverse=True)[1]
    limits = {size: found for size in sizes if (found := _wide_limits(photos, one_hot, where, size)) is not None}
    if not limits:
        return None
    return Usual(
        axes, means(one_hot.T @ photos, one_hot.sum(0)).astype(np.float32), one_hot.mean(0).astype(np.float32),
        np.array(list(limits), np.int64), np.stack([one.spread for one in limits.values()]).astype(np.float32),
        np.stack([one.limits for one in limits.values()]).astype(np.float32), RATE,
    )  # fmt: skip


def means(sums: Floats, counts: Floats) -> Floats:
    """Of photos by their answer, (classes, m), from sums and counts; near the mean of all where an answer is rare."""
    found: Floats = (sums + _PRIOR * sums.sum(0) / counts.sum()) / (counts + _PRIOR)[:, None]
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


def _wide_limits(photos: Floats, one_hot: Floats, groups: NDArray[np.int64], size: int) -> _Bounds | None:
    """So wide that they hold for groups that had no part in them; None as :func:`_limits`."""
    bounds = _limits(photos, one_hot, groups, size)
    wider = None if bounds is None else _wider(photos, one_hot, groups, size)
    return None if bounds is None or wider is None else replace(bounds, limits=bounds.limits * wider)


def _limits(photos: Floats, one_hot: Floats, groups: NDArray[np.int64], size: int) -> _Bounds | None:
    """For windows of ``size`` photos. ``groups``: numbers from 0.

    None where nearly every window holds all groups, so that nothing is left to compare it with.
    """
    both, many = np.concatenate([photos, one_hot], 1), groups.max() + 1
    sums, counts = np.zeros((many, one_hot.shape[1], photos.shape[1])), np.zeros((many, one_hot.shape[1]))
    np.add.at(sums, (groups, one_hot.argmax(1)), photos)
    np.add.at(counts, groups, one_hot)
    all_sums, all_counts, found = sums.sum(0), counts.sum(0), []
    for mean, drawn in windows(both, groups, size, _WINDOWS, np.random.default_rng(size)):
        once = np.unique(drawn)
        left = all_counts - counts[once].sum(0)
        if left.any():
            found.append(_against(mean, all_sums - sums[once].sum(0), left))
    if len(found) < _FEWEST_WINDOWS:
        return None
    odd, shares = (np.array(each) for each in zip(*found, strict=True))
    spread = _spread(shares, size)
    return _Bounds(spread, _together(statistics(odd, shares, spread)))


def _spread(shares: Floats, size: int) -> Floats:
    """Of each answer, (classes,): the difference in share that few windows (n, classes) exceed, each as seldom.

    At least that of the middle class, and a few photos: of a class whose groups are few, windows that have none of them
    tell nothing of those to come.
    """
    each = np.quantile(np.abs(shares), 1 - RATE, axis=0)
    found: Floats = np.maximum(each, max(float(np.median(each)), _PRIOR / size))
    return found


def _against(mean: Floats, sums: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """What is odd in a window, (7 + p,), and differences in share, (classes,): the mean of its numbers and answers,
    against photos' sums by answer, and their counts."""
    share = mean[sums.shape[1] :]
    return mean[: sums.shape[1]] - share @ means(sums, counts), share - counts / counts.sum()


def _wider(photos: Floats, one_hot: Floats, groups: NDArray[np.int64], size: int) -> Floats | None:
    """By how much limits (10,) have to be widened to hold the rate on windows of groups that had no part in them.

    By one factor for all, but for one class: of a class a part of the groups may hold none or most, and a factor that
    is large enough for that would take the others' power. It has a factor of its own, at a tenth of the rate.

    None where there are none without a part of the groups.
    """
    fold = np.random.default_rng(size).permutation(groups.max() + 1)[groups] % _FOLDS
    both, over = np.concatenate([photos, one_hot], 1), []
    for apart in (fold == number for number in range(_FOLDS)):
        known = ~apart
        bounds = _limits(photos[known], one_hot[known], np.unique(groups[known], return_inverse=True)[1], size)
        if bounds is None:
            return None
        sums, counts = one_hot[known].T @ photos[known], one_hot[known].sum(0)
        inside = np.unique(groups[apart], return_inverse=True)[1]
        drawn = windows(both[apart], inside, size, _WINDOWS // _FOLDS, np.random.default_rng(size))
        odd, shares = (
            np.array(each) for each in zip(*(_against(mean, sums, counts) for mean, _ in drawn), strict=True)
        )
        over += (statistics(odd, shares, bounds.spread) / bounds.limits).tolist()
    *others, one_class = np.array(over).T
    common, own = np.quantile(np.max(others, 0), 1 - RATE), np.quantile(one_class, 1 - RATE / len(ASPECTS))
    factors: Floats = np.maximum(1.0, np.append(np.full(len(others), common), own))
    return factors


def _together(found: Floats) -> Floats:
    """Limits (10,) that a share of ``RATE`` of the windows (n, 10) exceeds in any aspect, each aspect as often."""
    place = found.argsort(0).argsort(0) / len(found)
    limits: Floats = np.quantile(found, np.quantile(place.max(1), 1 - RATE), axis=0)
    return np.maximum(limits, 1e-9)


def windows(
    values: Floats, groups: NDArray[np.int64], size: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[Floats, NDArray[np.int64]]]:
    """Means (m,) of ``values`` (n, m) over windows of ``size`` photos, and their groups (numbers from 0): drawn at
    random with replacement, whole but for the last."""
    order = np.argsort(groups, kind="stable")
    lengths = np.bincount(groups)
    starts = np.cumsum(lengths) - lengths
    for _ in range(count):
        drawn = rng.integers(len(starts), size=size)
        ends = np.cumsum(lengths[drawn])
        drawn = drawn[: int(np.searchsorted(ends, size)) + 1]
        begins = np.repeat(starts[drawn] - ends[: len(drawn)] + lengths[drawn], lengths[drawn])[:size]
        yield values[order[begins + np.arange(size)]].mean(0), drawn

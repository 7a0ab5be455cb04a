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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plantops.drift import Floats, Usual, picture, statistics

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
        np.array(list(limits), np.int64), np.stack(list(limits.values())).astype(np.float32), RATE,
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


def _wide_limits(photos: Floats, one_hot: Floats, groups: NDArray[np.int64], size: int) -> Floats | None:
    """Of each aspect, (9,), so wide that they hold for groups that had no part in them; None as :func:`_limits`."""
    limits = _limits(photos, one_hot, groups, size)
    wider = None if limits is None else _wider(photos, one_hot, groups, size)
    return None if limits is None or wider is None else limits * wider


def _limits(photos: Floats, one_hot: Floats, groups: NDArray[np.int64], size: int) -> Floats | None:
    """Of each aspect, (9,), for windows of ``size`` photos. ``groups``: numbers from 0.

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
            found.append(_statistics(mean, all_sums - sums[once].sum(0), left))
    return _together(np.array(found)) if len(found) >= _FEWEST_WINDOWS else None


def _statistics(mean: Floats, sums: Floats, counts: Floats) -> Floats:
    """Of a window, (9,): the mean of its numbers and answers, against photos' sums by answer, and their counts."""
    share = mean[sums.shape[1] :]
    odd = mean[: sums.shape[1]] - share @ means(sums, counts)
    found: Floats = statistics(odd[None], (share - counts / counts.sum())[None])[0]
    return found


def _wider(photos: Floats, one_hot: Floats, groups: NDArray[np.int64], size: int) -> float | None:
    """By how much limits have to be widened to hold the rate on windows of groups that had no part in them.

    None where there are none without a part of the groups.
    """
    fold = np.random.default_rng(size).permutation(groups.max() + 1)[groups] % _FOLDS
    both, over = np.concatenate([photos, one_hot], 1), []
    for apart in (fold == number for number in range(_FOLDS)):
        known = ~apart
        limits = _limits(photos[known], one_hot[known], np.unique(groups[known], return_inverse=True)[1], size)
        if limits is None:
            return None
        sums, counts = one_hot[known].T @ photos[known], one_hot[known].sum(0)
        inside = np.unique(groups[apart], return_inverse=True)[1]
        drawn = windows(both[apart], inside, size, _WINDOWS // _FOLDS, np.random.default_rng(size))
        over += [float((_statistics(mean, sums, counts) / limits).max()) for mean, _ in drawn]
    return max(1.0, float(np.quantile(over, 1 - RATE)))


def _together(found: Floats) -> Floats:
    """Limits (9,) that a share of ``RATE`` of the windows (n, 9) exceeds in any aspect, each aspect as often."""
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

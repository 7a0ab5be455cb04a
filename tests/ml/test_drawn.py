"""Windows of photos, each told by a column of its own: how often it is in a window is what the window's mean says."""

from __future__ import annotations

import numpy as np
import pytest

from plantops.ml.drawn import Grouped

LENGTHS = (1, 2, 3, 10, 4, 7)
PHOTOS = sum(LENGTHS)


def often(size: int, count: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often each photo is in each window, which groups are, and the group of each photo: in no order."""
    order = np.random.default_rng(1).permutation(PHOTOS)
    groups = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[order]
    drawn = list(Grouped.of(np.eye(PHOTOS), groups).windows(size, count, np.random.default_rng(2)))
    means, inside = (np.concatenate(each) for each in zip(*drawn, strict=True))
    times = means * size
    assert np.allclose(times, times.round())
    return times.round().astype(int), inside, groups


def test_a_window_is_whole_groups_but_for_the_first_photos_of_one() -> None:
    times, inside, groups = often(12)
    assert times.shape == (300, PHOTOS)
    assert set(times.sum(1)) == {12}
    assert set(times.ravel()) == {0, 1}
    for window, there in zip(times, inside, strict=True):
        shares = [window[groups == one].mean() for one in range(len(LENGTHS))]
        assert sum(0 < share < 1 for share in shares) <= 1
        assert [share > 0 for share in shares] == there.tolist()
        for one in range(len(LENGTHS)):
            assert (np.diff(window[groups == one]) <= 0).all(), "its first ones"
    alone = np.bincount(inside.argmax(1)[inside.sum(1) == 1], minlength=len(LENGTHS))
    assert alone.sum() == 0, "no group has twelve photos"


@pytest.mark.parametrize("size", [PHOTOS, PHOTOS + 5, 3 * PHOTOS - 1])
def test_no_group_comes_again_before_all_were_in(size: int) -> None:
    times, inside, _ = often(size)
    assert set(times.sum(1)) == {size}
    assert times.max() - times.min() <= 1
    assert inside.all()


def test_every_group_comes_as_often_as_every_other() -> None:
    _, inside, _ = often(1, count=3000)
    assert np.allclose(inside.mean(0), 1 / len(LENGTHS), atol=0.03)

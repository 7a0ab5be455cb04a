"""The search for near hashes against comparing every one with every other."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plantops import near

RADIUS = 22


def brute(rows: np.ndarray, radius: int) -> list[list[int]]:
    bits = np.unpackbits(rows, axis=1).astype(int)
    close = (bits[:, None] != bits[None]).sum(2) <= radius
    roots = list(range(len(rows)))
    for _ in rows:
        roots = [min(roots[other] for other in np.flatnonzero(close[one])) for one in range(len(rows))]
    groups = [[at for at, root in enumerate(roots) if root == one] for one in sorted(set(roots))]
    return [group for group in groups if len(group) > 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 40), st.floats(0, 0.2))
def test_clusters_are_those_of_every_pair(seed: int, kinds: int, more: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    rows = random.integers(0, 256, (kinds, 32), dtype=np.uint8)
    rows = rows[random.integers(0, kinds, kinds + more)]
    flips = np.packbits(random.random((len(rows), 256)) < noise, axis=1)
    rows = rows ^ flips
    assert near.clusters([row.tobytes().hex() for row in rows]) == brute(rows, RADIUS)


def test_pairs_at_the_radius_are_found_wherever_their_bits_differ() -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        one = random.integers(0, 256, 32, dtype=np.uint8)
        for differ, expected in ((RADIUS, 1), (RADIUS + 1, 0)):
            flips = np.zeros(256, np.uint8)
            flips[random.choice(256, differ, replace=False)] = 1
            both = [one.tobytes().hex(), (one ^ np.packbits(flips)).tobytes().hex()]
            assert len(near.clusters(both)) == expected


def test_many_alike_are_one_cluster() -> None:
    assert near.clusters(["ab" * 32] * 3000) == [list(range(3000))]
    assert near.clusters(["ab" * 32]) == near.clusters([]) == near.clusters(["", ""]) == []


def test_more_hashes_than_are_compared_at_once() -> None:
    """Copies are found wherever in the list the two are; what is not asked about is near nothing."""
    random = np.random.default_rng(5)
    rows = random.integers(0, 256, (3 * near._TOGETHER + 7, 32), dtype=np.uint8)
    expected = []
    for number, (one, other) in enumerate(random.permutation(len(rows))[:200].reshape(-1, 2).tolist()):
        flips = np.zeros(256, np.uint8)
        flips[random.choice(256, number % (RADIUS + 1), replace=False)] = 1
        rows[other] = rows[one] ^ np.packbits(flips)
        expected.append(sorted((one, other)))
    hashes = [row.tobytes().hex() for row in rows]
    hashes[expected[0][0]] = ""
    assert near.clusters(hashes) == sorted(expected[1:])

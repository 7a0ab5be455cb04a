"""Which hashes lie near each other, without comparing every one with every other.

Multi-index hashing (Norouzi, Punjani, Fleet 2012, arXiv:1307.2982): two hashes that differ in at most r bits agree
on at least one of r + 1 parts, so only those that share a part are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def clusters(hashes: Sequence[str], radius: int) -> list[list[int]]:
    """Positions of hashes (hex, all of one length, a multiple of 64 bits) that hang together by steps of at most
    ``radius`` bits; only clusters of two or more, each sorted, in the order of their first.
    """
    if len(hashes) < 2:
        return []
    rows = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), -1)
    unique, place = np.unique(rows, axis=0, return_inverse=True)
    roots = _roots(len(unique), *pairs(unique, radius))[place.ravel()]
    order = np.argsort(roots, kind="stable")
    cuts = np.flatnonzero(np.diff(roots[order])) + 1
    found = [part.tolist() for part in np.split(order, cuts) if len(part) > 1]
    return sorted(found)


def pairs(rows: NDArray[np.uint8], radius: int) -> tuple[Numbers, Numbers]:
    """The pairs of ``rows`` (n, bytes; no two alike) that differ in at most ``radius`` bits; one may come twice."""
    words = np.ascontiguousarray(rows).view(np.uint64)
    bits = np.unpackbits(rows, axis=1)
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for part in range(radius + 1):
        for one, other in _sharing(bits[:, part :: radius + 1]):  # every r-th bit: neighbours in a hash go together
            near = np.bitwise_count(words[one] ^ words[other]).sum(1) <= radius
            found.append((one[near], other[near]))
    return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])


def _sharing(bits: NDArray[np.uint8]) -> Iterator[tuple[Numbers, Numbers]]:
    """All pairs of rows that are alike, as arrays of first and second: each with the next, with the one after …"""
    keys = bits.astype(np.int64) @ (1 << np.arange(bits.shape[1], dtype=np.int64))
    order = np.argsort(keys, kind="stable")
    keys, at, ahead = keys[order], np.arange(len(order)), 1
    while True:
        at = at[at < len(order) - ahead]
        at = at[keys[at] == keys[at + ahead]]
        if not len(at):
            return
        yield order[at], order[at + ahead]
        ahead += 1


def _roots(count: int, one: Numbers, other: Numbers) -> Numbers:
    """The smallest position that each one hangs together with."""
    roots = np.arange(count)
    while True:
        before = roots.copy()
        least = np.minimum(roots[one], roots[other])
        np.minimum.at(roots, one, least)
        np.minimum.at(roots, other, least)
        roots = roots[roots]
        if (roots == before).all():
            return roots

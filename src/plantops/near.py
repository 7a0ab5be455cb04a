"""What a picture looks like as a hash, and which hashes lie near each other: one picture saved twice.

Near ones are found without comparing every one with every other, by multi-index hashing (Norouzi, Punjani, Fleet 2012,
arXiv:1307.2982): two hashes that differ in at most r bits agree on at least one of r + 1 parts, so only those that
share a part are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BITS = 256
# Of 256 bits. Measured on 4,432 real photos (docs/data.md): a picture saved again, smaller, brighter or in other
# colours is at most 14 away; the next shot of the same leaf at least 30; another leaf at least 78.
RADIUS = 22
# Standard deviation of the brightness, of 255, under which a picture shows nothing and its hash says nothing. The
# flattest of the same photos has 9.4.
BLANK = 5.0
SIDE, _WAVES = 32, 16

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_n = np.arange(SIDE)
_COSINES = np.cos(np.pi * (2 * _n + 1) * _n[:_WAVES, None] / (2 * SIDE)).astype(np.float32)

Numbers = NDArray[np.int64]


def grey(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The brightness, (32, 32), of a picture of 32 x 32 pixels in RGB."""
    brightness: NDArray[np.float32] = small.astype(np.float32) @ _GREY
    return brightness


def perceptual(grey: NDArray[np.float32]) -> str:
    """A hash of what a picture shows, hex: which of its lowest 16 x 16 cosine waves are above their median.

    ``grey``: brightness, shape (32, 32). pHash (Zauner 2010, phash.org) at 256 bits in place of 64.
    """
    waves = (_COSINES @ grey @ _COSINES.T).ravel()
    median = np.partition(waves[1:], len(waves) // 2 - 1)[len(waves) // 2 - 1]  # a fifth of what np.median takes
    return np.packbits(waves > median).tobytes().hex()


def shown(pixels: NDArray[np.uint8]) -> str:
    """The hash of a picture (rows, columns, 3) at any size; empty where it shows nothing."""
    small = grey(np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
    return perceptual(small) if small.std() >= BLANK else ""


def copies(asked: Sequence[str], known: Sequence[str], radius: int = RADIUS) -> dict[int, int]:
    """Position of each hash in ``asked`` that is within ``radius`` bits of one in ``known`` -> that of the nearest.

    Empty hashes are near nothing.
    """
    places = [at for at, one in enumerate(known) if one]
    if not places:
        return {}
    words = _rows([known[at] for at in places]).view(np.uint64)
    found = {}
    for at, one in enumerate(asked):
        if one:
            bits = np.bitwise_count(words ^ _rows([one]).view(np.uint64)).sum(1)
            if bits.min() <= radius:
                found[at] = places[int(bits.argmin())]
    return found


def _rows(hashes: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), -1)


def clusters(hashes: Sequence[str], radius: int) -> list[list[int]]:
    """Positions of hashes (hex, all of one length, a multiple of 64 bits) that hang together by steps of at most
    ``radius`` bits; only clusters of two or more, each sorted, in the order of their first.
    """
    if len(hashes) < 2:
        return []
    rows = _rows(hashes)
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

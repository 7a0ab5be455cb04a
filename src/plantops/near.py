"""What a picture looks like as a hash, and which hashes lie near each other: one picture saved twice.

Near ones are found without comparing every one with every other, by multi-index hashing (Norouzi, Punjani, Fleet 2012,
arXiv:1307.2982): two hashes that differ in at most r bits agree on at least one of r + 1 parts, so only those that
share a part are compared. A part has 11 bits, so that is one pair in 89: the work grows with the square of the photos,
slowly (docs/scale.md). Memory does not: the hashes lie in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

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

_PARTS = RADIUS + 1
_BYTES, _WORDS = HASH_BITS // 8, HASH_BITS // 64
_NOTHING = bytes(_BYTES)
_NO_KEY = 1 << (HASH_BITS // _PARTS + 1)  # more than any key
_TOGETHER = 1 << 13  # rows compared with each other at once, unless more share one key
_READ, _READ_KEYS = 1 << 11, 1 << 14  # rows and keys read at once

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


def clusters(hashes: Iterable[str], folder: Path | None = None) -> list[list[int]]:
    """Positions of hashes that hang together by steps of at most RADIUS bits; empty ones are near nothing.

    Only clusters of two or more, each sorted, in the order of their first. The hashes lie in a file without a name in
    ``folder`` meanwhile (default: the one for temporary files); of each, four bytes are held in memory.
    """
    with TemporaryFile(dir=folder) as rows, TemporaryFile(dir=folder) as keys:
        count = _write(hashes, rows)
        _write_keys(rows, keys, count)
        roots = np.arange(count, dtype=np.int32)
        for one, other in _pairs(rows, keys, count):
            _unite(roots, one, other)
    return _members(roots)


def _write(hashes: Iterable[str], rows: IO[bytes]) -> int:
    for one in hashes:
        rows.write(bytes.fromhex(one) if one else _NOTHING)
    return rows.tell() // _BYTES


def _write_keys(rows: IO[bytes], keys: IO[bytes], count: int) -> None:
    """For each part, two bytes a row: its bits in that part. Every r-th bit: neighbours in a hash go together."""
    weights = np.zeros((HASH_BITS, _PARTS), np.float32)
    for part in range(_PARTS):
        own = np.arange(part, HASH_BITS, _PARTS)
        weights[own, part] = 2.0 ** np.arange(len(own))
    for at in range(0, count, _READ):
        block = _rows_at(rows, at, min(_READ, count - at))
        found = (np.unpackbits(block, axis=1).astype(np.float32) @ weights).astype(np.uint16)
        found[~block.any(1)] = _NO_KEY
        for part in range(_PARTS):
            keys.seek(2 * (part * count + at))
            keys.write(found[:, part].tobytes())


def _pairs(rows: IO[bytes], keys: IO[bytes], count: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Positions of the pairs that are within the radius; one may come several times."""
    for part in range(_PARTS):
        for first, last in _ranges(keys, part, count):
            at, own = _within(keys, part, count, first, last)
            for one, other in _alike(_rows_of(rows, at, count), own):
                yield at[one], at[other]


def _ranges(keys: IO[bytes], part: int, count: int) -> Iterator[tuple[int, int]]:
    """First and last keys of a part such that about as many rows as are compared at once lie between."""
    held = np.zeros(_NO_KEY + 1, np.int64)
    for _, block in _keys_of(keys, part, count):
        held += np.bincount(block, minlength=len(held))
    first, rows = 0, 0
    present = np.flatnonzero(held[:_NO_KEY]).tolist()
    for key in present:
        if rows and rows + held[key] > _TOGETHER:
            yield first, key - 1
            first, rows = key, 0
        rows += int(held[key])
    if rows:
        yield first, present[-1]


def _keys_of(keys: IO[bytes], part: int, count: int) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """(position of the first, keys) of one part, some at a time."""
    for at in range(0, count, _READ_KEYS):
        keys.seek(2 * (part * count + at))
        yield at, np.frombuffer(keys.read(2 * min(_READ_KEYS, count - at)), np.uint16)


def _within(keys: IO[bytes], part: int, count: int, first: int, last: int) -> tuple[Numbers, NDArray[np.uint16]]:
    """Positions of the rows whose key lies between, and the keys."""
    places, found = [], []
    for at, block in _keys_of(keys, part, count):
        inside = np.flatnonzero((block >= first) & (block <= last))
        places.append(inside + at)
        found.append(block[inside])
    return np.concatenate(places), np.concatenate(found)


def _rows_of(rows: IO[bytes], places: Numbers, count: int) -> NDArray[np.uint64]:
    """The rows at ``places``, which ascend, as words (n, 4)."""
    found = np.empty((len(places), _WORDS), np.uint64)
    cuts = np.searchsorted(places, np.arange(0, count + _READ, _READ))
    for number, (begin, end) in enumerate(pairwise(cuts.tolist())):
        if begin < end:
            at = number * _READ
            block = _rows_at(rows, at, min(_READ, count - at))
            found[begin:end] = block.view(np.uint64)[places[begin:end] - at]
    return found


def _rows_at(rows: IO[bytes], at: int, count: int) -> NDArray[np.uint8]:
    rows.seek(_BYTES * at)
    return np.frombuffer(rows.read(_BYTES * count), np.uint8).reshape(count, _BYTES)


def _alike(words: NDArray[np.uint64], keys: NDArray[np.uint16]) -> Iterator[tuple[Numbers, Numbers]]:
    """Pairs within the radius among rows whose keys are the same, by position: each with the next, with the one after
    that … What is stored as it is several times is a chain."""
    order = np.lexsort((words[:, 0], keys))
    words, keys = words[order], keys[order]
    same = (words[1:] == words[:-1]).all(1)
    yield order[:-1][same], order[1:][same]
    kept = np.flatnonzero(np.append(True, ~same))
    order, words, keys = order[kept], words[kept], keys[kept]
    start = np.ascontiguousarray(
        words[:, 0]
    )  # of two pictures that are not alike, a quarter of the bits tells nearly all
    at, ahead = np.arange(len(order)), 1
    while len(at := at[at < len(order) - ahead]) and len(at := at[keys[at] == keys[at + ahead]]):
        close = at[np.bitwise_count(start[at] ^ start[at + ahead]) <= RADIUS]
        close = close[np.bitwise_count(words[close] ^ words[close + ahead]).sum(1) <= RADIUS]
        if len(close):
            yield order[close], order[close + ahead]
        ahead += 1


def _unite(roots: NDArray[np.int32], one: Numbers, other: Numbers) -> None:
    """Hang each pair together: the larger root on the smaller."""
    while len(one):
        one, other = _top(roots, one), _top(roots, other)
        apart = one != other
        one, other = one[apart], other[apart]
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other).astype(np.int32))


def _top(roots: NDArray[np.int32], at: Numbers) -> Numbers:
    """The roots of ``at``; the way there is half as long the next time."""
    while (roots[roots[at]] != roots[at]).any():
        roots[at] = roots[roots[at]]
    return roots[at].astype(np.int64)


def _members(roots: NDArray[np.int32]) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    for start in range(0, len(roots), _READ_KEYS):
        block = roots[start : start + _READ_KEYS]
        for one in (np.flatnonzero(block != np.arange(start, start + len(block))) + start).tolist():
            root = int(_top(roots, np.array([one]))[0])
            found.setdefault(root, [root]).append(one)
    return [found[root] for root in sorted(found)]

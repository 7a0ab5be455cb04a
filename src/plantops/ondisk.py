"""Lists that may be longer than memory: rows as they came, rows sorted, and which of the same came first.

All lie in files without a name (in ``folder``, or where temporary files lie): nothing is left of them when the process
ends, however it ends.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

Row = list[Any]
_TOGETHER = 1 << 13
_PIECE = 1 << 12  # bytes of a file read at once


def unnamed(folder: Path | None = None, buffering: int = -1) -> IO[bytes]:
    """An empty file that goes when nobody holds it any more."""
    return TemporaryFile(dir=folder, buffering=buffering)


class Rows:
    """Rows of plain values (as JSON knows them, and text in any encoding) in the order they came.

    May be read while others read it and while it grows.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file, self._count = unnamed(folder), 0
        self.end = 0  # where the next row will begin

    def add(self, *row: Any) -> None:
        """Append one."""
        line = _line(row)
        self._file.write(line)
        self.end, self._count = self.end + len(line), self._count + 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        self._file.flush()
        return _rows(self._file, 0, self.end)

    def at(self, place: int) -> Row:
        """The row that begins at ``place``."""
        self._file.flush()
        return next(_rows(self._file, place, self.end))


class Sorted:
    """Rows in the order of their first column, text; those with the same in the order they came.

    An external merge sort: rows are sorted some thousands at a time and merged as they are read.
    """

    def __init__(self, folder: Path | None = None, together: int = _TOGETHER) -> None:
        """``together``: rows sorted in memory at once."""
        self._file, self._cuts, self._together = unnamed(folder), [0], together
        self._fresh: list[tuple[Any, ...]] = []

    def add(self, *row: Any) -> None:
        """Append one."""
        self._fresh.append(row)
        if len(self._fresh) == self._together:
            self._keep()

    def __iter__(self) -> Iterator[Row]:
        self._keep()
        runs = zip(self._cuts, self._cuts[1:], strict=False)
        return heapq.merge(*(_rows(self._file, *run) for run in runs), key=itemgetter(0))

    def _keep(self) -> None:
        if not self._fresh:
            return
        self._fresh.sort(key=itemgetter(0))
        self._file.writelines(map(_line, self._fresh))
        self._file.flush()
        self._cuts.append(self._file.tell())
        self._fresh = []


class First:
    """A table of md5 and a place, open addressing, at most half full: 48 to 96 bytes of disk each, none of memory."""

    def __init__(self, count: int, folder: Path | None = None) -> None:
        """``count``: how many will be asked about at most."""
        self._slots = 1 << (2 * count).bit_length()
        self._file = unnamed(folder, 0)
        self._file.truncate(self._slots * _SLOT)

    def of(self, md5: str, place: int) -> int:
        """The place that came with the first of this md5; ``place`` where this is it."""
        key, file = bytes.fromhex(md5), self._file.fileno()
        slot = int.from_bytes(key[:8], "big") % self._slots
        while any(held := os.pread(file, _SLOT, slot * _SLOT)):
            if held[:_KEY] == key:
                return int.from_bytes(held[_KEY:], "big") - 1
            slot = (slot + 1) % self._slots
        os.pwrite(file, key + (place + 1).to_bytes(_SLOT - _KEY, "big"), slot * _SLOT)  # 0 is for an empty slot
        return place


_KEY, _SLOT = 16, 24  # bytes


def _line(row: tuple[Any, ...]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n"


def _rows(file: IO[bytes], start: int, end: int) -> Iterator[Row]:
    """The rows between two places of an open file."""
    rest = b""
    while start < end:
        piece = os.pread(file.fileno(), min(_PIECE, end - start), start)
        start += len(piece)
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)

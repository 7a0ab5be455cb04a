"""Files as they are read: the md5 of their bytes, and of photos the pixels. On all cores, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plantops import near
from plantops.ahead import ahead, cores, one_large
from plantops.errors import MOVED, StepFailed
from plantops.ml.params import Params
from plantops.ml.stage import plain
from plantops.ml.survey import is_photo, recorded_as_read
from plantops.photo import LARGEST_FILE, NotAPhoto, is_drawn, open_photo, pixels
from plantops.preprocess import Preprocessing

_TOGETHER = 8  # files that a core reads before it is given others


@dataclass(frozen=True)
class Read:
    """One file as it was read: the md5 of its bytes, and its pixels or the reason why there are none."""

    path: str
    md5: str
    pixels: NDArray[np.uint8] | None = None
    drawn: bool = False
    shows: str = ""  # by plantops.near
    reason: str = ""
    gone: bool = False


def read_all(raw: Path, files: Iterable[tuple[str, int]], spec: Preprocessing, params: Params) -> Iterator[Read]:
    """Read and decode ``files`` (path below ``raw``, bytes) a few ahead. Pillow lets go of the GIL.

    Raises StepFailed when one cannot be read.
    """
    waiting = iter(files)
    some = iter(lambda: list(islice(waiting, _TOGETHER)), [])
    for read in ahead(lambda few: [_read_one(raw, path, size, spec, params) for path, size in few], some, cores()):
        yield from read


def _read_one(raw: Path, path: str, size: int, spec: Preprocessing, params: Params) -> Read:
    if recorded_as_read() and not (raw / path).exists():
        return Read(path, "", gone=True)  # never seen, never recorded: as if it had not been there
    if not is_photo(path) or path == params.split.group_by:
        return Read(path, _md5(raw, path))
    if "/" not in path:
        return Read(path, _md5(raw, path), reason="not in the folder of a class")
    if size > LARGEST_FILE:
        return Read(path, _md5(raw, path), reason=f"{size / 1e9:.1f} GB, too large for a photo")
    with one_large(size):
        return _decoded(path, contents(raw, path), spec, params)


def _decoded(path: str, data: bytes, spec: Preprocessing, params: Params) -> Read:
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    try:
        image = open_photo(data)
        if min(image.size) < params.prepare.min_side:
            width, height = image.size
            return Read(path, md5, reason=f"{width} x {height} pixels, smaller than {params.prepare.min_side}")
        drawn = is_drawn(image)
        shown = pixels(image, spec)
        return Read(path, md5, shown, drawn, "" if drawn else near.shown(shown))
    except NotAPhoto as error:
        return Read(path, md5, reason=str(error))


def contents(raw: Path, path: str) -> bytes:
    """The bytes of a photo. Raises StepFailed when it is gone or cannot be read."""
    with _readable(raw, path):
        return (raw / path).read_bytes()


def _md5(raw: Path, path: str) -> str:
    """Of a file of any size."""
    with _readable(raw, path), (raw / path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _readable(raw: Path, path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise StepFailed(f"{MOVED}: {plain(path)} went", "run again") from None
    except OSError as error:
        raise StepFailed(f"{plain(str(raw / path))} cannot be read: {error.strerror}") from None

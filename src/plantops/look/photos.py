"""All photos with what a look at each gave. A photo is read once, hashed and decoded from the same bytes.

In memory are the names of one class; what was seen of all lies on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from plantops import dvc, scan
from plantops.ahead import ahead, cores, one_large
from plantops.errors import MOVED, StepFailed
from plantops.look import facts
from plantops.look.facts import HUGE, VERSION, Facts
from plantops.ondisk import Rows
from plantops.photo import LARGEST_FILE
from plantops.store import Store

_TOGETHER = 1000  # photos asked about, and looks written down, at once


class Photo(NamedTuple):
    """A file in the folder of a class; ``path`` is relative to the folder of photos."""

    path: str
    md5: str
    facts: Facts

    @property
    def label(self) -> str:
        """The class whose folder it lies in."""
        return self.path.partition("/")[0]


class Photos:
    """Photos in the order of their classes and paths. They are read from disk by each who goes through them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Photo]:
        return (Photo(path, md5, Facts(*seen)) for path, md5, seen in self._rows)


class Album:
    """The photos of a project, and the looks at them in its store."""

    def __init__(self, root: Path, store: Store, remember: bool = True) -> None:
        """``remember``: keep what was seen for the next time, where the store can be written."""
        self.raw = dvc.raw_folder(root)
        self.looked = 0
        self._root, self._store, self._remember = root, store, remember
        self._fresh: dict[str, Facts] = {}  # not in the store yet
        self._unkept: dict[str, Facts] = {}  # all, where the store cannot be written
        self._asking = Lock()  # the store, from several threads

    def photos(self, progress: Callable[[int], None] = lambda done: None) -> Photos:
        """Every file in the folder of a class, by path. Raises StepFailed when one cannot be read or moves meanwhile.

        ``progress`` is told how many folders are done, after each.
        """
        rows = Rows()
        listed = scan.listed(self._root, self.raw, self._store, self._look, self._remember)
        for done, (inside, folder) in enumerate(listed, 1):
            self._keep_fresh()
            meant = iter(sorted(path for path in folder if _meant(inside + path)))
            while some := {inside + path: folder[path] for path in islice(meant, _TOGETHER)}:
                seen = self._seen(some)
                for path, md5 in some.items():
                    rows.add(path, md5, seen[md5])
            progress(done)
        if self.looked and self._remember:
            self._store.forget_looks(VERSION)
        return Photos(rows)

    def with_pixels(self, photos: Iterable[Photo]) -> list[Photo]:
        """The same photos with a digest of all their pixels; those that have none yet are decoded in full."""
        photos = list(photos)
        missing = {one.md5: one for one in photos if not one.facts.pixels}
        digests = self._together(lambda path: facts.pixel_digest(_bytes(path)), (one.path for one in missing.values()))
        found = {md5: one.facts._replace(pixels=new) for (md5, one), new in zip(missing.items(), digests, strict=True)}
        self._keep(found)
        return [one._replace(facts=found.get(one.md5, one.facts)) for one in photos]

    def _seen(self, photos: dict[str, str]) -> dict[str, Facts]:
        """What was seen of each md5 among some photos (path: md5); those that were only hashed are looked at now."""
        known = self._known(photos.values())
        unseen = {md5: path for path, md5 in photos.items() if md5 not in known}
        if not unseen.keys() <= set(self._together(self._look, unseen.values())):
            raise StepFailed(MOVED, "run again when the copying is done")
        self._keep_fresh()
        return known | self._known(unseen)

    def _known(self, md5s: Iterable[str]) -> dict[str, Facts]:
        md5s = list(md5s)
        found = {md5: Facts.from_text(text) for md5, text in self._store.looks(VERSION, md5s).items()}
        return found | {md5: self._unkept[md5] for md5 in md5s if md5 in self._unkept}

    def _look(self, path: Path) -> str:
        """The md5 of a file, and what a look at it gives, unless its bytes are known."""
        size = _size(path)
        if size > LARGEST_FILE:
            md5, seen = scan.md5_of(path), Facts(HUGE, f"{size / 1e9:.1f} GB, too large for a photo")
            return self._add(md5, lambda: seen)
        with one_large(size):
            data = _bytes(path)
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            return self._add(md5, lambda: facts.read(data))

    def _add(self, md5: str, look: Callable[[], Facts]) -> str:
        with self._asking:
            known = md5 in self._fresh or self._known([md5])
        if not known:
            seen = look()
            with self._asking:
                if not self._known([md5]):  # by another thread meanwhile, of another file
                    self._fresh[md5] = seen
                if len(self._fresh) == _TOGETHER:
                    self._keep_fresh()
        return md5

    def _keep_fresh(self) -> None:
        self.looked += len(self._fresh)
        self._keep(self._fresh)
        self._fresh = {}

    def _keep(self, seen: dict[str, Facts]) -> None:
        if not self._remember:
            self._unkept |= seen
        elif seen:
            self._store.remember_looks(VERSION, {md5: one.to_text() for md5, one in seen.items()})

    def _together(self, work: Callable[[Path], str], paths: Iterable[str]) -> list[str]:
        """On all cores: Pillow lets go of the interpreter while it decodes."""
        return list(ahead(work, (self.raw / path for path in paths), cores()))


def _meant(path: str) -> bool:
    """Whether a file is meant as a photo of a class: hidden files and DVC's are not."""
    parts = path.split("/")
    return len(parts) > 1 and not path.endswith(".dvc") and not any(part.startswith(".") for part in parts)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise scan.unreadable(path, error) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise scan.unreadable(path, error) from None

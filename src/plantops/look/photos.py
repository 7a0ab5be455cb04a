"""All photos with what a look at each gave. A photo is read once, hashed and decoded from the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from plantops import dvc, scan
from plantops.errors import MOVED, StepFailed
from plantops.look import facts
from plantops.look.facts import VERSION, Facts
from plantops.store import Store

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Photo:
    """A file in the folder of a class; ``path`` is relative to the folder of photos."""

    path: str
    md5: str
    facts: Facts

    @property
    def label(self) -> str:
        """The class whose folder it lies in."""
        return self.path.partition("/")[0]


class Album:
    """The photos of a project, and the looks at them in its store."""

    def __init__(self, root: Path, store: Store, remember: bool = True) -> None:
        """``remember``: keep what was seen for the next time, where the store can be written."""
        self.raw = dvc.raw_folder(root)
        self.looked = 0
        self._store, self._remember = store, remember
        self._known = {md5: Facts.from_text(text) for md5, text in store.looks(VERSION).items()}
        self._fresh: dict[str, Facts] = {}
        self._root = root

    def photos(self, progress: Callable[[int], None] = lambda done: None) -> list[Photo]:
        """Every file in the folder of a class, by path. Raises StepFailed when one cannot be read or moves meanwhile.

        ``progress`` is told how many folders are done, after each.
        """
        paths: dict[str, str] = {}
        listed = scan.listed(self._root, self.raw, self._store, self._look, self._remember)
        for done, folder in enumerate(listed, 1):
            paths |= {path: md5 for path, md5 in sorted(folder.items()) if _meant(path)}
            progress(done)
        unseen = {md5: path for path, md5 in paths.items() if md5 not in self._known and md5 not in self._fresh}
        if not unseen.keys() <= set(_together(self._look, [self.raw / path for path in unseen.values()])):
            raise StepFailed(MOVED, "run again when the copying is done")
        self._keep()
        return [Photo(path, md5, self._known[md5]) for path, md5 in paths.items()]

    def with_pixels(self, photos: Iterable[Photo]) -> list[Photo]:
        """The same photos with a digest of all their pixels; those that have none yet are decoded in full."""
        photos = list(photos)
        missing = {one.md5: one.path for one in photos if not self._known[one.md5].pixels}
        digests = _together(lambda path: facts.pixel_digest(_bytes(path)), [self.raw / one for one in missing.values()])
        self._fresh |= {md5: replace(self._known[md5], pixels=one) for md5, one in zip(missing, digests, strict=True)}
        self._keep()
        return [replace(one, facts=self._known[one.md5]) for one in photos]

    def _look(self, path: Path) -> str:
        """The md5 of a file, and what a look at it gives, unless its bytes are known."""
        data = _bytes(path)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if md5 not in self._known and md5 not in self._fresh:
            self._fresh[md5] = facts.read(data)
        return md5

    def _keep(self) -> None:
        self.looked += len(self._fresh.keys() - self._known.keys())
        self._known |= self._fresh
        if self._fresh and self._remember:
            self._store.remember_looks(VERSION, {md5: one.to_text() for md5, one in self._fresh.items()})
        self._fresh = {}


def _meant(path: str) -> bool:
    """Whether a file is meant as a photo of a class: hidden files and DVC's are not."""
    parts = path.split("/")
    return len(parts) > 1 and not path.endswith(".dvc") and not any(part.startswith(".") for part in parts)


def _together(work: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """On all cores: Pillow lets go of the interpreter while it decodes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise scan.unreadable(path, error) from None

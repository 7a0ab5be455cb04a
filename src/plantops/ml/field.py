"""Photos from the field, in data/field/<Class>/: looked at when a model is judged, never learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from plantops import near
from plantops.errors import MOVED, StepFailed
from plantops.ml.files import FIELD
from plantops.ml.prepared import Photo, Prepared
from plantops.ml.stage import plain
from plantops.ml.survey import is_photo, survey
from plantops.photo import NotAPhoto, decode
from plantops.preprocess import Preprocessing


@dataclass(frozen=True)
class Field:
    """Photos of classes that the model knows, their pixels (n, size, size, 3), and why others were left out.

    ``copies``: those left out because they are, or nearly are, photos of the data set: path -> which one ("": gone).
    """

    photos: tuple[Photo, ...]
    pixels: NDArray[np.uint8]
    set_aside: dict[str, str]
    copies: dict[str, str]


@dataclass(frozen=True)
class Known:
    """The data set, which field photos must not be of. ``past``: md5 of photos learned from that are no more in it."""

    prepared: Prepared
    past: Set[str] = frozenset()

    def of_bytes(self, md5: str) -> str | None:
        """The path of the photo with these bytes, empty where it is gone; None where none was known."""
        return self._paths.get(md5, "" if md5 in self.past else None)

    def like(self, pixels: NDArray[np.uint8]) -> dict[int, str]:
        """Position in ``pixels`` (n, size, size, 3), the path of the photo that shows the same, saved otherwise.

        Drawn sample leaves are not compared: their shots differ less than those of photos.
        """
        if self.prepared.meta.sample_data or not len(pixels):
            return {}
        listed = [photo.path for photo in self.prepared.photos]
        found = near.copies([near.shown(one) for one in pixels], [near.shown(one) for one in self.prepared.images])
        return {at: listed[of] for at, of in found.items()}

    @cached_property
    def _paths(self) -> dict[str, str]:
        return {photo.md5: photo.path for photo in self.prepared.photos}


def read(spec: Preprocessing, classes: tuple[str, ...], known: Known, folder: Path = FIELD) -> Field | None:
    """Read all photos below ``folder``; None where there are none. Copies of ``known`` photos are not asked about.

    Raises StepFailed when photos moved while they were read.
    """
    before = survey(folder, unrecorded=True)
    photos, pixels, aside, copies = list[Photo](), [], dict[str, str](), dict[str, str]()
    for path in filter(is_photo, before.files):
        found = _read(folder, path, spec, classes)
        if isinstance(found, str):
            aside[path] = found
        elif (of := known.of_bytes(found[0])) is not None:
            copies[path] = of
        else:
            photos.append(Photo(len(photos), path, found[0], PurePosixPath(path).parts[0], "", "field"))
            pixels.append(found[1])
    if survey(folder, unrecorded=True) != before:
        raise StepFailed(f"{MOVED}: in {folder}", "run again when the copying is done")
    if not photos and not aside and not copies:
        return None
    stack = np.stack(pixels) if pixels else np.empty((0, spec.size, spec.size, 3), np.uint8)
    return _without_versions(Field(tuple(photos), stack, aside, copies), known)


def _without_versions(found: Field, known: Known) -> Field:
    """Without photos that show the same picture as one of the data set, saved otherwise."""
    like = known.like(found.pixels)
    kept = [at for at in range(len(found.photos)) if at not in like]
    copies = found.copies | {found.photos[at].path: of for at, of in like.items()}
    photos = tuple(replace(found.photos[at], row=row) for row, at in enumerate(kept))
    return Field(photos, found.pixels[kept], found.set_aside, copies)


def _read(
    folder: Path, path: str, spec: Preprocessing, classes: tuple[str, ...]
) -> tuple[str, NDArray[np.uint8]] | str:
    """md5 and pixels of a photo, or why it cannot be asked about."""
    if PurePosixPath(path).parts[0] not in classes or "/" not in path:
        return "not in the folder of a class that the model knows"
    try:
        data = (folder / path).read_bytes()
        return hashlib.md5(data, usedforsecurity=False).hexdigest(), decode(data, spec)
    except FileNotFoundError:
        raise StepFailed(f"{MOVED}: {plain(path)} went", "run again") from None
    except OSError as error:
        raise StepFailed(f"{plain(str(folder / path))} cannot be read: {error.strerror}") from None
    except NotAPhoto as error:
        return str(error)

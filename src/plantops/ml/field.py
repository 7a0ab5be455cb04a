"""Photos from the field, in data/field/<Class>/: looked at when a model is judged, never learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from plantops.errors import MOVED, StepFailed
from plantops.ml.files import FIELD
from plantops.ml.prepared import Photo
from plantops.ml.stage import plain
from plantops.ml.survey import is_photo, survey
from plantops.photo import NotAPhoto, decode
from plantops.preprocess import Preprocessing


@dataclass(frozen=True)
class Field:
    """Photos of classes that the model knows, their pixels (n, size, size, 3), and why others were left out."""

    photos: tuple[Photo, ...]
    pixels: NDArray[np.uint8]
    set_aside: dict[str, str]


def read(spec: Preprocessing, classes: tuple[str, ...], learned: Set[str], folder: Path = FIELD) -> Field | None:
    """Read all photos below ``folder``; None where there are none. ``learned``: md5 of photos not to be asked about.

    Raises StepFailed when photos moved while they were read.
    """
    before = survey(folder)
    photos, pixels, aside = list[Photo](), [], dict[str, str]()
    for path in filter(is_photo, before.files):
        found = _read(folder, path, spec, classes, learned)
        if isinstance(found, str):
            aside[path] = found
            continue
        photos.append(Photo(len(photos), path, found[0], PurePosixPath(path).parts[0], "", "field"))
        pixels.append(found[1])
    if survey(folder) != before:
        raise StepFailed(f"{MOVED}: in {folder}", "run again when the copying is done")
    if not photos and not aside:
        return None
    shape = (0, spec.size, spec.size, 3)
    return Field(tuple(photos), np.stack(pixels) if pixels else np.empty(shape, np.uint8), aside)


def _read(
    folder: Path, path: str, spec: Preprocessing, classes: tuple[str, ...], learned: Set[str]
) -> tuple[str, NDArray[np.uint8]] | str:
    """md5 and pixels of a photo, or why it cannot be asked about."""
    if PurePosixPath(path).parts[0] not in classes or "/" not in path:
        return "not in the folder of a class that the model knows"
    try:
        data = (folder / path).read_bytes()
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return "the same photo is in the training data, or was" if md5 in learned else (md5, decode(data, spec))
    except FileNotFoundError:
        raise StepFailed(f"{MOVED}: {plain(path)} went", "run again") from None
    except OSError as error:
        raise StepFailed(f"{plain(str(folder / path))} cannot be read: {error.strerror}") from None
    except NotAPhoto as error:
        return str(error)

"""The prepared photos: pixels packed in one file, and the list that says which photo each row is.

``images.u8``   uint8 (count, size, size, 3), RGB, raw bytes
``images.json`` in its place where `prepare.store` keeps them elsewhere: the address, and sha256 of all bytes
``index.csv``   row, path (relative to the raw folder), md5, class, group, split
``meta.json``   classes, the preprocessing without mean and std, count, sample_data, digest
``golden/``     a few photos as they came
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantops.errors import StepFailed
from plantops.ml import pixels
from plantops.ml.files import PREPARED, open_csv
from plantops.preprocess import Preprocessing

IMAGES, INDEX, META, GOLDEN = "images.u8", "index.csv", "meta.json", "golden"
SPLITS = ("train", "val", "test")
COLUMNS = ("row", "path", "md5", "class", "group", "split")
GREY = (0.5, 0.5, 0.5)  # stands in for mean and std, which belong to the model


@dataclass(frozen=True, slots=True)  # there may be a million
class Photo:
    """One usable photo. ``row`` counts in images.u8; ``path`` is relative to the raw folder."""

    row: int
    path: str
    md5: str
    label: str
    group: str
    split: str


@dataclass(frozen=True)
class Meta:
    """``meta.json``."""

    classes: tuple[str, ...]
    size: int
    fit: str
    filter: str
    turn: bool
    count: int
    sample_data: bool
    digest: str

    def preprocessing(
        self, mean: tuple[float, float, float] = GREY, std: tuple[float, float, float] = GREY
    ) -> Preprocessing:
        """How these photos were made into pixels, with a model's mean and std."""
        return Preprocessing(self.size, self.fit, self.filter, self.turn, mean, std)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Prepared:
    """What prepare_data left in ``folder``."""

    folder: Path
    meta: Meta
    photos: tuple[Photo, ...]

    @classmethod
    def load(cls, folder: Path = PREPARED) -> Prepared:
        """Read the index. Raises StepFailed when a file is missing or they do not belong together."""
        try:
            values = json.loads((folder / META).read_text())
            meta = Meta(**{**values, "classes": tuple(values["classes"])})
            photos = tuple(read_index(folder / INDEX))
        except FileNotFoundError as error:
            raise StepFailed(f"{error.filename} is missing", "dvc repro prepare_data") from None
        if len(photos) != meta.count:
            raise StepFailed(f"{folder} is not whole", "dvc repro --force --single-item prepare_data")
        found = cls(folder, meta, photos)
        found.images  # noqa: B018  whether they are there and whole is asked now
        return found

    @cached_property
    def images(self) -> pixels.Pixels:
        """All pixels, read as they are needed. Raises StepFailed when they are not there or not whole."""
        shape = (self.meta.count, self.meta.size, self.meta.size, 3)
        return pixels.open_(self.folder / IMAGES, shape)

    def of(self, split: str) -> tuple[Photo, ...]:
        """The photos of one split."""
        return tuple(photo for photo in self.photos if photo.split == split)

    def labels(self, photos: Iterable[Photo]) -> NDArray[np.int64]:
        """Class numbers of ``photos``."""
        number = {name: index for index, name in enumerate(self.meta.classes)}
        return np.array([number[photo.label] for photo in photos], np.int64)


def read_index(path: Path) -> list[Photo]:
    """Read an index.csv. Raises FileNotFoundError, or StepFailed when it is none."""
    return list(each_of_index(path))


def each_of_index(path: Path) -> Iterator[Photo]:
    """As :func:`read_index`, one after the other."""
    with open_csv(path) as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != COLUMNS:
            raise StepFailed(f"{path} does not have the columns {', '.join(COLUMNS)}")
        for row in rows:
            yield Photo(int(row[0]), *row[1:])


def write_index(path: Path, photos: Iterable[Photo]) -> None:
    """Write what :func:`read_index` reads."""
    with open_csv(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((p.row, p.path, p.md5, p.label, p.group, p.split) for p in photos)


def digest(photos: Iterable[Photo]) -> str:
    """sha256, hex, of which photos there are and on which side of the split each one is. They are in order of path."""
    hashed, comma = hashlib.sha256(b"["), ""
    for photo in photos:
        one = photo.path, photo.md5, photo.split
        hashed.update(f"{comma}{json.dumps(one)}".encode())  # as JSON of the whole list, which may be long
        comma = ", "
    hashed.update(b"]")
    return hashed.hexdigest()

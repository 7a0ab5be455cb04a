"""How a bundle answers given photos, so that a champion and a candidate are judged on the same ones.

    python -m plantops.ml.compare --bundle DIR --photos LIST.csv --raw DIR --prepared DIR --out OUT.parquet
        [--classes LIST]

``--photos`` lists them as data/prepared/index.csv does, by their paths below ``--raw``. Their pixels are taken from
``--prepared`` where they are there and were made as the bundle wants them, else from the photos again.
``--classes`` is a file of names divided by NUL bytes: the classes that may be answered (default: all that the bundle
knows). ``--out`` gets what :mod:`plantops.ml.predictions` describes.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plantops import console
from plantops.bundle import BadBundle, Bundle
from plantops.errors import StepFailed
from plantops.ml import predictions, stage
from plantops.ml.prepared import Photo, Prepared, read_index
from plantops.ml.runtime import answers
from plantops.ml.stage import plain
from plantops.photo import NotAPhoto, decode
from plantops.preprocess import Preprocessing


def main() -> None:
    """Parse the command line, ask the bundle, write the answers."""
    given = _arguments()
    bundle, photos = _load(given.bundle), read_index(given.photos)
    if not photos:
        raise StepFailed(f"{given.photos} lists no photo")
    manifest = bundle.manifest
    pixels = _pixels(Prepared.load(given.prepared), photos, manifest.preprocessing, given.raw)
    found = answers(bundle.model, pixels, manifest.preprocessing, manifest.temperature)
    may = _places(manifest.classes, given.classes)
    shares = found[:, may] / np.maximum(found[:, may].sum(1, keepdims=True), 1e-300)
    predictions.write(given.out, [manifest.classes[one] for one in may], [predictions.Answers(photos, shares)])


def _places(classes: Sequence[str], may: Path | None) -> list[int]:
    """Which of ``classes`` the file ``may`` names. Raises StepFailed when none is."""
    names = [] if may is None else may.read_bytes().split(b"\0")
    wanted = set(classes if may is None else (name.decode(errors="surrogateescape") for name in names))
    found = [place for place, name in enumerate(classes) if name in wanted]
    if not found:
        raise StepFailed(f"{may} names no class of the model")
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="plantops.ml.compare", description="Answers of a bundle on given photos.")
    for name in ("--bundle", "--photos", "--raw", "--prepared", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--classes", type=Path)
    return parser.parse_args()


def _load(folder: Path) -> Bundle:
    try:
        return Bundle.load(folder)
    except BadBundle as error:
        raise StepFailed(f"{folder}: {error}") from None


def _pixels(prepared: Prepared, photos: Sequence[Photo], spec: Preprocessing, raw: Path) -> NDArray[np.uint8]:
    """What the bundle would see: the prepared pixels where they will do, else the photos again."""
    if prepared.meta.preprocessing(spec.mean, spec.std) == spec and set(photos) <= set(prepared.photos):
        return prepared.images[[photo.row for photo in photos]]
    tracked = console.track(photos, "photos", len(photos))
    return np.stack([_decode(raw, photo, spec) for photo in tracked])


def _decode(raw: Path, photo: Photo, spec: Preprocessing) -> NDArray[np.uint8]:
    try:
        data = (raw / photo.path).read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != photo.md5:
            raise StepFailed(f"{plain(photo.path)} is not the photo that the model was asked about", "plantops run")
        return decode(data, spec)
    except (OSError, NotAPhoto) as error:
        raise StepFailed(f"{plain(photo.path)}: {error}", "plantops run") from None


if __name__ == "__main__":
    stage.run(main)

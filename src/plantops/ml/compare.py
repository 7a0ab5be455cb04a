"""How a bundle answers given photos, so that a champion and a candidate are judged on the same ones.

    python -m plantops.ml.compare --bundle DIR --index data/prepared/index.csv --raw DIR --only LIST --out OUT.parquet
        [--classes LIST]

``--only`` is a file of paths (relative to the raw folder, as in the index), each ended by a NUL byte or divided by one.
``--classes``, written alike, names the classes that may be answered (default: all that the bundle knows).
``--out`` gets what :mod:`plantops.ml.predictions` describes.
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
from plantops.ml.prepared import Photo, Prepared
from plantops.ml.runtime import answers
from plantops.ml.stage import plain
from plantops.photo import NotAPhoto, decode
from plantops.preprocess import Preprocessing


def main() -> None:
    """Parse the command line, ask the bundle, write the answers."""
    given = _arguments()
    bundle = _load(given.bundle)
    prepared = Prepared.load(given.index.parent)
    photos = chosen(prepared, given.only)
    manifest = bundle.manifest
    pixels = _pixels(prepared, photos, manifest.preprocessing, given.raw)
    found = answers(bundle.model, pixels, manifest.preprocessing, manifest.temperature)
    may = _places(manifest.classes, given.classes)
    shares = found[:, may] / np.maximum(found[:, may].sum(1, keepdims=True), 1e-300)
    predictions.write(given.out, [manifest.classes[one] for one in may], [predictions.Answers(photos, shares)])


def chosen(prepared: Prepared, only: Path) -> list[Photo]:
    """The photos that ``only`` lists, in its order. Raises StepFailed when one was not prepared, or none is listed."""
    known = {photo.path: photo for photo in prepared.photos}
    paths = _listed(only)
    missing = [path for path in paths if path not in known]
    if missing or not paths:
        raise StepFailed(f"{only}: {plain(missing[0])} is not in the index" if missing else f"{only} lists no photo")
    return [known[path] for path in paths]


def _places(classes: Sequence[str], may: Path | None) -> list[int]:
    """Which of ``classes`` the file ``may`` names. Raises StepFailed when none is."""
    wanted = set(classes if may is None else _listed(may))
    found = [place for place, name in enumerate(classes) if name in wanted]
    if not found:
        raise StepFailed(f"{may} names no class of the model")
    return found


def _listed(path: Path) -> list[str]:
    return [name.decode(errors="surrogateescape") for name in path.read_bytes().split(b"\0") if name]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="plantops.ml.compare", description="Answers of a bundle on given photos.")
    for name in ("--bundle", "--index", "--raw", "--only", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--classes", type=Path)
    return parser.parse_args()


def _load(folder: Path) -> Bundle:
    try:
        return Bundle.load(folder)
    except BadBundle as error:
        raise StepFailed(f"{folder}: {error}") from None


def _pixels(prepared: Prepared, photos: Sequence[Photo], spec: Preprocessing, raw: Path) -> NDArray[np.uint8]:
    """What the bundle would see: the prepared pixels where they were made alike, else the raw photos again."""
    if prepared.meta.preprocessing(spec.mean, spec.std) == spec:
        return prepared.images[[photo.row for photo in photos]]
    tracked = console.track(photos, "photos", len(photos))
    return np.stack([_decode(raw, photo, spec) for photo in tracked])


def _decode(raw: Path, photo: Photo, spec: Preprocessing) -> NDArray[np.uint8]:
    try:
        data = (raw / photo.path).read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != photo.md5:
            raise StepFailed(f"{plain(photo.path)} is not the photo that was prepared", "dvc repro prepare_data")
        return decode(data, spec)
    except (OSError, NotAPhoto) as error:
        raise StepFailed(f"{plain(photo.path)}: {error}", "dvc repro prepare_data") from None


if __name__ == "__main__":
    stage.run(main)

"""Answers on a list of photos, as a Parquet file that evaluate and compare write alike.

Columns: path, md5, split, actual, predicted, confidence, probabilities (a list in the order of the classes, which the
schema's metadata names under ``classes``, as JSON), variant (what was done to the photo; empty: nothing) and distance
(squared, to what was learned from; may be null). Names that are no UTF-8 pass through as the bytes they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from plantops.ml.files import fresh_file
from plantops.ml.prepared import Photo


@dataclass(frozen=True)
class Answers:
    """``probabilities`` (n, classes) and, where the model has an embedding, squared ``distances`` (n,) for photos."""

    photos: Sequence[Photo]
    probabilities: NDArray[np.float64]
    distances: NDArray[np.float64] | None = None
    variant: str = ""


def write(path: Path, classes: Sequence[str], answers: Iterable[Answers]) -> None:
    """Write the answers, one after the other."""
    tables = [_table(classes, one) for one in answers]
    whole = pyarrow.concat_tables(tables).replace_schema_metadata({"classes": json.dumps(list(classes))})
    pyarrow.parquet.write_table(whole, fresh_file(path), compression="zstd")


def _table(classes: Sequence[str], one: Answers) -> Any:
    shares = np.asarray(one.probabilities, np.float64)
    best = shares.argmax(1) if len(shares) else np.empty(0, np.int64)
    nothing = [None] * len(one.photos)
    return pyarrow.table(
        {
            "path": _names(photo.path for photo in one.photos),
            "md5": pyarrow.array([photo.md5 for photo in one.photos], pyarrow.string()),
            "split": pyarrow.array([photo.split for photo in one.photos], pyarrow.string()),
            "actual": _names(photo.label for photo in one.photos),
            "predicted": _names(classes[number] for number in best),
            "confidence": pyarrow.array(shares[np.arange(len(best)), best], pyarrow.float64()),
            "probabilities": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(shares.ravel()), len(classes)),
            "variant": pyarrow.array([one.variant] * len(one.photos), pyarrow.string()),
            "distance": pyarrow.array(nothing if one.distances is None else one.distances, pyarrow.float64()),
        }
    )


def _names(names: Iterable[str]) -> Any:
    """Names as text, by their bytes: file names need not be UTF-8."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    return pyarrow.array(encoded, pyarrow.binary()).view(pyarrow.string())

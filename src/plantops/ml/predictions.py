"""Answers on a list of photos, as a CSV file that evaluate and compare write alike.

Columns: path, md5, actual, predicted, confidence, then one per class the model knows, named ``p:<class>``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plantops.ml.files import open_csv
from plantops.ml.prepared import Photo

COLUMNS = ("path", "md5", "actual", "predicted", "confidence")


def write(path: Path, photos: Sequence[Photo], classes: Sequence[str], probabilities: NDArray[np.float64]) -> None:
    """Write the answers; ``probabilities`` (photos, classes), in the order of ``photos`` and ``classes``."""
    with open_csv(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *(f"p:{name}" for name in classes)])
        for photo, row in zip(photos, probabilities, strict=True):
            best = int(row.argmax())
            shares = [f"{share:.6g}" for share in row]
            writer.writerow([photo.path, photo.md5, photo.label, classes[best], shares[best], *shares])

"""What the stages write and the tower reads: where it lies (relative to the project's root), and how it is read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from plantops.errors import StepFailed

READ = Path("data/read.csv")
INDEX = Path("data/prepared/index.csv")
DATA = Path("metrics/data.json")
EPOCHS = Path("plots/epochs.csv")
EVALUATION = Path("metrics/evaluation.json")
PREDICTIONS = Path("models/evaluation/predictions.parquet")
REPORTS = Path("reports")
FIELD = Path("data/field")
_REMEDY = "dvc checkout, or plantops run --force"


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file with a header, as dicts. Raises StepFailed when it is away."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise StepFailed(f"{path} is missing", _REMEDY) from None


def predictions(path: Path, split: str = "test") -> list[dict[str, Any]]:
    """Answers on the photos of one split: path, md5, actual, predicted, confidence. Raises StepFailed."""
    from pyarrow import ArrowInvalid, binary, parquet  # heavy: not on the way to `check`

    try:
        table = parquet.read_table(path, columns=["path", "md5", "actual", "predicted", "confidence", "split"])
    except (FileNotFoundError, ArrowInvalid) as error:
        raise StepFailed(f"{path} cannot be read: {error}", _REMEDY) from None
    columns = {name: table[name].to_pylist() for name in ("md5", "confidence", "split")}
    for name in ("path", "actual", "predicted"):  # names of files need not be UTF-8
        parts = [one for chunk in table[name].chunks for one in chunk.view(binary()).to_pylist()]
        columns[name] = [one.decode("utf-8", "surrogateescape") for one in parts]
    found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [one for one in found if one["split"] == split]


def probabilities(path: Path) -> list[dict[str, Any]]:
    """Of every photo in a file of answers that was not changed: md5, and ``p:<class>`` for each class."""
    from pyarrow import parquet

    table = parquet.read_table(path, columns=["md5", "probabilities"])
    names = [f"p:{name}" for name in json.loads(table.schema.metadata[b"classes"])]
    pairs = zip(table["md5"].to_pylist(), table["probabilities"].to_pylist(), strict=True)
    return [{"md5": md5, **dict(zip(names, shares, strict=True))} for md5, shares in pairs]


def values(path: Path) -> dict[str, Any]:
    """A JSON object. Raises StepFailed when it is away or broken."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StepFailed(f"{path} is missing", _REMEDY) from None
    except ValueError as error:
        raise StepFailed(f"{path}: {error}", _REMEDY) from None
    return found

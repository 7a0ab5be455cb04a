"""What the stages write and the tower reads: where it lies (relative to the project's root), and how it is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops.errors import StepFailed

READ = Path("data/read.csv")
INDEX = Path("data/prepared/index.csv")
DATA = Path("metrics/data.json")
EPOCHS = Path("plots/epochs.csv")
COURSE = Path("models/checkpoint/course.csv")
EVALUATION = Path("metrics/evaluation.json")
PREDICTIONS = Path("models/evaluation/predictions.parquet")
REPORTS = Path("reports")
FIELD = Path("data/field")
RELEASE_FILE, SPLIT_FILE = "release.json", "split.csv"  # in a release: where it comes from; the index, as it was
LEARNED = "learned.csv"  # beside a checkpoint that went on from a release: what it had learned from before
_REMEDY = "dvc checkout, or plantops run --force"


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file with a header, as dicts. Raises StepFailed when it is away."""
    return list(each(path))


def each(path: Path) -> Iterator[dict[str, str]]:
    """As :func:`rows`, one after the other."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield from csv.DictReader(file)
    except FileNotFoundError:
        raise StepFailed(f"{path} is missing", _REMEDY) from None


def release_name(folder: Path) -> str:
    """The id of the release in a folder. Raises StepFailed."""
    return str(values(folder / RELEASE_FILE).get("release", ""))


@dataclass(frozen=True)
class Learned:
    """On which side of the split a photo that was learned from was (``train`` or ``val``), and its group.

    The group is empty where it was not recorded, as by earlier versions.
    """

    split: str
    group: str = ""


def learned(release: Path) -> dict[str, Learned]:
    """By md5: all that a release learned from or was tuned on, or those that it went on from.

    Raises StepFailed when its split list is away.
    """
    file = release / LEARNED
    found = read_learned(file) if file.is_file() else {}
    for row in rows(release / SPLIT_FILE):
        if row["split"] == "train" or (row["split"] == "val" and row["md5"] not in found):
            found[row["md5"]] = _learned(row)
    return found


def read_learned(file: Path) -> dict[str, Learned]:
    """By md5, from a ``learned.csv``. Raises StepFailed when it is away."""
    return {row["md5"]: _learned(row) for row in rows(file)}


def _learned(row: Mapping[str, str]) -> Learned:
    return Learned(row["split"], row.get("group") or "")


def course(path: Path) -> dict[str, tuple[str, str, float, float]]:
    """By md5 of the photos that the last training learned: class, what it took them for all along, the shares of both.

    The share (0 to 1) is first that of what it was taken for, then its class's. Empty where there is no such file.
    """
    if not path.is_file():
        return {}
    return {row["md5"]: (row["class"], row["taken_for"], float(row["share"]), float(row["own"])) for row in rows(path)}


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


def probabilities(path: Path) -> tuple[list[str], dict[str, list[float]]]:
    """The classes, and md5: their probabilities, for photos that the model did not learn from, as they are.

    Empty where there is no such file, or none that can be read: the next evaluation writes it anew.
    """
    if not path.is_file():
        return [], {}
    from pyarrow import ArrowInvalid, parquet  # heavy: not on the way to `check`

    try:
        table = parquet.read_table(path, columns=["md5", "variant", "split", "probabilities"])
    except (FileNotFoundError, ArrowInvalid):
        return [], {}
    columns = (table[name].to_pylist() for name in ("md5", "variant", "split", "probabilities"))
    classes: list[str] = json.loads((table.schema.metadata or {}).get(b"classes", b"[]"))
    rows = zip(*columns, strict=True)
    return classes, {md5: shares for md5, variant, split, shares in rows if not variant and split in ("val", "test")}


def values(path: Path) -> dict[str, Any]:
    """A JSON object. Raises StepFailed when it is away or broken."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StepFailed(f"{path} is missing", _REMEDY) from None
    except ValueError as error:
        raise StepFailed(f"{path}: {error}", _REMEDY) from None
    return found

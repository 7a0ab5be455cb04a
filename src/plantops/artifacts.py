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
PREDICTIONS = Path("models/evaluation/predictions.csv")
_REMEDY = "dvc checkout, or plantops run --force"


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file with a header, as dicts. Raises StepFailed when it is away."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise StepFailed(f"{path} is missing", _REMEDY) from None


def values(path: Path) -> dict[str, Any]:
    """A JSON object. Raises StepFailed when it is away or broken."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StepFailed(f"{path} is missing", _REMEDY) from None
    except ValueError as error:
        raise StepFailed(f"{path}: {error}", _REMEDY) from None
    return found

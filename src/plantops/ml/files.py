"""The files that stages hand to each other, and how they are written.

A stage never writes into a file that is already there: DVC may have linked it to its cache.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, TextIO

PREPARED = Path("data/prepared")
READ = Path("data/read.csv")
CHECKPOINT_FOLDER = Path("models/checkpoint")
CHECKPOINT, CHECKPOINT_INFO = "model.ckpt", "model.json"
EVALUATED = Path("models/evaluation")
PREDICTIONS, PROBED, REFERENCE = (EVALUATED / f for f in ("predictions.parquet", "probed.parquet", "reference.npz"))
EIGHT_BITS, EIGHT_BITS_DECISION = (EVALUATED / f for f in ("eight_bits.onnx", "eight_bits.json"))
FIELD = Path("data/field")
REPORT, CARD = Path("reports/evaluation.html"), Path("reports/model_card.md")
CANDIDATE = Path("models/candidate")
DATA_METRICS, TRAIN_METRICS = Path("metrics/data.json"), Path("metrics/train.json")
EVALUATION = Path("metrics/evaluation.json")
EPOCHS, CONFUSION = Path("plots/epochs.csv"), Path("plots/confusion.csv")
CONFUSION_PICTURE, CURVES_PICTURE = Path("plots/confusion.png"), Path("plots/curves.png")


def seed_checkpoint(seed: int) -> str:
    """The file in models/checkpoint that a further training with another seed leaves."""
    return f"seed-{seed}.ckpt"


def fresh_folder(path: Path) -> Path:
    """An empty folder at ``path``; what was there is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def fresh_file(path: Path) -> Path:
    """``path`` with its folder made and no file there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON in ASCII, so that file names in any encoding survive."""
    fresh_file(path).write_text(json.dumps(value, indent=2) + "\n", encoding="ascii")


def open_csv(path: Path, mode: str = "r") -> TextIO:
    """Open a CSV file; file names that are no UTF-8 pass through unchanged."""
    if mode == "w":
        fresh_file(path)
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")  # type: ignore[return-value]

"""The two pictures of an evaluation: who is taken for whom, and what a threshold on the confidence would give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plantops.ml import calibration
from plantops.ml.files import fresh_file
from plantops.ml.stage import plain

_LONGEST = 48
_NAMED = 60  # classes that can still be read beside the picture


def draw_confusion(path: Path, matrix: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Shares of each actual class (rows), with the number of photos in each field that has any."""
    count = len(classes)
    side = min(max(4.0, 0.42 * count), 24.0)
    figure = Figure(figsize=(side + 4.5, side + 3.5), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=7)
    names = [_short(name) for name in classes] if count <= _NAMED else []
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="actual", title=f"Confusion on {matrix.sum():,} test photos")
    figure.colorbar(shown, label="share of the actual class", shrink=0.6)
    _save(figure, path)


def draw_curves(path: Path, confidence: NDArray[np.float64], right: NDArray[np.bool_], f1: dict[str, float]) -> None:
    """F1 per class (the worst 60), accuracy and coverage over a confidence threshold, and calibration."""
    names = sorted(f1, key=lambda name: f1[name])[:_NAMED]
    height = max(4.5, 0.3 * len(names) + 1.2)
    figure = Figure(figsize=(15, height), layout="constrained")
    bars, cut, trust = figure.subplots(1, 3, width_ratios=(1, 1.2, 1.2))
    bars.barh([_short(name) for name in names], [f1[name] for name in names], color="tab:blue")
    bars.margins(y=0.01)
    bars.set(xlim=(0, 1), xlabel="F1", title="F1 per class")
    bars.tick_params(axis="y", labelsize=8)
    _cut(cut, confidence, right)
    _trust(trust, confidence, right)
    _save(figure, path)


def _cut(axes: matplotlib.axes.Axes, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
    stated, answered, accuracy = calibration.coverage(confidence, right)
    axes.plot(stated, accuracy, label="accuracy of the answers given")
    axes.plot(stated, answered, label="share of photos answered")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="answer only above this confidence", title="Confidence threshold")
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)


def _trust(axes: matplotlib.axes.Axes, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
    bins = calibration.reliability(confidence, right)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="confidence = accuracy")
    axes.plot([one.confidence for one in bins], [one.accuracy for one in bins], marker="o", label="this model")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="stated confidence", ylabel="accuracy", title="Calibration")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)


def _short(name: str) -> str:
    text = plain(name).replace("$", r"\$")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _save(figure: Figure, path: Path) -> None:
    # No date and no version inside: the same scores give the same bytes.
    figure.savefig(fresh_file(path), dpi=110, metadata={"Software": None})

"""evaluate: how the checkpoint answers the test photos."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantops.errors import StepFailed
from plantops.ml import pictures, predictions, scores, stage
from plantops.ml.files import (
    CONFUSION,
    CONFUSION_PICTURE,
    CURVES_PICTURE,
    EVALUATION,
    PREDICTIONS,
    fresh_folder,
    open_csv,
    write_json,
)
from plantops.ml.model import Model
from plantops.ml.prepared import Photo, Prepared


def main() -> None:
    """Read data/prepared and models/checkpoint; write models/evaluation, metrics/evaluation.json and plots."""
    prepared, model = Prepared.load(), Model.load()
    photos = prepared.of("test")
    if not photos:
        raise StepFailed(
            "there are no photos to test on: every class has a single group of photos, or split.test is 0",
            "look at split.group_by and split.test in params.yaml, or add photos of other leaves",
        )
    probabilities = model.probabilities(prepared.images[[photo.row for photo in photos]])
    actual, predicted = prepared.labels(photos), probabilities.argmax(1)
    matrix = scores.confusion(actual, predicted, len(model.info.classes))
    metrics = measure(matrix, probabilities, actual, model.info.classes)
    fresh_folder(PREDICTIONS.parent)
    predictions.write(PREDICTIONS, photos, model.info.classes, probabilities)
    _write_confusion(CONFUSION, photos, [model.info.classes[number] for number in predicted])
    pictures.draw_confusion(CONFUSION_PICTURE, matrix, model.info.classes)
    f1 = {name: one["f1"] for name, one in metrics["per_class"].items() if one["f1"] is not None}
    pictures.draw_curves(CURVES_PICTURE, probabilities.max(1), predicted == actual, f1)
    write_json(EVALUATION, {**metrics, "sample_data": model.info.sample_data, "data_digest": prepared.meta.digest})
    print(f"{len(photos):,} test photos: accuracy {metrics['accuracy']:.3f}, macro-F1 {metrics['macro_f1']:.3f}")


def measure(
    matrix: scores.Matrix, probabilities: NDArray[np.float64], actual: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, Any]:
    """All scores, flat ones first; scores of a class without photos are None."""
    per_class = zip(classes, scores.per_class(matrix), strict=True)
    return {
        "photos": int(matrix.sum()),
        "accuracy": _rounded(scores.accuracy(matrix)),
        "macro_f1": _rounded(scores.macro_f1(matrix)),
        "balanced_accuracy": _rounded(scores.balanced_accuracy(matrix)),
        "top5_accuracy": _rounded(scores.top(probabilities, actual, 5)),
        "log_loss": _rounded(scores.log_loss(probabilities, actual)),
        "per_class": {name: {key: _rounded(value) for key, value in asdict(one).items()} for name, one in per_class},
    }


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _write_confusion(path: Path, photos: Sequence[Photo], predicted: Sequence[str]) -> None:
    with open_csv(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows([photo.label, answer] for photo, answer in zip(photos, predicted, strict=True))


if __name__ == "__main__":
    stage.run(main)

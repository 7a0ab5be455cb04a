"""The numbers of an evaluation, as plain values for metrics/evaluation.json: flat ones first.

Every number here follows from the answers in ``predictions.parquet`` and ``probed.parquet``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from plantops.ml import calibration, scores

# The word by itself, as in Tomato___healthy, Tomato_healthy and Healthy; not in unhealthy or not_healthy.
_HEALTHY = re.compile(r"(?<![^\W_])(?<!no[nt][\W_])healthy(?![^\W_])", re.IGNORECASE)
_CONFUSIONS = 10

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def quality(probabilities: Floats, actual: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """Scores on photos (n, classes) whose classes are ``actual``; those of a class without photos are None."""
    matrix = scores.confusion(actual, probabilities.argmax(1), len(classes))
    confidence, right = probabilities.max(1), probabilities.argmax(1) == actual
    low, high = scores.wilson(int(right.sum()), len(right)) or (None, None)
    return {
        "photos": int(matrix.sum()),
        "accuracy": scores.accuracy(matrix),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": scores.macro_f1(matrix),
        "balanced_accuracy": scores.balanced_accuracy(matrix),
        "top5_accuracy": scores.top(probabilities, actual, 5),
        "log_loss": scores.log_loss(probabilities, actual),
        "ece": calibration.ece(confidence, right),
        "brier": calibration.brier(probabilities, actual),
    }


def per_class(matrix: scores.Matrix, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Support, recall, precision and F1 of each class with 95 % intervals (``recall_low``, ``recall_high`` …)."""
    found = {}
    for number, (name, one) in enumerate(zip(classes, scores.per_class(matrix), strict=True)):
        right, support, answered = int(matrix[number, number]), one.support, int(matrix[:, number].sum())
        around = {
            "recall": scores.wilson(right, support),
            "precision": scores.wilson(right, answered),
            "f1": scores.f1_interval(right, support, answered) if support else None,
        }
        bounds = {f"{key}_{end}": (pair or (None, None))[i] for key, pair in around.items()
                  for i, end in enumerate(("low", "high"))}  # fmt: skip
        found[name] = {**asdict(one), **bounds}
    return found


def confusions(matrix: scores.Matrix, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The commonest mistakes, most first: ``count`` photos of ``actual`` were taken for ``predicted``."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    places = [np.unravel_index(one, wrong.shape) for one in order if wrong.flat[one]]
    return [
        {"actual": classes[row], "predicted": classes[column], "count": int(wrong[row, column]),
         "of": int(matrix[row].sum())}
        for row, column in places
    ]  # fmt: skip


def health(matrix: scores.Matrix, classes: Sequence[str]) -> dict[str, Any] | None:
    """Diseased against healthy, whatever the disease; None unless there are photos of both.

    A class is healthy where its name has that word.
    """
    well = np.array([bool(_HEALTHY.search(name)) for name in classes])
    diseased, healthy = int(matrix[~well].sum()), int(matrix[well].sum())
    if not diseased or not healthy:
        return None
    found, spared = int(matrix[~well][:, ~well].sum()), int(matrix[well][:, well].sum())
    recall, calm = scores.wilson(found, diseased), scores.wilson(spared, healthy)
    assert recall
    assert calm
    return {
        "diseased": diseased, "diseased_found": found / diseased, "diseased_found_low": recall[0],
        "diseased_found_high": recall[1], "healthy": healthy, "healthy_spared": spared / healthy,
        "healthy_spared_low": calm[0], "healthy_spared_high": calm[1],
    }  # fmt: skip


def abstention(confidence: Floats, right: NDArray[np.bool_], threshold: float | None) -> dict[str, Any]:
    """``coverage``: share of photos answered with ``threshold`` (None: all), and how accurate those answers are."""
    sure = confidence >= (threshold or 0.0)
    return {
        "coverage": float(sure.mean()),
        "accuracy_when_sure": float(right[sure].mean()) if sure.any() else None,
    }


def separation(ordinary: Floats, strange: Mapping[str, Floats]) -> dict[str, float]:
    """AUROC of a score that is high for pictures that are no leaves: by kind, and of all kinds under ``all``."""
    kinds = {"all": np.concatenate(list(strange.values())), **strange}
    return {name: _auroc(ordinary, values) for name, values in kinds.items()}


def _auroc(ordinary: Floats, strange: Floats) -> float:
    truth = np.r_[np.zeros(len(ordinary)), np.ones(len(strange))]
    return float(roc_auc_score(truth, np.r_[ordinary, strange]))


def rounded(value: Any) -> Any:
    """``value`` with its floats to six digits, through dicts and lists."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value

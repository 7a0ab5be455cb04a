"""How far the model's confidence can be trusted, and where it had better say that it is unsure.

``probabilities`` are (n, classes), ``actual`` class numbers (n,), ``confidence`` the largest probability of each photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from plantops.ml.scores import log_loss, softmax

BINS = 15
_SHARPEST, _SOFTEST = 0.05, 20.0
_FEWEST = 10  # answers on which a threshold may rest

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """One bar of the reliability diagram: ``count`` photos, their mean confidence, and the share answered rightly."""

    count: int
    confidence: float
    accuracy: float


def fit_temperature(logits: NDArray[np.floating], actual: NDArray[np.int64]) -> float | None:
    """The temperature under which ``logits`` (n, classes) say ``actual`` with the least log loss (Guo et al. 2017).

    None where no photo, or no mistake, is there to learn it from: without one the best is endlessly sharp.
    """
    if not len(actual) or (logits.argmax(1) == actual).all():
        return None
    found = minimize_scalar(
        lambda power: log_loss(softmax(logits, float(np.exp(power))), actual),
        bounds=(np.log(_SHARPEST), np.log(_SOFTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """The photos in ``bins`` equally wide steps of confidence; empty ones are left out."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    members = [place == one for one in np.unique(place)]
    return [Bin(int(one.sum()), float(confidence[one].mean()), float(right[one].mean())) for one in members]


def ece(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015): mean gap between confidence and accuracy over the bins."""
    gaps = [one.count * abs(one.confidence - one.accuracy) for one in reliability(confidence, right, bins)]
    return float(sum(gaps) / len(confidence))


def brier(probabilities: Floats, actual: NDArray[np.int64]) -> float:
    """Mean squared distance to the truth over all classes, 0 to 2 (Brier 1950)."""
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(actual)), actual] = 1
    return float(((probabilities - truth) ** 2).sum(1).mean())


def coverage(confidence: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Thresholds, falling; the share of photos at or above each, and the accuracy of those answers."""
    order = np.argsort(-confidence, kind="stable")
    stated, answered = confidence[order], np.arange(1, len(order) + 1)
    last = np.append(stated[1:] != stated[:-1], True)  # photos of one confidence are answered together
    return stated[last], answered[last] / len(order), (right[order].cumsum() / answered)[last]


def threshold(confidence: Floats, right: NDArray[np.bool_], target: float) -> float | None:
    """The lowest confidence above which answers reach ``target`` accuracy; 0 where all answers do.

    None where no threshold reaches it with 10 answers left.
    """
    if not len(confidence):
        return None
    stated, share, accuracy = coverage(confidence, right)
    good = np.flatnonzero((accuracy >= target) & (share * len(confidence) >= _FEWEST))
    if not len(good):
        return None
    return 0.0 if good[-1] == len(stated) - 1 else float(stated[good[-1]])

"""How good the answers are. NumPy only; a class nobody asked about has no score, rather than zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]
_Z = 1.959963984540054  # of the normal distribution, 95 % two-sided


@dataclass(frozen=True)
class ClassScore:
    """One class: photos of it (support), and shares in 0..1; None where there is nothing to divide by."""

    support: int
    recall: float | None
    precision: float | None
    f1: float | None


def confusion(actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Matrix:
    """How often class ``row`` was taken for class ``column``: (classes, classes)."""
    return np.bincount(actual * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(matrix: Matrix) -> float:
    """Share of right answers, 0..1."""
    return float(matrix.trace() / matrix.sum())


def per_class(matrix: Matrix) -> list[ClassScore]:
    """The score of each class; recall and f1 only where it has photos, precision only where it was answered."""
    right, support, answered = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return [
        ClassScore(
            support=int(n),
            recall=float(r / n) if n else None,
            precision=float(r / a) if a else None,
            f1=float(2 * r / (n + a)) if n else None,
        )
        for r, n, a in zip(right, support, answered, strict=True)
    ]


def wilson(right: int, of: int) -> tuple[float, float] | None:
    """The 95 % interval of a share, ``right`` out of ``of`` (Wilson 1927); None where there is nothing to divide by."""
    if of == 0:
        return None
    share, spread = right / of, _Z**2 / of
    middle = share + spread / 2
    reach = _Z * ((share * (1 - share) + spread / 4) / of) ** 0.5
    low, high = (middle - reach) / (1 + spread), (middle + reach) / (1 + spread)
    return max(0.0, low), min(1.0, high)


def f1_interval(right: int, support: int, answered: int) -> tuple[float, float] | None:
    """The 95 % interval of an F1.

    F1 is 2 J / (1 + J) of the Jaccard share J = right / (support + answered - right), which has Wilson's interval.
    """
    around = wilson(right, support + answered - right)
    return around and (2 * around[0] / (1 + around[0]), 2 * around[1] / (1 + around[1]))


def macro_f1(matrix: Matrix) -> float:
    """Mean F1 of the classes that have photos."""
    return float(np.mean([score.f1 for score in per_class(matrix) if score.f1 is not None]))


def balanced_accuracy(matrix: Matrix) -> float:
    """Mean recall of the classes that have photos."""
    return float(np.mean([score.recall for score in per_class(matrix) if score.recall is not None]))


def top(probabilities: NDArray[np.float64], actual: NDArray[np.int64], k: int) -> float:
    """Share of photos whose class is among the ``k`` likeliest answers; ``probabilities`` (n, classes)."""
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((likeliest == actual[:, None]).any(1).mean())


def log_loss(probabilities: NDArray[np.float64], actual: NDArray[np.int64]) -> float:
    """Mean of -ln(probability of the right class); probabilities under 1e-15 count as that."""
    right = probabilities[np.arange(len(actual)), actual]
    return float(-np.log(np.maximum(right, 1e-15)).mean())


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Logits (n, classes) to probabilities, in double precision."""
    scaled = np.asarray(logits, np.float64) / temperature
    odds: NDArray[np.float64] = np.exp(scaled - scaled.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    return odds

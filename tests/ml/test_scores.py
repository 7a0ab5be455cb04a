"""The scores against an implementation of others, and what they say of classes without photos."""

from __future__ import annotations

import numpy as np
import pytest

from plantops.ml import scores
from plantops.ml.frameworks import torch

ACTUAL = np.random.default_rng(1).integers(0, 6, 300)
SHARES = scores.softmax(np.random.default_rng(2).normal(size=(300, 7)) + 1.5 * np.eye(7)[ACTUAL])
MATRIX = scores.confusion(ACTUAL, SHARES.argmax(1), 7)


def reference(name: str, **options: object) -> float:
    import torchmetrics.classification

    metric = getattr(torchmetrics.classification, name)(num_classes=7, **options)
    return float(metric(torch.from_numpy(SHARES), torch.from_numpy(ACTUAL)))


def test_accuracies_agree_with_torchmetrics() -> None:
    assert scores.accuracy(MATRIX) == pytest.approx(reference("MulticlassAccuracy", average="micro"))
    assert scores.top(SHARES, ACTUAL, 5) == pytest.approx(reference("MulticlassAccuracy", average="micro", top_k=5))


def test_class_scores_agree_with_torchmetrics() -> None:
    import torchmetrics.classification as others

    given = torch.from_numpy(SHARES.argmax(1)), torch.from_numpy(ACTUAL)
    ours = scores.per_class(MATRIX)[:6]
    for field, metric in (
        ("recall", "MulticlassRecall"),
        ("precision", "MulticlassPrecision"),
        ("f1", "MulticlassF1Score"),
    ):
        theirs = getattr(others, metric)(num_classes=7, average="none")(*given)[:6]
        assert [getattr(one, field) for one in ours] == pytest.approx(theirs.tolist())
    assert scores.macro_f1(MATRIX) == pytest.approx(np.mean([one.f1 for one in ours]))
    assert scores.balanced_accuracy(MATRIX) == pytest.approx(np.mean([one.recall for one in ours]))


def test_a_class_without_photos_has_no_score() -> None:
    unseen = scores.per_class(MATRIX)[6]
    assert (unseen.support, unseen.recall, unseen.f1) == (0, None, None)
    silent = scores.per_class(np.array([[3, 0], [2, 0]]))[1]
    assert (silent.recall, silent.precision, silent.f1) == (0.0, None, 0.0)


def test_log_loss_and_softmax() -> None:
    assert scores.log_loss(SHARES, ACTUAL) == pytest.approx(
        float(torch.nn.functional.nll_loss(torch.from_numpy(np.log(SHARES)), torch.from_numpy(ACTUAL)))
    )
    assert np.isfinite(scores.log_loss(np.array([[0.0, 1.0]]), np.array([0])))
    assert scores.softmax(np.array([[1000.0, 0.0]])).tolist() == [[1.0, 0.0]]
    assert scores.softmax(np.array([[2.0, 0.0]]), 2.0) == pytest.approx(scores.softmax(np.array([[1.0, 0.0]])))

"""How far scores differ by chance: the same training with other seeds, asked about the same test photos.

Different seeds draw other first weights, another order and other variations of the photos; the split stays. Accuracy
and macro-F1 of all trainings, that of `seed` included, give mean, standard deviation (over n - 1) and range. What else
varies: Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks" (arXiv:2103.03098).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantops.errors import StepFailed
from plantops.ml import scores
from plantops.ml.examine import Asked
from plantops.ml.files import CHECKPOINT_FOLDER, seed_checkpoint
from plantops.ml.model import Model
from plantops.ml.params import Params
from plantops.ml.predictions import Answers

SCORES = ("accuracy", "macro_f1")


def ask(params: Params, test: Asked, folder: Path = CHECKPOINT_FOLDER) -> dict[int, Answers]:
    """seed: what each further training says of the test photos. Raises StepFailed when one was not done."""
    found = {}
    for seed in params.more_seeds:
        if not (folder / seed_checkpoint(seed)).is_file():
            raise StepFailed(
                f"evaluate.repeats is {params.evaluate.repeats}, and {folder} holds no training with seed {seed}",
                "`- evaluate.repeats` belongs among the params of stage train in dvc.yaml; then dvc repro",
            )
        shares = Model.load(folder, seed_checkpoint(seed)).probabilities(test.pixels)
        found[seed] = Answers(test.photos, shares, variant=f"seed {seed}")
    return found


def told(seed: int, test: Asked, others: Mapping[int, Answers]) -> dict[str, Any]:
    """``seeds`` and, for each score, ``values`` in their order, ``mean``, ``std``, ``low``, ``high``.

    Beside them, flat, the standard deviations as ``<score>_spread``. Empty where there was one training only.
    """
    if not others:
        return {}
    every = [test.probabilities, *(one.probabilities for one in others.values())]
    rows = [_scored(shares, test.actual) for shares in every]
    values = dict(zip(SCORES, np.array(rows).T, strict=True))
    spreads = {name: _around(found) for name, found in values.items()}
    flat = {f"{name}_spread": one["std"] for name, one in spreads.items()}
    return {**flat, "repeats": {"seeds": [seed, *others], **spreads}}


def _scored(shares: NDArray[np.float64], actual: NDArray[np.int64]) -> tuple[float, float]:
    matrix = scores.confusion(actual, shares.argmax(1), shares.shape[1])
    return scores.accuracy(matrix), scores.macro_f1(matrix)


def _around(values: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "values": values.tolist(),
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)),
        "low": float(values.min()),
        "high": float(values.max()),
    }

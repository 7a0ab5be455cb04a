"""What the photos it learned from look like to the model, so that it can say: this is nothing that I know.

``reference.npz`` in the bundle holds ``mean`` (d,) and ``whiten`` (d, k), float32; the squared distance of an embedding
e is ``||(e - mean) @ whiten||^2``: Mahalanobis' distance, with a covariance shrunk as Ledoit and Wolf (2004) say.
Beside them lie the arrays of :mod:`plantops.drift`, where there are held-out photos enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from plantops.ml.files import fresh_file

FEWEST = 10  # photos from which a distance can be learned, or a threshold be chosen


@dataclass(frozen=True)
class Reference:
    """Centre and metric of the embeddings of training photos."""

    mean: NDArray[np.float32]
    whiten: NDArray[np.float32]

    def distances(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Squared distances (n,) of ``embeddings`` (n, d)."""
        away = (np.asarray(embeddings, np.float64) - self.mean) @ self.whiten.astype(np.float64)
        found: NDArray[np.float64] = (away**2).sum(1)
        return found

    @classmethod
    def read(cls, path: Path) -> Reference:
        """What :meth:`write` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["mean"], arrays["whiten"])

    def write(self, path: Path, more: Mapping[str, Any]) -> None:
        """Write ``reference.npz``, with ``more`` arrays: the same values, the same bytes."""
        np.savez(fresh_file(path), mean=self.mean, whiten=self.whiten, **more)


def learn(embeddings: NDArray[np.float32]) -> Reference:
    """From the embeddings (n, d) of training photos."""
    values = np.asarray(embeddings, np.float64)
    covariance, _ = ledoit_wolf(values)
    spread, axes = np.linalg.eigh(covariance)
    usable = spread > spread.max() * 1e-9
    whiten = axes[:, usable] / np.sqrt(spread[usable])
    return Reference(values.mean(0).astype(np.float32), whiten.astype(np.float32))


def threshold(distances: NDArray[np.float64], false_alarms: float) -> float:
    """The squared distance that a share of ``false_alarms`` of ordinary photos lies above."""
    return float(np.quantile(distances, 1 - false_alarms, method="higher"))

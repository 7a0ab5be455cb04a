"""When not to believe the model: it is unsure, or the photo looks like nothing that it was trained on.

``manifest.thresholds["unsure"]``   confidence, 0..1, under which the model abstains
``manifest.thresholds["unlike"]``   squared Mahalanobis distance of a photo's embedding from the training photos' mean
                                    above which nothing is known of such photos (Lee et al. 2018, arXiv:1807.03888)
``reference.npz``                   ``mean`` float32 (d,), ``whiten`` float32 (d, k): that distance is
                                    ``||(embedding - mean) @ whiten||^2``; and what :mod:`plantops.drift` needs

A bundle without a threshold says nothing of it: None, never a guess.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plantops.bundle import REFERENCE, UNLIKE, UNSURE, BadBundle, Bundle
from plantops.drift import Usual


@dataclass(frozen=True)
class Doubts:
    """The thresholds of one bundle. ``mean`` and ``whiten`` are None where it cannot tell what is unlike; ``usual``
    where it cannot tell drift."""

    least_confidence: float | None
    most_distance: float | None
    mean: NDArray[np.float32] | None = None
    whiten: NDArray[np.float32] | None = None
    usual: Usual | None = None

    @classmethod
    def load(cls, bundle: Bundle, has_embedding: bool) -> Doubts:
        """What the bundle says. Raises BadBundle when its reference cannot be read."""
        thresholds, path = bundle.manifest.thresholds, bundle.path / REFERENCE
        unsure, unlike = thresholds.get(UNSURE), thresholds.get(UNLIKE)
        if unlike is None or not has_embedding or not bundle.manifest.reference:
            return cls(unsure, None)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(unsure, unlike, arrays["mean"], arrays["whiten"], Usual.read(arrays))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BadBundle(f"{path}: {type(error).__name__}: {error}") from None

    @property
    def needs_embedding(self) -> bool:
        """Whether the model has to say what it saw."""
        return self.mean is not None

    def unsure(self, confidence: float) -> bool | None:
        """Whether the model abstains at this confidence."""
        return None if self.least_confidence is None else confidence < self.least_confidence

    def distance(self, embedding: NDArray[np.float32] | None) -> float | None:
        """How far a photo with this embedding, (d,), is from what the model was trained on, squared."""
        if embedding is None or self.mean is None or self.whiten is None:
            return None
        offset = (embedding - self.mean) @ self.whiten
        return float(offset @ offset)

    def unlike(self, distance: float | None) -> bool | None:
        """Whether a photo at this squared distance looks like nothing the model was trained on."""
        return None if distance is None or self.most_distance is None else distance > self.most_distance

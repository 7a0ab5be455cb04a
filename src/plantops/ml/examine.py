"""A trained model asked about photos, with all that it can say: classes, confidence, where it looked, how strange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from plantops.ml import calibration, changed, reference, scores, strange
from plantops.ml.drift import Held
from plantops.ml.model import Info, Seen
from plantops.ml.params import Evaluate
from plantops.ml.predictions import Answers
from plantops.ml.prepared import Photo, Prepared
from plantops.ml.reference import Reference

AS_IT_IS, STRANGE = "as_it_is", "strange"
_LEARNED = 2_000  # training photos that say what is ordinary
_CHANGED = 500  # test photos that are asked again as they might also have come
_DRAWN = 60  # pictures of each kind that is no leaf

Pixels = NDArray[np.uint8]


class Sees(Protocol):
    """A network that can be asked: the checkpoint's, or a graph that serves in its place."""

    @property
    def info(self) -> Info:
        """What it is."""

    def see(self, pixels: Pixels) -> Seen:
        """All that it says of ``pixels`` (n, size, size, 3), n at least 1."""


@dataclass(frozen=True)
class Asked:
    """Photos (n), their pixels (n, size, size, 3), class numbers (n; -1: none), and what the model says of them."""

    photos: Sequence[Photo]
    pixels: Pixels
    actual: NDArray[np.int64]
    seen: Seen
    probabilities: NDArray[np.float64]
    distances: NDArray[np.float64] | None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class numbers answered."""
        best: NDArray[np.int64] = self.probabilities.argmax(1)
        return best

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right."""
        right: NDArray[np.bool_] = self.predicted == self.actual
        return right

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The largest probability of each."""
        best: NDArray[np.float64] = self.probabilities.max(1)
        return best

    def answers(self, variant: str = "") -> Answers:
        """As the Parquet files hold them."""
        return Answers(self.photos, self.probabilities, self.distances, variant)


@dataclass(frozen=True)
class Examiner:
    """The model with its temperature (``fitted``: to validation photos), and what is ordinary to it."""

    model: Sees
    temperature: float
    known: Reference | None
    fitted: bool

    def ask(self, photos: Sequence[Photo], pixels: Pixels) -> Asked:
        """Everything the model says of ``pixels`` (n, size, size, 3), n at least 1."""
        number = {name: index for index, name in enumerate(self.model.info.classes)}
        actual = np.array([number.get(photo.label, -1) for photo in photos], np.int64)
        seen = self.model.see(pixels)
        probabilities = scores.softmax(seen.logits, self.temperature)
        far = None if self.known is None or seen.embedding is None else self.known.distances(seen.embedding)
        return Asked(photos, pixels, actual, seen, probabilities, far)


def examiner(prepared: Prepared, model: Sees) -> Examiner:
    """The temperature fitted to validation photos, the reference learned from training photos, as far as there are."""
    val = prepared.of("val")
    found = None
    if val:
        found = calibration.fit_temperature(model.see(pixels(prepared, val)).logits, prepared.labels(val))
    # Six digits, as metrics/evaluation.json has it, from where the bundle takes it.
    temperature = 1.0 if found is None else round(found, 6)
    return Examiner(model, temperature, _ordinary(prepared, model), found is not None)


def thresholds(wanted: Evaluate, val: Asked | None) -> tuple[float | None, float | None]:
    """``unsure`` and ``unlike``, chosen on validation photos; None where they cannot be chosen."""
    if val is None or len(val.photos) < reference.FEWEST:
        return None, None
    unsure = calibration.threshold(val.confidence, val.right, wanted.target_accuracy)
    unlike = None if val.distances is None else reference.threshold(val.distances, wanted.false_alarms)
    # Rounded down, so that the photo that the threshold is taken from stays above it.
    return (None if unsure is None else float(np.floor(unsure * 1e6) / 1e6)), unlike


def pixels(prepared: Prepared, photos: Sequence[Photo]) -> Pixels:
    """The prepared pixels of ``photos``: (n, size, size, 3)."""
    return prepared.images[[photo.row for photo in photos]]


def probe(asker: Examiner, test: Asked) -> dict[str, Asked]:
    """Some test photos as they might also have come, by what was done to them, and pictures that are no leaves.

    The pictures are under ``STRANGE``; their ``path`` is ``<kind>/<number>``, and they have no class.
    """
    some = slice(None, None, -(-len(test.photos) // _CHANGED))
    photos, shown = test.photos[some], test.pixels[some]
    found = {AS_IT_IS: asker.ask(photos, shown)}
    for name, change in changed.changes(asker.model.info.preprocessing).items():
        found[name] = asker.ask(photos, change(shown))
    kinds = strange.make(asker.model.info.preprocessing.size, _DRAWN, shown)
    drawn = [f"{kind}/{number:02d}" for kind, pictures in kinds.items() for number in range(len(pictures))]
    made = [Photo(row, path, "", "", "", STRANGE) for row, path in enumerate(drawn)]
    return {**found, STRANGE: asker.ask(made, np.concatenate(list(kinds.values())))}


def held(asked: Sequence[Asked], classes: int) -> Held:
    """Photos that were held out, with all that is known of them. Their network tells embeddings and distances."""
    groups = np.unique([photo.group for one in asked for photo in one.photos], return_inverse=True)[1]
    return Held(
        np.concatenate([one.pixels for one in asked]),
        np.concatenate([one.seen.embedding for one in asked if one.seen.embedding is not None]),
        np.concatenate([one.distances for one in asked if one.distances is not None]),
        np.concatenate([one.confidence for one in asked]),
        np.concatenate([one.predicted for one in asked]),
        groups.astype(np.int64),
        classes,
    )


def _ordinary(prepared: Prepared, model: Sees) -> Reference | None:
    photos = prepared.of("train")
    photos = photos[:: max(1, -(-len(photos) // _LEARNED))]
    if len(photos) < reference.FEWEST:
        return None
    embedding = model.see(pixels(prepared, photos)).embedding
    return None if embedding is None else reference.learn(embedding)

"""Does the background give the class away, and does the model look at the leaf?

Photos of one class are often taken on one day before one cloth. Noyan (2022, arXiv:2206.04374) got 49 % on PlantVillage
from eight pixels of background. The same control is run here on the photos at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from plantops.ml.scores import wilson

TELLING = 0.25  # of the way from guessing to knowing: from there on the background is called out
_TREES = 100
_MOST = 10_000  # photos to learn from

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Background:
    """How well eight pixels at the edge tell the class of a test photo, and how well guessing does (0..1).

    ``guess``: the share that always saying the commonest class of the training photos gets right.
    """

    right: int
    photos: int
    guess: float

    @property
    def accuracy(self) -> float:
        """Share of right answers from the eight pixels."""
        return self.right / self.photos

    @property
    def tells(self) -> bool:
        """Whether it is clear (95 %) that the eight pixels go a quarter of the way from guessing to knowing."""
        low = (wilson(self.right, self.photos) or (0.0, 1.0))[0]
        return low > self.guess + TELLING * (1 - self.guess)


def edge(photos: Pixels) -> Pixels:
    """Eight pixels of each photo (n, size, size, 3), corners and middles of the edges: (n, 24)."""
    last = photos.shape[1] - 1
    middle = last // 2
    places = [(0, 0), (0, middle), (0, last), (middle, 0), (middle, last), (last, 0), (last, middle), (last, last)]
    return np.concatenate([photos[:, row, column] for row, column in places], axis=1)


def background(train: tuple[Pixels, NDArray[np.int64]], test: tuple[Pixels, NDArray[np.int64]]) -> Background:
    """The control: a random forest on the eight pixels, learned on training photos, asked about test photos.

    Each side: pixels as :func:`edge` gives them, and class numbers.
    """
    step = -(-len(train[1]) // _MOST)
    forest = RandomForestClassifier(_TREES, random_state=0, n_jobs=2)
    forest.fit(train[0][::step], train[1][::step])
    commonest = np.bincount(train[1]).argmax()
    right = int((forest.predict(test[0]) == test[1]).sum())
    return Background(right, len(test[1]), float((test[1] == commonest).mean()))


def leaf(photo: Pixels) -> NDArray[np.bool_] | None:
    """Where the leaf is (size, size): what is more colourful than a grey background.

    Colourfulness is the largest minus the smallest of a pixel's red, green and blue, after a blur; Otsu's threshold
    (1979) divides the photo in two. None where that finds hardly anything, nearly everything, or no contrast.
    """
    size = photo.shape[0]
    soft = Image.fromarray(photo).resize((64, 64), Image.Resampling.BOX)
    colour = np.asarray(soft, np.int64).max(2) - np.asarray(soft, np.int64).min(2)
    cut, contrast = _otsu(colour)
    mask = colour > cut
    if not (0.05 < mask.mean() < 0.95 and contrast > 0.5):
        return None
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def _otsu(values: NDArray[np.int64]) -> tuple[int, float]:
    """The threshold (0..255) that divides best, and the share of the variance that lies between the two sides."""
    count = np.bincount(values.ravel(), minlength=256) / values.size
    below, mass = count.cumsum(), (count * np.arange(256)).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mass[-1] * below - mass) ** 2 / (below * (1 - below)))
    variance = float(values.var())
    return int(between.argmax()), float(between.max()) / variance if variance else 0.0


def spread(activation: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """What speaks for the class, (rows, columns), at the photo's size: never negative, 1 where it is most."""
    speaking = np.maximum(np.asarray(activation, np.float32), 0)
    image = Image.fromarray(speaking).resize((size, size), Image.Resampling.BILINEAR)
    values = np.maximum(np.asarray(image, np.float64), 0)
    return values / values.max() if values.max() > 0 else values


@dataclass(frozen=True)
class Attention:
    """Over the photos where a leaf could be found: share of the activation that lies on it, share it covers (0..1)."""

    photos: int
    on_leaf: float
    leaf_area: float


def attention(photos: Pixels, activations: NDArray[np.floating]) -> Attention | None:
    """Of photos (n, size, size, 3) and activations of the class answered (n, rows, columns); None without a leaf."""
    shares = []
    for photo, activation in zip(photos, activations, strict=True):
        mask, where = leaf(photo), spread(activation, photo.shape[0])
        if mask is not None and where.sum() > 0:
            shares.append((where[mask].sum() / where.sum(), mask.mean()))
    if not shares:
        return None
    on_leaf, area = np.mean(shares, axis=0).tolist()
    return Attention(len(shares), on_leaf, area)

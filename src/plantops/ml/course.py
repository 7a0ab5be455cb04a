"""What a training found likely of each photo on its way: a wrong label contradicts the model in most epochs.

A model agrees in the end with what it has learned by heart, but photos under a wrong label are learned last. The mean
over all epochs, not the end, tells them apart: Pleiss, Zhang, Elenberg, Weinberger 2020, "Identifying Mislabeled Data
using the Area Under the Margin Ranking" (arXiv:2001.10528). It costs nothing: the answers are there anyway.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plantops.ml.files import open_csv
from plantops.ml.frameworks import torch
from plantops.ml.prepared import Photo


class Course:
    """Sums up answers: ``count`` rows of the prepared photos, ``classes``."""

    def __init__(self, count: int, classes: int) -> None:
        self.sums = (torch.zeros(count, classes), torch.zeros(count, dtype=torch.int64))  # of answers, and how many

    def add(self, rows: torch.Tensor, logits: torch.Tensor) -> None:
        """A batch's answers before it is learned from: rows (n,), no row twice; logits (n, classes)."""
        rows, (answers, times) = rows.cpu(), self.sums
        answers[rows] += torch.log_softmax(logits.float(), 1).cpu()
        times[rows] += 1

    def gather(self) -> None:
        """Have the first of several processes hold what all were told, and the others begin anew."""
        for mine in self.sums:
            torch.distributed.reduce(mine, 0)
            if torch.distributed.get_rank():
                mine.zero_()

    def shares(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """The geometric mean of the probabilities over the epochs, scaled to a sum of 1: (n, classes)."""
        chosen = torch.tensor(rows, dtype=torch.int64)
        answers, times = (values[chosen] for values in self.sums)
        means = answers / times.clamp(min=1)[:, None]
        shares: NDArray[np.float32] = torch.softmax(means, 1).numpy()
        return shares


def write(course: Course, photos: Sequence[Photo], classes: Sequence[str], path: Path) -> None:
    """For each photo: its class, what it was taken for all along, and the shares (0 to 1) of the two."""
    number = {name: at for at, name in enumerate(classes)}
    shares = course.shares([photo.row for photo in photos])
    with open_csv(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("md5", "class", "taken_for", "share", "own"))
        for photo, row in zip(photos, shares, strict=True):
            best, own = int(row.argmax()), number[photo.label]
            writer.writerow((photo.md5, photo.label, classes[best], f"{row[best]:.4f}", f"{row[own]:.4f}"))

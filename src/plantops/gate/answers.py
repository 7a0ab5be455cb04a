"""Answers on test photos, and the scores of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One test photo: its md5, its class, the class that the model said, and its group (one leaf, one series).

    Photos of one group are not independent. Without a group a photo is one by itself.
    """

    photo: str
    actual: str
    predicted: str
    group: str = ""

    @property
    def right(self) -> bool:
        """Whether the model said the photo's class."""
        return self.actual == self.predicted

    @property
    def unit(self) -> str:
        """What is independent of other such: the group, else the photo."""
        return f"group {self.group}" if self.group else f"photo {self.photo}"


def accuracy(answers: Sequence[Answer]) -> float:
    """Share of right answers, 0..1; ``answers`` must not be empty."""
    return sum(one.right for one in answers) / len(answers)


def macro_f1(answers: Sequence[Answer]) -> float:
    """Mean F1 over the classes that occur among the photos, 0..1 (sklearn's ``f1_score`` over those labels)."""
    support = Counter(one.actual for one in answers)
    said = Counter(one.predicted for one in answers)
    right = Counter(one.actual for one in answers if one.right)
    return sum(2 * right[name] / (support[name] + said[name]) for name in support) / len(support)


def recalls(answers: Sequence[Answer]) -> dict[str, tuple[float, int]]:
    """class -> (share of its photos found, how many there are)."""
    support = Counter(one.actual for one in answers)
    right = Counter(one.actual for one in answers if one.right)
    return {name: (right[name] / support[name], support[name]) for name in sorted(support)}

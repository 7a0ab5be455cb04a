"""The main scores of a model: what they are called, the weightiest first, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a score of metrics/evaluation.json is called; ``better``: 1 when it rises, -1 when it falls, 0 neither."""

    title: str
    better: int = 1


MAIN = {
    "field_accuracy": Measure("in the field"),
    "field_macro_f1": Measure("field macro-F1"),
    "accuracy": Measure("accuracy"),
    "macro_f1": Measure("macro-F1"),
    "background_accuracy": Measure("background alone", -1),  # Noyan's control: beside the accuracy, whatever it is
    "background_guess": Measure("guessing alone", 0),
    "on_leaf": Measure("looks at the leaf"),
    "leaf_area": Measure("the leaf covers", 0),
    "accuracy_spread": Measure("accuracy ±", 0),
    "macro_f1_spread": Measure("macro-F1 ±", 0),
    "ece": Measure("calibration gap", -1),
    "accuracy_when_sure": Measure("right when sure"),
    "coverage": Measure("sure of"),
}

"""The gate: may this model go in front of people? Pure: answers on test photos and rules in, a verdict out."""

from plantops.gate.answers import Answer, accuracy, macro_f1, recalls
from plantops.gate.floors import Facts
from plantops.gate.judge import Champion, judge
from plantops.gate.verdict import (
    ACCEPTED,
    FAILED,
    NOT_ENOUGH,
    NOT_JUDGED,
    PASSED,
    REFUSED,
    Finding,
    Overruled,
    Verdict,
)

__all__ = [
    "ACCEPTED", "FAILED", "NOT_ENOUGH", "NOT_JUDGED", "PASSED", "REFUSED", "Answer", "Champion", "Facts", "Finding",
    "Overruled", "Verdict", "accuracy", "judge", "macro_f1", "recalls",
]  # fmt: skip

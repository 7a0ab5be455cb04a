"""The gate: floors, recall with support, the champion on the same photos, drawn against real."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from plantops import gate
from plantops.config import GateConfig
from plantops.gate import Answer, Champion

RULES = GateConfig(min_accuracy=0.7, min_macro_f1=0.65, min_recall=0.3, min_support=10, max_fall=0.02, min_compared=30)


def answers(right: int, wrong: int, name: str = "a", other: str = "b", start: int = 0) -> list[Answer]:
    rows = [Answer(f"{name}{start + i}", name, name) for i in range(right)]
    return rows + [Answer(f"{name}{start + right + i}", name, other) for i in range(wrong)]


GOOD = answers(19, 1) + answers(18, 2, "b", "a")


def test_floors_decide_without_a_champion() -> None:
    verdict = gate.judge(GOOD, False, None, RULES)
    assert verdict.accepted
    assert verdict.unjudged == []
    bad = gate.judge(answers(10, 10) + answers(20, 0, "b", "a"), False, None, GateConfig(min_accuracy=0.9))
    assert not bad.accepted
    assert bad.reasons == ["accuracy 0.750 on 40 test photos is below 0.900"]


def test_recall_of_a_class_counts_only_with_support() -> None:
    verdict = gate.judge(GOOD + answers(0, 9, "rare", "a"), False, None, GateConfig(min_accuracy=0, min_macro_f1=0))
    assert verdict.accepted
    assert verdict.unjudged == ["recall of rare not judged: 9 test photos, 10 needed"]
    judged = gate.judge(GOOD + answers(0, 10, "rare", "a"), False, None, GateConfig(min_accuracy=0, min_macro_f1=0))
    assert judged.reasons == ["recall of rare 0.000 on 10 test photos is below 0.300"]


def test_fall_against_the_champion_is_measured_on_the_same_photos() -> None:
    better = Champion("old", False, tuple(Answer(one.photo, one.actual, one.actual) for one in GOOD))
    verdict = gate.judge(GOOD, False, better, RULES)
    assert not verdict.accepted
    assert "falls by 0.075, more than 0.020" in verdict.reasons[0]
    assert "on the same 40 photos" in verdict.reasons[0]
    # Wrong answers on photos that the champion was not asked do not count against the candidate.
    some = Champion("old", False, tuple(Answer(one.photo, one.actual, one.actual) for one in GOOD if one.actual == "a"))
    worse_elsewhere = answers(20, 0) + answers(10, 10, "b", "a")
    rules = GateConfig(min_accuracy=0, min_macro_f1=0, min_compared=20)
    assert gate.judge(worse_elsewhere, False, some, rules).accepted


def test_too_few_photos_that_neither_learned_from_are_not_judged() -> None:
    few = Champion("old", False, tuple(GOOD[:29]))
    verdict = gate.judge(GOOD, False, few, RULES)
    assert verdict.accepted
    assert verdict.unjudged == ["not compared with old: 29 photos that neither learned from, 30 needed"]


def test_drawn_and_real_do_not_compete() -> None:
    drawn, real = Champion("drawn", True, tuple(GOOD)), Champion("real", False, tuple(GOOD))
    assert gate.judge(GOOD, False, drawn, RULES).accepted
    refused = gate.judge(GOOD, True, real, RULES)
    assert not refused.accepted
    assert "does not replace real" in refused.reasons[0]


def test_no_evidence_is_no_acceptance() -> None:
    assert not gate.judge([], False, None, RULES).accepted


@pytest.mark.parametrize("seed", range(20))
def test_measures_are_those_of_scikit_learn(seed: int) -> None:
    dice = random.Random(seed)
    rows = [Answer(str(i), dice.choice("abcd"), dice.choice("abcde")) for i in range(60)]
    actual, said = [one.actual for one in rows], [one.predicted for one in rows]
    labels = sorted(set(actual))
    assert gate.accuracy(rows) == pytest.approx(accuracy_score(actual, said))
    assert gate.macro_f1(rows) == pytest.approx(f1_score(actual, said, labels=labels, average="macro"))
    recalls = recall_score(actual, said, labels=labels, average=None)
    assert [share for share, _ in gate.recalls(rows).values()] == pytest.approx(list(recalls))

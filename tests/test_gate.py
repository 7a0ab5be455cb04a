"""The gate: floors, recall with support, the champion on the same photos, drawn against real, three verdicts."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from plantops import gate
from plantops.config import GateConfig
from plantops.gate import NOT_ENOUGH, NOT_JUDGED, Answer, Champion, Facts, Overruled, Verdict

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
    assert bad.reasons == ["accuracy 0.750 on 40 test photos is below 0.900 (95% sure between 0.598 and 0.858)"]


def test_recall_of_a_class_counts_only_with_support() -> None:
    verdict = gate.judge(GOOD + answers(0, 9, "rare", "a"), False, None, GateConfig(min_accuracy=0, min_macro_f1=0))
    assert verdict.accepted
    assert verdict.unjudged == ["recall of rare not judged: 9 test photos, 10 needed"]
    judged = gate.judge(GOOD + answers(0, 10, "rare", "a"), False, None, GateConfig(min_accuracy=0, min_macro_f1=0))
    said = "recall of rare 0.000 on 10 test photos is below 0.300 (95% sure between 0.000 and 0.278)"
    assert judged.reasons == [said]


def test_a_floor_on_too_few_photos_is_not_enough_evidence_unless_it_is_surely_missed() -> None:
    few, strict = answers(4, 1) + answers(4, 0, "b", "a"), GateConfig(not_enough="refuse")
    reached = gate.judge(few, False, None, GateConfig())
    assert (reached.outcome, reached.accepted) == (NOT_ENOUGH, True), "the setting decides"
    assert "accuracy 0.889 on 9 test photos reaches 0.700" in reached.reasons[0]
    assert "but 9 photos are too few to tell: 10 needed" in reached.reasons[0]
    assert reached.said(NOT_ENOUGH)[1].startswith("macro_f1 0.889 on 9 test photos reaches")
    assert not gate.judge(few, False, None, strict).accepted
    by_chance = gate.judge(answers(5, 4), False, None, GateConfig(min_macro_f1=0))
    assert (by_chance.outcome, by_chance.accepted) == (NOT_ENOUGH, True), "0.556 of 9 may be 0.7 by chance"
    surely = gate.judge(answers(1, 8), False, None, GateConfig(min_macro_f1=0))
    assert (surely.outcome, surely.accepted) == ("refused", False)
    assert gate.judge([*few, *answers(1, 0, "b", "a", start=9)], False, None, strict).outcome == "accepted"


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


# Three verdicts.

FREE = replace(RULES, min_accuracy=0, min_macro_f1=0, min_recall=0, max_fall=0.04)


def both(photos: int, lost: int, gained: int, size: int = 1) -> tuple[list[Answer], Champion]:
    """A candidate and a champion on the same photos of two classes, in groups of ``size``; the rest both have right."""
    rows = [("a" if n % 2 else "b", f"g{n // size}", n < lost, lost <= n < lost + gained) for n in range(photos)]
    other = {"a": "b", "b": "a"}
    ours = [Answer(str(n), kind, other[kind] if bad else kind, group) for n, (kind, group, bad, _) in enumerate(rows)]
    theirs = [Answer(str(n), kind, other[kind] if bad else kind, group) for n, (kind, group, _, bad) in enumerate(rows)]
    return ours, Champion("old", False, tuple(theirs))


def found(verdict: Verdict, rule: str) -> gate.Finding:
    return next(one for one in verdict.findings if one.rule == f"{rule} against the release in service")


def test_accepted_refused_or_not_enough_evidence() -> None:
    alike = gate.judge(*_args(600, 6, 6), FREE)
    assert alike.outcome == "accepted"
    assert "a tie; a fall of more than 0.040 is ruled out" in found(alike, "accuracy").sentence
    worse = gate.judge(*_args(600, 36, 0), FREE)
    assert (worse.outcome, worse.accepted) == ("refused", False)
    assert "falls by 0.060, more than 0.040" in worse.reasons[0]
    assert "surely worse" in worse.reasons[0]
    few = gate.judge(*_args(40, 1, 1), FREE)
    assert (few.outcome, few.accepted) == (NOT_ENOUGH, True)
    assert "too few photos to rule out a fall of more than 0.040" in found(few, "accuracy").sentence
    strict = gate.judge(*_args(40, 1, 1), replace(FREE, not_enough="refuse"))
    assert (strict.outcome, strict.accepted) == (NOT_ENOUGH, False)
    assert "too few photos" in strict.reasons[0]


def _args(photos: int, lost: int, gained: int, size: int = 1) -> tuple[list[Answer], bool, Champion]:
    ours, champion = both(photos, lost, gained, size)
    return ours, False, champion


def test_photos_of_one_leaf_are_less_evidence_than_as_many_leaves() -> None:
    apart, together = gate.judge(*_args(600, 30, 30), FREE), gate.judge(*_args(600, 30, 30, size=30), FREE)
    assert found(apart, "accuracy").state == "passed"
    assert found(together, "accuracy").state == NOT_ENOUGH
    assert "600 photos (20 groups)" in found(together, "accuracy").sentence


def test_a_class_falls_for_sure_or_perhaps() -> None:
    ours, champion = both(400, 0, 0)
    sure = [replace(one, predicted="b") if one.actual == "a" and int(one.photo) < 100 else one for one in ours]
    rules = replace(FREE, max_fall=1)
    refused = gate.judge(sure, False, champion, rules)
    assert refused.outcome == "refused"
    assert (
        "recall of a 0.750 against 1.000 on the same 200 photos: falls by 0.250, surely more than 0.100"
        in (refused.reasons[0])
    )
    rare = [Answer(f"r{n}", "rare", "rare" if n > 1 else "a") for n in range(12)]
    right = tuple(replace(one, predicted="rare") for one in rare)
    perhaps = gate.judge([*ours, *rare], False, Champion("old", False, (*champion.answers, *right)), rules)
    assert perhaps.accepted
    assert found(perhaps, "recall of rare").state == NOT_JUDGED
    assert "which may be chance" in found(perhaps, "recall of rare").sentence


@pytest.mark.parametrize(
    ("missed", "photos", "state"), [(0, 40, "passed"), (2, 40, NOT_ENOUGH), (12, 40, "failed"), (0, 4, NOT_ENOUGH)]
)
def test_a_critical_class_may_not_fall(missed: int, photos: int, state: str) -> None:
    ours, champion = both(400, 0, 0)
    blight = [Answer(f"x{n}", "blight", "a" if n < missed else "blight") for n in range(photos)]
    theirs = Champion("old", False, (*champion.answers, *(replace(one, predicted="blight") for one in blight)))
    rules = replace(FREE, critical=("blight",), max_recall_fall=1, max_fall=1)
    assert found(gate.judge([*ours, *blight], False, theirs, rules), "recall of blight").state == state


def test_a_critical_class_that_is_new_cannot_have_fallen() -> None:
    """Else it could never be released where not enough evidence refuses: the release in service never learns it."""
    ours, champion = both(400, 0, 0)
    rules = replace(FREE, critical=("blight",), not_enough="refuse")
    blight = answers(20, 0, "blight")
    known = gate.judge([*ours, *blight], False, champion, rules)
    assert (found(known, "recall of blight").state, known.accepted) == (NOT_ENOUGH, False)
    fresh = gate.judge([*ours, *blight], False, replace(champion, classes=("a", "b")), rules)
    assert (found(fresh, "recall of blight").state, fresh.accepted) == (NOT_JUDGED, True)
    assert "recall of blight not compared: old does not know it" in fresh.unjudged


def test_a_critical_class_that_the_model_does_not_know_is_refused() -> None:
    rules = replace(FREE, critical=("blihgt",))
    refused = gate.judge(GOOD, False, None, rules, Facts(classes=("a", "b")))
    assert refused.reasons == ["gate.critical names blihgt, a class that the model does not know"]


def test_ceilings_and_field_photos_are_judged_where_they_were_measured() -> None:
    many = answers(95, 5) + answers(95, 5, "b", "a")
    measured = Facts(
        ("a", "b"), ece=0.2, size_mb=90, latency_ms=8, champion_latency_ms=2, field_photos=50, field_accuracy=0.4
    )
    rules = replace(RULES, max_model_mb=80, field_min_accuracy=0.5)
    assert gate.judge(many, False, None, rules, measured).reasons == [
        "field accuracy 0.400 on 50 field photos is below 0.500",
        "calibration error 0.200 is more than 0.150",
        "model size 90.0 MB is more than 80.0 MB",
        "time against the release in service 4.00 times is more than 3.00 times",
    ]
    few = gate.judge(
        many, False, None, replace(RULES, field_min_accuracy=0.5), replace(measured, field_photos=5, ece=0)
    )
    assert "field accuracy 0.400 on 5 field photos is below 0.500, but 5 photos are too few to tell: 10 needed" in (
        few.said(NOT_ENOUGH)
    )
    assert gate.judge(many, False, None, replace(RULES, field_min_accuracy=0.5)).unjudged == [
        "field accuracy not judged: no field photos were evaluated"
    ]
    none = replace(RULES, max_ece=0, max_model_mb=0, max_slowdown=0, max_latency_ms=0)
    assert gate.judge(many, False, None, none, measured).accepted
    assert "calibration error not judged: 40 test photos, 100 needed" in (
        gate.judge(GOOD, False, None, RULES, Facts(ece=0.9)).unjudged
    )


def test_a_limit_that_is_kept_is_no_evidence() -> None:
    small = gate.judge([], False, None, RULES, Facts(size_mb=1, latency_ms=1))
    assert (small.outcome, small.accepted) == (NOT_ENOUGH, False)


@pytest.mark.parametrize(
    ("lost", "photos", "state"), [(0, 60, "passed"), (5, 60, NOT_JUDGED), (20, 60, "failed"), (20, 29, NOT_JUDGED)]
)
def test_a_fall_in_the_field_is_refused_where_it_is_sure(lost: int, photos: int, state: str) -> None:
    """The test photos say that the two are alike; with fewer than min_compared field photos nothing is judged."""
    ours, champion = both(600, 6, 6)
    here, there = both(photos, lost, 0)
    outside = replace(champion, field=there.answers, ours_in_field=tuple(here))
    verdict = gate.judge(ours, False, outside, FREE)
    of = [one for one in verdict.findings if one.rule.startswith("field")]
    assert {one.state for one in of} == {state}
    assert verdict.accepted is (state != "failed")
    if photos >= RULES.min_compared:
        assert [one.rule.split(" against")[0] for one in of] == ["field accuracy", "field macro_f1"]
        assert f"of old on the same {photos} field photos: " in of[0].sentence
        assert of[0].numbers["lost"] == lost
    else:
        assert [one.sentence for one in of] == [f"not compared with old in the field: {photos} photos, 30 needed"]


def test_a_person_can_overrule_and_the_verdict_says_so() -> None:
    refused = gate.judge(*_args(600, 36, 0), FREE)
    overruled = replace(refused, overruled=Overruled("ana", "field trial", "2026-01-01"))
    assert (overruled.outcome, overruled.accepted) == ("refused", True)
    assert overruled.to_dict()["accepted_anyway"] == {"user": "ana", "reason": "field trial", "at": "2026-01-01"}
    assert gate.judge(GOOD, True, Champion("real", False, tuple(GOOD)), RULES).binding
    assert not refused.binding


def test_the_verdict_holds_every_number_as_json() -> None:
    verdict = gate.judge(*_args(600, 9, 5), FREE).to_dict()
    assert json.loads(json.dumps(verdict)) == {**verdict, "rules": {**verdict["rules"], "critical": []}}
    one = next(one for one in verdict["findings"] if one["rule"] == "accuracy against the release in service")
    assert one["numbers"].keys() >= {"photos", "groups", "gained", "lost", "mcnemar_p", "champion"}
    assert (one["numbers"]["gained"], one["numbers"]["lost"]) == (5, 9)
    assert one["low"] < one["difference"] < one["high"]
    assert (verdict["against"], verdict["rules"]["max_fall"]) == ("old", 0.04)


KINDS = st.sampled_from("abc")
PHOTOS = st.lists(st.tuples(KINDS, KINDS, KINDS, st.integers(0, 9)), min_size=1, max_size=40)


def compared(photos: list[tuple[str, str, str, int]]) -> list[gate.Finding]:
    """What the comparison alone finds, of (class, candidate's answer, champion's answer, group)."""
    ours = [Answer(str(n), kind, said, f"g{group}") for n, (kind, said, _, group) in enumerate(photos)]
    theirs = tuple(Answer(str(n), kind, said, f"g{group}") for n, (kind, _, said, group) in enumerate(photos))
    rules = replace(FREE, min_compared=1, min_support=1, critical=("a",), max_ece=0)
    verdict = gate.judge(ours, False, Champion("old", False, theirs), rules)
    return [one for one in verdict.findings if "against" in one.rule]


@settings(max_examples=60, deadline=None)
@given(photos=PHOTOS)
def test_the_same_model_is_never_refused_by_the_comparison(photos: list[tuple[str, str, str, int]]) -> None:
    assert "failed" not in {
        one.state for one in compared([(kind, said, said, group) for kind, said, _, group in photos])
    }


@settings(max_examples=60, deadline=None)
@given(photos=PHOTOS)
def test_a_model_that_loses_no_photo_is_never_refused_by_the_comparison(
    photos: list[tuple[str, str, str, int]],
) -> None:
    superset = [(kind, kind if kind == theirs else ours, theirs, group) for kind, ours, theirs, group in photos]
    assert "failed" not in {one.state for one in compared(superset)}


@settings(max_examples=30, deadline=None)
@given(photos=PHOTOS)
def test_the_verdict_is_a_function_of_its_input(photos: list[tuple[str, str, str, int]]) -> None:
    assert compared(photos) == compared(photos)


def test_the_room_is_cheap_to_import() -> None:
    """`plantops check` may pass by here; NumPy is wanted only where a model is judged."""
    script = "import sys, plantops.judgement; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)

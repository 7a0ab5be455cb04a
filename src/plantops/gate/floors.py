"""What a model must reach by itself: scores with enough photos, honest confidence, size, speed, field photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plantops.config import GateConfig
from plantops.gate import evidence
from plantops.gate.answers import Answer, accuracy, macro_f1, recalls
from plantops.gate.evidence import Interval
from plantops.gate.verdict import FAILED, NOT_ENOUGH, NOT_JUDGED, PASSED, Finding

_ECE_PHOTOS = 100  # with fewer the calibration error is mostly noise: in bins of a few photos nothing fits


@dataclass(frozen=True)
class Facts:
    """What else is known of the candidate; None where it was not measured.

    ``classes`` it knows; ``ece`` 0..1 on test photos; ``size_mb`` of the ONNX file; ``latency_ms`` for one photo on
    this machine's CPU, and the champion's beside it; scores on ``field_photos`` photos from the field.
    """

    classes: tuple[str, ...] = ()
    ece: float | None = None
    size_mb: float | None = None
    latency_ms: float | None = None
    champion_latency_ms: float | None = None
    field_photos: int | None = None
    field_accuracy: float | None = None
    field_macro_f1: float | None = None


def floors(answers: Sequence[Answer], facts: Facts, rules: GateConfig) -> list[Finding]:
    """All rules that need no champion."""
    return [
        *_scores(answers, rules),
        *_recalls(answers, rules),
        *_unknown_critical(facts, rules),
        *_field(facts, rules),
        *_ceilings(facts, len(answers), rules),
    ]


def _scores(answers: Sequence[Answer], rules: GateConfig) -> list[Finding]:
    if not answers:
        names = ("accuracy", "macro_f1")
        return [Finding(name, NOT_JUDGED, f"{name} not judged: no test photos") for name in names]
    right = accuracy(answers)
    effect = evidence.design_effect([one.right for one in answers], [one.unit for one in answers])
    bounds = evidence.wilson(right * len(answers) / effect, len(answers) / effect, rules.confidence)
    found = [
        _floor("accuracy", right, rules.min_accuracy, len(answers), rules, bounds),
        _floor("macro_f1", macro_f1(answers), rules.min_macro_f1, len(answers), rules),
    ]
    return found if len(answers) >= rules.min_support else [_few(one, len(answers), rules) for one in found]


def _few(one: Finding, photos: int, rules: GateConfig) -> Finding:
    """A floor on fewer photos than ``min_support``: missed only where that is no chance, reached not surely at all."""
    assert one.threshold is not None
    if one.high is not None and one.high < one.threshold:
        return one
    said = f"{one.sentence}, but {photos} photos are too few to tell: {rules.min_support} needed"
    return replace(one, state=NOT_ENOUGH, sentence=said)


def _recalls(answers: Sequence[Answer], rules: GateConfig) -> list[Finding]:
    found = []
    for name, (recall, support) in recalls(answers).items():
        rule = f"recall of {name}"
        if support < rules.min_support:
            said = f"{rule} not judged: {support} test photos, {rules.min_support} needed"
            found.append(Finding(rule, NOT_JUDGED, said))
        else:
            bounds = evidence.wilson(recall * support, support, rules.confidence)
            found.append(_floor(rule, recall, rules.min_recall, support, rules, bounds))
    return found


def _floor(
    name: str, value: float, least: float, photos: int, rules: GateConfig, bounds: Interval | None = None
) -> Finding:
    ok = value >= least
    sentence = f"{name} {value:.3f} on {photos} test photos {'reaches' if ok else 'is below'} {least:.3f}"
    low, high = (bounds.low, bounds.high) if bounds else (None, None)
    if bounds:
        sentence += f" ({rules.confidence:.0%} sure between {low:.3f} and {high:.3f})"
    return Finding(name, PASSED if ok else FAILED, sentence, value, least, low, high, numbers={"photos": photos})


def _unknown_critical(facts: Facts, rules: GateConfig) -> list[Finding]:
    """A class that may not fall and that the model does not know at all, by a slip in the name or because it went."""
    missing = [name for name in rules.critical if facts.classes and name not in facts.classes]
    return [
        Finding(f"critical class {name}", FAILED, f"gate.critical names {name}, a class that the model does not know")
        for name in missing
    ]


def _field(facts: Facts, rules: GateConfig) -> list[Finding]:
    """Photos from the field say more of use than any others; without them, or without a floor, nothing is judged."""
    given = (
        ("field accuracy", facts.field_accuracy, rules.field_min_accuracy),
        ("field macro_f1", facts.field_macro_f1, rules.field_min_macro_f1),
    )
    found = []
    for name, value, least in given:
        on = f" on {facts.field_photos} field photos" if facts.field_photos else ""
        if value is None:
            if least:
                found.append(Finding(name, NOT_JUDGED, f"{name} not judged: no field photos were evaluated"))
        elif not least:
            key = f"gate.field_min_{name.removeprefix('field ')}"
            found.append(Finding(name, NOT_JUDGED, f"{name} {value:.3f}{on}, not judged: {key} is 0", value))
        else:
            ok = value >= least
            said = f"{name} {value:.3f}{on} {'reaches' if ok else 'is below'} {least:.3f}"
            one = Finding(name, PASSED if ok else FAILED, said, value, least)
            photos = facts.field_photos
            found.append(one if photos is None or photos >= rules.min_support else _few(one, photos, rules))
    return found


def _ceilings(facts: Facts, photos: int, rules: GateConfig) -> list[Finding]:
    slower = (
        facts.latency_ms / facts.champion_latency_ms
        if facts.latency_ms is not None and facts.champion_latency_ms
        else None
    )
    ece = facts.ece if photos >= _ECE_PHOTOS else None
    given = (
        ("calibration error", ece, rules.max_ece, "{:.3f}"),
        ("model size", facts.size_mb, rules.max_model_mb, "{:.1f} MB"),
        ("time for a photo", facts.latency_ms, rules.max_latency_ms, "{:.2f} ms"),
        ("time against the release in service", slower, rules.max_slowdown, "{:.2f} times"),
    )
    found = [_ceiling(*one) for one in given if one[1] is not None and one[2]]
    if facts.ece is not None and ece is None and rules.max_ece:
        said = f"calibration error not judged: {photos} test photos, {_ECE_PHOTOS} needed"
        found.insert(0, Finding("calibration error", NOT_JUDGED, said, facts.ece, rules.max_ece))
    return found


def _ceiling(name: str, value: float | None, most: float, shown: str) -> Finding:
    assert value is not None
    ok = value <= most
    said = f"{name} {shown.format(value)} {'is within' if ok else 'is more than'} {shown.format(most)}"
    return Finding(name, PASSED if ok else FAILED, said, value, most, evidence=False)

"""How a release behaves under real requests, from its `/metrics`; and whether that is broken, against the one before.

What is judged needs no labels: errors, time in the model, confidence, doubts, and the mix of answers. Two releases
that answer the same traffic differ little in these; the thresholds are wide, because what they decide is a rollback.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

FEWEST_PHOTOS = 50
FEWEST_REQUESTS = 20
_ERRORS = 0.05
_SLOWER, _SLOWER_S = 3.0, 0.005
_LESS_SURE = 0.25
_MORE_DOUBTS = 0.5
_ONE_CLASS, _WAS_MIXED = 0.95, 0.7
_OTHER_MIX = 0.5
_SERIES = 10  # photos come in series: so many tell as much of a mix as one


@dataclass(frozen=True)
class Figures:
    """Sums over the requests that a release answered.

    ``photos`` answered, ``classes``: answers by class, ``confidence`` and ``seconds`` in the model: sums over the
    photos, ``unsure`` and ``unlike``: photos; ``requests`` for answers and ``errors`` among them (5xx but 503).
    """

    release: str = ""
    photos: float = 0
    classes: Mapping[str, float] = field(default_factory=dict)
    confidence: float = 0
    seconds: float = 0
    unsure: float = 0
    unlike: float = 0
    requests: float = 0
    errors: float = 0

    @classmethod
    def of(cls, text: str) -> Self:
        """From what `/metrics` says."""
        from prometheus_client.parser import text_string_to_metric_families

        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]

        def total(name: str) -> float:
            return float(sum(one.value for one in samples if one.name == name))

        asked = [
            one for one in samples
            if one.name == "api_requests_total" and one.labels["endpoint"].startswith("/predict")
        ]  # fmt: skip
        wrong = [one for one in asked if one.labels["status"].startswith("5") and one.labels["status"] != "503"]
        return cls(
            next((one.labels.get("release", "") for one in samples if one.name == "model_info"), ""),
            total("prediction_confidence_count"),
            {one.labels["class_name"]: one.value for one in samples if one.name == "predictions_by_class_total"},
            total("prediction_confidence_sum"),
            total("inference_latency_seconds_sum"),
            total("predictions_unsure_total"),
            total("predictions_unlike_total"),
            sum(one.value for one in asked),
            sum(one.value for one in wrong),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "classes": dict(self.classes)}

    def since(self, before: Self) -> Self:
        """What was added; all of it where the counting began anew in between."""
        if before.release != self.release or before.requests > self.requests or before.photos > self.photos:
            return self
        added = {one.name: getattr(self, one.name) - getattr(before, one.name) for one in fields(self)[3:]}
        classes = {name: count - before.classes.get(name, 0) for name, count in self.classes.items()}
        return type(self)(self.release, self.photos - before.photos, classes, **added)

    def called(self, names: Mapping[str, str]) -> Self:
        """With the names that another release has for some of the classes (old -> new)."""
        return replace(self, classes={names.get(name, name): count for name, count in self.classes.items()})

    @property
    def shares(self) -> dict[str, float]:
        """Of the answers, by class."""
        return {name: count / self.photos for name, count in self.classes.items()} if self.photos else {}


def broken(now: Figures, before: Figures | None, timed: bool = True) -> list[str]:
    """What is wrong with a release, in words; nothing while too little is known. ``before``: of the one it replaced.

    Not ``timed``: the machine had other work, and what a photo takes in the model is not judged.
    """
    found = _errors(now, before)
    if before and min(now.photos, before.photos) >= FEWEST_PHOTOS:
        shared = _shared(now, before)
        if min(one.photos for one in shared) >= FEWEST_PHOTOS:
            found += [said for one in (_constant, _mix) if (said := one(*shared))]
        found += _doubts(now, before)
        found += [said for one in (_confidence, *([_slow] if timed else [])) if (said := one(now, before))]
    return found


def alike(now: Figures, before: Figures) -> str:
    """How the two compare, in a line."""
    old, new = before.confidence / before.photos, now.confidence / now.photos
    moved = _apart(*_shared(now, before))
    return f"{now.photos:.0f} photos, confidence {old:.2f} → {new:.2f}, {moved:.0%} of the answers moved"


def _shared(now: Figures, before: Figures) -> tuple[Figures, Figures]:
    """The answers of classes that both know (the API names those without an answer, too): a class that is new or gone
    is no other answer."""

    def of(one: Figures, other: Figures) -> Figures:
        classes = {name: count for name, count in one.classes.items() if name in other.classes}
        return replace(one, classes=classes, photos=sum(classes.values()))

    return of(now, before), of(before, now)


def _errors(now: Figures, before: Figures | None) -> list[str]:
    was = before.errors / before.requests if before and before.requests else 0.0
    if now.requests < FEWEST_REQUESTS or now.errors / now.requests <= max(_ERRORS, 3 * was):
        return []
    return [f"{now.errors:.0f} of {now.requests:.0f} requests ended in a server error ({was:.0%} before)"]


def _constant(now: Figures, before: Figures) -> str:
    most = max(now.shares, key=lambda name: now.shares[name])
    if now.shares[most] < _ONE_CLASS or max(before.shares.values()) > _WAS_MIXED:
        return ""
    was = before.shares.get(most, 0)
    return f"{now.shares[most]:.0%} of {now.photos:.0f} photos are answered {most} ({was:.0%} before)"


def _mix(now: Figures, before: Figures) -> str:
    apart = _apart(now, before)
    moved = {name: now.shares.get(name, 0) - before.shares.get(name, 0) for name in {*now.shares, *before.shares}}
    most = max(moved, key=lambda name: moved[name])
    if apart <= _OTHER_MIX + _by_chance(now, before):
        return ""
    was, now_is = before.shares.get(most, 0), now.shares.get(most, 0)
    return f"another mix of answers: {apart:.0%} moved, most to {most} ({was:.0%} → {now_is:.0%})"


def _apart(now: Figures, before: Figures) -> float:
    """Total variation distance of the answers' shares, 0..1."""
    names = {*now.shares, *before.shares}
    return sum(abs(now.shares.get(name, 0) - before.shares.get(name, 0)) for name in names) / 2


def _by_chance(now: Figures, before: Figures) -> float:
    """How far apart two samples of one mix are on average (half the mean deviations of normal differences)."""
    photos = now.photos + before.photos
    shares = [(now.classes.get(name, 0) + count) / photos for name, count in before.classes.items()]
    series = _SERIES / now.photos + _SERIES / before.photos
    return sum(math.sqrt(2 / math.pi * share * (1 - share) * series) for share in shares) / 2


def _confidence(now: Figures, before: Figures) -> str:
    old, new = before.confidence / before.photos, now.confidence / now.photos
    return f"confidence fell from {old:.2f} to {new:.2f} on average" if old - new > _LESS_SURE else ""


def _doubts(now: Figures, before: Figures) -> list[str]:
    """Of one that had no doubts at all nothing is known: older bundles cannot tell."""
    kinds = {"unsure": "are unsure", "unlike": "are of photos unlike those it learned from"}
    shares = {kind: (getattr(now, kind) / now.photos, getattr(before, kind) / before.photos) for kind in kinds}
    return [
        f"{new:.0%} of the answers {kinds[kind]} ({old:.0%} before)"
        for kind, (new, old) in shares.items()
        if old and new - old > _MORE_DOUBTS
    ]


def _slow(now: Figures, before: Figures) -> str:
    old, new = before.seconds / before.photos, now.seconds / now.photos
    if new <= _SLOWER * old or new - old < _SLOWER_S:
        return ""
    return f"{new / old:.1f} times slower: {1e3 * new:.0f} ms a photo in the model, {1e3 * old:.0f} ms before"

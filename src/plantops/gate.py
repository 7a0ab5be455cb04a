"""The gate: may this model go in front of people? Pure: answers on test photos and rules in, a verdict out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from plantops.config import GateConfig

PASSED, FAILED, NOT_JUDGED = "passed", "failed", "not judged"


@dataclass(frozen=True)
class Answer:
    """One test photo: its md5, its class, and the class that the model said."""

    photo: str
    actual: str
    predicted: str


@dataclass(frozen=True)
class Finding:
    """One rule with its numbers: ``state`` is passed, failed or not judged; ``sentence`` says it in words."""

    rule: str
    state: str
    sentence: str
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Accepted when no rule failed and at least one was judged."""

    findings: tuple[Finding, ...]

    @property
    def accepted(self) -> bool:
        """Whether the model may be released."""
        states = [one.state for one in self.findings]
        return FAILED not in states and PASSED in states

    @property
    def reasons(self) -> list[str]:
        """The sentences of the rules that failed."""
        return [one.sentence for one in self.findings if one.state == FAILED]

    @property
    def unjudged(self) -> list[str]:
        """The sentences of the rules that could not be judged."""
        return [one.sentence for one in self.findings if one.state == NOT_JUDGED]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"accepted": self.accepted, "findings": [asdict(one) for one in self.findings]}


@dataclass(frozen=True)
class Champion:
    """The release in service: its name, and its answers on photos that neither it nor the candidate learned from."""

    release: str
    sample_data: bool
    answers: tuple[Answer, ...]


def judge(candidate: Sequence[Answer], sample_data: bool, champion: Champion | None, rules: GateConfig) -> Verdict:
    """Judge a candidate by its answers on its test photos, and against the champion on the same photos.

    Without a champion only the floors decide. A champion of other classes is compared on the shared classes. One
    of drawn data is none for real photos, and a model of drawn leaves never replaces one of real photos.
    """
    findings = [*_floors(candidate, rules), *_recalls(candidate, rules)]
    if champion:
        findings += _against(candidate, sample_data, champion, rules)
    return Verdict(tuple(findings))


def accuracy(answers: Sequence[Answer]) -> float:
    """Share of right answers, 0..1; ``answers`` must not be empty."""
    return sum(one.actual == one.predicted for one in answers) / len(answers)


def macro_f1(answers: Sequence[Answer]) -> float:
    """Mean F1 over the classes that occur among the photos, 0..1 (sklearn's ``f1_score`` over those labels)."""
    support = Counter(one.actual for one in answers)
    said = Counter(one.predicted for one in answers)
    right = Counter(one.actual for one in answers if one.actual == one.predicted)
    return sum(2 * right[name] / (support[name] + said[name]) for name in support) / len(support)


def recalls(answers: Sequence[Answer]) -> dict[str, tuple[float, int]]:
    """class -> (share of its photos found, how many there are)."""
    support = Counter(one.actual for one in answers)
    right = Counter(one.actual for one in answers if one.actual == one.predicted)
    return {name: (right[name] / support[name], support[name]) for name in sorted(support)}


def _floors(answers: Sequence[Answer], rules: GateConfig) -> list[Finding]:
    floors = (("accuracy", rules.min_accuracy, accuracy), ("macro_f1", rules.min_macro_f1, macro_f1))
    if not answers:
        return [Finding(name, NOT_JUDGED, f"{name} not judged: no test photos") for name, _, _ in floors]
    return [_floor(name, measure(answers), least, len(answers)) for name, least, measure in floors]


def _floor(name: str, value: float, least: float, photos: int) -> Finding:
    ok = value >= least
    sentence = f"{name} {value:.3f} on {photos} test photos {'reaches' if ok else 'is below'} {least:.3f}"
    return Finding(name, PASSED if ok else FAILED, sentence, value, least)


def _recalls(answers: Sequence[Answer], rules: GateConfig) -> list[Finding]:
    found = []
    for name, (recall, support) in recalls(answers).items():
        rule = f"recall of {name}"
        if support < rules.min_support:
            said = f"{rule} not judged: {support} test photos, {rules.min_support} needed"
            found.append(Finding(rule, NOT_JUDGED, said))
        else:
            found.append(_floor(rule, recall, rules.min_recall, support))
    return found


def _against(candidate: Sequence[Answer], drawn: bool, champion: Champion, rules: GateConfig) -> list[Finding]:
    if drawn != champion.sample_data:
        if drawn:
            said = f"a model of drawn sample leaves does not replace {champion.release}, which learned from real photos"
            return [Finding("drawn data", FAILED, said)]
        said = f"{champion.release} learned from drawn leaves: no champion for a model of real photos"
        return [Finding("against the release in service", NOT_JUDGED, said)]
    ours = {one.photo: one for one in candidate}
    theirs = {one.photo: one for one in champion.answers if one.photo in ours}
    if len(theirs) < max(1, rules.min_compared):
        said = (
            f"not compared with {champion.release}: {len(theirs)} photos that neither learned from, "
            f"{rules.min_compared} needed"
        )
        return [Finding("against the release in service", NOT_JUDGED, said)]
    pairs = ([ours[photo] for photo in theirs], list(theirs.values()))
    return [_fall(name, measure, *pairs, champion.release, rules.max_fall) for name, measure in _MEASURES]


_MEASURES = (("accuracy", accuracy), ("macro_f1", macro_f1))


def _fall(name: str, measure: Any, ours: list[Answer], theirs: list[Answer], release: str, most: float) -> Finding:
    new, old = measure(ours), measure(theirs)
    fall = old - new
    ok = fall <= most + 1e-12
    sentence = f"{name} {new:.3f} against {old:.3f} of {release} on the same {len(ours)} photos: " + (
        f"{new - old:+.3f}" if ok else f"falls by {fall:.3f}, more than {most:.3f}"
    )
    return Finding(f"{name} against the release in service", PASSED if ok else FAILED, sentence, new, old - most)

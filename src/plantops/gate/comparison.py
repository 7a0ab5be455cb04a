"""The candidate against the release in service, on photos that neither learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plantops.config import GateConfig
from plantops.gate.answers import Answer, recalls
from plantops.gate.pairs import Measured, Pairs
from plantops.gate.verdict import FAILED, NOT_ENOUGH, NOT_JUDGED, PASSED, Finding

RULE = "against the release in service"


@dataclass(frozen=True)
class Champion:
    """The release in service (or the one named instead): its name, and both models' answers on the same photos.

    The photos are those that neither learned from, of classes that both know; both answer with one of these classes.
    ``ours`` None: the candidate's answers on all its test photos are taken. ``field``: photos from the field.
    ``classes``: those that both know; empty: all.
    """

    release: str
    sample_data: bool
    answers: tuple[Answer, ...]
    ours: tuple[Answer, ...] | None = None
    field: tuple[Answer, ...] = ()
    ours_in_field: tuple[Answer, ...] = ()
    classes: tuple[str, ...] = ()


def compare(candidate: Sequence[Answer], drawn: bool, champion: Champion, rules: GateConfig) -> list[Finding]:
    """What the comparison finds. The reasoning is in docs/decisions/0012-what-the-gate-can-know.md."""
    if drawn != champion.sample_data:
        return [_of_different_kind(drawn, champion)]
    return [*_on_tests(candidate, champion, rules), *_in_field(champion, rules)]


def _on_tests(candidate: Sequence[Answer], champion: Champion, rules: GateConfig) -> list[Finding]:
    pairs = Pairs.on_the_same(candidate if champion.ours is None else champion.ours, champion.answers)
    if len(pairs) < max(1, rules.min_compared):
        said = (
            f"not compared with {champion.release}: {len(pairs)} photos that neither learned from, "
            f"{rules.min_compared} needed"
        )
        return [Finding(RULE, NOT_ENOUGH, said)]
    scores = pairs.scores(rules.confidence)
    found = [_score(name, one, pairs, champion.release, rules) for name, one in scores.items()]
    return [*found, *_classes(pairs, rules), *_critical(pairs, champion, rules)]


def _of_different_kind(drawn: bool, champion: Champion) -> Finding:
    if drawn:
        said = f"a model of drawn sample leaves does not replace {champion.release}, which learned from real photos"
        return Finding("drawn data", FAILED, said, binding=True)
    said = f"{champion.release} learned from drawn leaves: no champion for a model of real photos"
    return Finding(RULE, NOT_JUDGED, said)


def _score(name: str, one: Measured, pairs: Pairs, release: str, rules: GateConfig) -> Finding:
    state, says = _weigh(one, pairs.lost, rules)
    among = f" ({pairs.groups} groups)" if pairs.groups < len(pairs) else ""
    sentence = f"{name} {one.new:.3f} against {one.old:.3f} of {release} on the same {len(pairs)} photos{among}: {says}"
    numbers = {
        "photos": len(pairs),
        "groups": pairs.groups,
        "gained": pairs.gained,
        "lost": pairs.lost,
        "mcnemar_p": pairs.chance(),
        "champion": one.old,
    }
    return _compared(name, one, state, sentence, rules.max_fall, numbers)


def _compared(
    name: str, one: Measured, state: str, sentence: str, most: float, numbers: Mapping[str, float]
) -> Finding:
    return Finding(
        f"{name} {RULE}", state, sentence, one.new, one.old - most,
        one.bounds.low, one.bounds.high, one.difference, numbers=numbers,
    )  # fmt: skip


def _weigh(one: Measured, lost: int, rules: GateConfig) -> tuple[str, str]:
    """Passed: a fall of more than ``max_fall`` is ruled out. Else it fails where nearer to such a fall than to none.

    Where no photo is lost nothing fails: macro-F1 can fall by what the two say of photos that both have wrong.
    """
    most, low, high = rules.max_fall, one.bounds.low, one.bounds.high
    tie = "a tie" if low <= 0 <= high else "surely better" if low > 0 else "surely worse"
    said = f"{one.difference:+.3f} ({_sure(one, rules)}): {tie}"
    if low >= -most:
        return PASSED, f"{said}; a fall of more than {most:.3f} is ruled out"
    if one.difference < -most / 2 - 1e-12 and lost:
        beyond = one.difference < -most - 1e-12
        than = f"more than {most:.3f}" if beyond else f"too near to {most:.3f} to rule out that it is more"
        return FAILED, f"falls by {-one.difference:.3f}, {than} ({_sure(one, rules)}: {tie})"
    return NOT_ENOUGH, f"{said}; too few photos to rule out a fall of more than {most:.3f}"


def _in_field(champion: Champion, rules: GateConfig) -> list[Finding]:
    """Photos from the field are few and come in bursts: refused where a fall of more than ``max_fall`` is sure."""
    pairs = Pairs.on_the_same(champion.ours_in_field, champion.field)
    if not len(pairs):
        return []
    if len(pairs) < rules.min_compared:
        said = f"not compared with {champion.release} in the field: {len(pairs)} photos, {rules.min_compared} needed"
        return [Finding(f"field {RULE}", NOT_JUDGED, said)]
    found = []
    for name, one in pairs.scores(rules.confidence).items():
        state, says = _surely(one, rules.max_fall, rules)
        of = f"{one.old:.3f} of {champion.release} on the same {len(pairs)} field photos"
        sentence = f"field {name} {one.new:.3f} against {of}: {says}"
        numbers = {"photos": len(pairs), "gained": pairs.gained, "lost": pairs.lost, "champion": one.old}
        found.append(_compared(f"field {name}", one, state, sentence, rules.max_fall, numbers))
    return found


def _classes(pairs: Pairs, rules: GateConfig) -> list[Finding]:
    """Recall of each class with enough photos: refused where a fall of more than ``max_recall_fall`` is sure."""
    found = []
    for name, (_, support) in recalls(pairs.ours).items():
        one = pairs.recall(name, rules.confidence)
        if one is None or support < rules.min_support or name in rules.critical:
            continue
        found.append(_recall(name, one, support, *_surely(one, rules.max_recall_fall, rules), rules.max_recall_fall))
    return found


def _surely(one: Measured, most: float, rules: GateConfig) -> tuple[str, str]:
    """Failed where a fall of more than ``most`` is sure; one that may be chance is told."""
    sure = _sure(one, rules)
    if one.bounds.high < -most:
        return FAILED, f"falls by {-one.difference:.3f}, surely more than {most:.3f} ({sure})"
    if one.difference < -most:
        return NOT_JUDGED, f"falls by {-one.difference:.3f}, which may be chance ({sure})"
    return PASSED, f"{one.difference:+.3f} ({sure})"


def _critical(pairs: Pairs, champion: Champion, rules: GateConfig) -> list[Finding]:
    """Recall of the classes that may not fall: a fall that may be chance is not enough evidence."""
    found = []
    for name in rules.critical:
        if champion.classes and name not in champion.classes:
            said = f"recall of {name} not compared: {champion.release} does not know it"
            found.append(Finding(f"recall of {name} {RULE}", NOT_JUDGED, said))
            continue
        one, support = pairs.recall(name, rules.confidence), sum(answer.actual == name for answer in pairs.ours)
        if one is None or support < rules.min_support:
            said = f"recall of {name}, which may not fall: {support} photos to compare on, {rules.min_support} needed"
            found.append(Finding(f"recall of {name} {RULE}", NOT_ENOUGH, said))
            continue
        sure = _sure(one, rules)
        if one.difference >= 0:
            state, says = PASSED, f"{one.difference:+.3f} ({sure})"
        elif one.bounds.high < 0:
            state, says = FAILED, f"falls by {-one.difference:.3f}, and may not fall ({sure})"
        else:
            state, says = NOT_ENOUGH, f"falls by {-one.difference:.3f}, and may not fall; it may be chance ({sure})"
        found.append(_recall(name, one, support, state, says, 0.0))
    return found


def _recall(name: str, one: Measured, support: int, state: str, says: str, most: float) -> Finding:
    sentence = f"recall of {name} {one.new:.3f} against {one.old:.3f} on the same {support} photos: {says}"
    return _compared(f"recall of {name}", one, state, sentence, most, {"photos": support, "champion": one.old})


def _sure(one: Measured, rules: GateConfig) -> str:
    return f"{rules.confidence:.0%} sure between {one.bounds.low:+.3f} and {one.bounds.high:+.3f}"

"""What is wrong with the photos, as a whole. Pure: values in, findings out.

What a finding means for a run is `data.rules` in config.yaml.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter

from plantops.config import RulesConfig
from plantops.look import files
from plantops.look.alike import Alike, Group
from plantops.look.findings import NOTE, STOP, WARN, Case, Finding, count
from plantops.look.photos import Photo
from plantops.look.since import ClassRow
from plantops.look.suspects import Suspects
from plantops.ondisk import Sorted
from plantops.scan import Loose

IMBALANCE = 10
_AND = " and "  # between the sides of the split
Split = Iterable[Mapping[str, str]]  # gone through several times, as the photos


@dataclass(frozen=True)
class Scene:
    """What the rules judge. ``split``: rows of the prepared index (path, md5, class, group, split), where there is one;
    ``relabelled``: paths with the class that the release in service learned them as; ``loose``: folders of field
    photos that DVC does not know as they are."""

    photos: Iterable[Photo]
    alike: Alike
    classes: Sequence[ClassRow]
    suspects: Suspects
    split: Split = ()
    relabelled: Sequence[tuple[str, str]] = ()
    min_side: int = 1
    test_share: float = 0.0
    min_support: int = 0
    loose: Sequence[Loose] = ()


def judge(scene: Scene, rules: RulesConfig) -> list[Finding]:
    """All findings that ``rules`` do not switch off: what stops first, then warnings, then notes."""
    every = [
        *files.findings(scene.photos, scene.min_side),
        *_copies(scene.alike),
        *_classes(scene),
        *leaks(scene.alike, scene.split),
        *_labels(scene),
        *_field(scene),
    ]
    return levelled(every, rules)


def levelled(found: Iterable[Finding], rules: RulesConfig) -> list[Finding]:
    """The findings with the level that ``rules`` give them, without those switched off, in order of level."""
    levels, order = asdict(rules), (STOP, WARN, NOTE)
    wanted = [replace(one, level=levels[one.rule]) for one in found if levels[one.rule] in order]
    return sorted(wanted, key=lambda one: order.index(one.level))


def _copies(alike: Alike) -> Iterator[Finding]:
    for name, groups, text in (
        ("", alike.same, "the same picture to the pixel"),
        ("near_", alike.near, "the same picture saved again"),
    ):
        within = [group for group in groups if len({one.label for one in group}) == 1]
        across = [group for group in groups if len({one.label for one in group}) > 1]
        for rule, some, said, help_ in (
            ("conflicts", across, f"{text}, in more than one class", "decide on one class for each, remove the others"),
            ("copies", within, f"{text}, in one class", "keep one of each, remove the others"),
        ):
            if some:
                cases = tuple(Case(tuple(one.path for one in _class_by_class(group))) for group in some)
                total = f"{count(sum(len(group) for group in some))} of {len(some):,} picture{'s'[: len(some) > 1]}"
                yield Finding(name + rule, f"{said}: {total}", f"{help_}; then dvc add", cases)


def _class_by_class(group: Group) -> list[Photo]:
    """The first of each class, then the others."""
    first = {one.label: one for one in reversed(group)}
    return [*reversed(first.values()), *(one for one in group if first[one.label] is not one)]


def _classes(scene: Scene) -> Iterator[Finding]:
    here = [one for one in scene.classes if one.photos]
    for one in here:
        if 2 * one.unusable > one.photos:
            said = f"{one.name}: {one.unusable:,} of {one.photos:,} files cannot be used"
            bad = tuple(Case((p.path,), p.facts.why) for p in scene.photos if p.label == one.name and p.facts.problem)
            yield Finding("broken_class", said, "copy the class again, or remove it; then dvc add", bad)
    for one in scene.classes:
        if not one.photos:
            said = f"{one.name}: {one.note} since the release in service"
            yield Finding("class_gone", said, "dvc checkout brings it back, if that was not meant")
    counts = {one.name: one.photos - one.unusable for one in here}
    if counts and max(counts.values()) > IMBALANCE * min(counts.values()):
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        said = f"{most} has {counts[most]:,} photos, {least} has {counts[least]:,}"
        yield Finding("imbalance", said, "add photos to the small class; macro-F1 says more here than accuracy")
    yield from _too_small(scene, counts)


def _too_small(scene: Scene, counts: Mapping[str, int]) -> Iterator[Finding]:
    """Classes that the gate cannot judge: by the prepared split where it holds them, else by the share of tests."""
    listed = {row["class"] for row in scene.split}
    tests = Counter(row["class"] for row in scene.split if row["split"] == "test")
    expected = {name: tests[name] if name in listed else round(n * scene.test_share) for name, n in counts.items()}
    short = [f"{name} ({test} of {counts[name]:,})" for name, test in expected.items() if test < scene.min_support]
    if short:
        said = f"too few test photos for the gate, which judges a class by {scene.min_support}: {', '.join(short)}"
        yield Finding("small_class", said, "add photos, or lower gate.min_support")


def leaks(alike: Alike, split: Split) -> Iterator[Finding]:
    """What lies on two sides of the prepared split: groups, and photos that show the same picture."""
    cases = [*_divided(split), *_divided_pictures(alike, split)]
    if cases:
        said = f"{len(cases):,} leaves or pictures lie on two sides of the split: the scores are too good to be true"
        help_ = "split.group_by in params.yaml keeps photos of one leaf together; remove copies"
        yield Finding("leaks", said, help_, tuple(cases))


def _divided(split: Split) -> list[Case]:
    """Groups of the split on two sides, in the order of their first photo."""
    rows = Sorted()
    for at, row in enumerate(split):
        rows.add(row["group"], at, row["path"], row["split"])
    found = []
    for _, group in groupby(rows, key=itemgetter(0)):
        listed = list(group)
        case = _case([(path, where) for _, _, path, where in listed])
        if _AND in case.note:
            found.append((listed[0][1], case))
    return [case for _, case in sorted(found, key=itemgetter(0))]


def _divided_pictures(alike: Alike, split: Split) -> Iterator[Case]:
    groups = (*alike.same, *alike.near)
    asked = {one.md5 for group in groups for one in group}
    side = {row["md5"]: row["split"] for row in split if row["md5"] in asked} if asked else {}
    for group in groups:
        case = _case([(one.path, side[one.md5]) for one in group if one.md5 in side])
        if _AND in case.note:
            yield case


def _case(listed: Sequence[tuple[str, str]]) -> Case:
    return Case(tuple(path for path, _ in listed), _AND.join(sorted({where for _, where in listed})))


def _labels(scene: Scene) -> Iterator[Finding]:
    if scene.relabelled:
        cases = tuple(Case((path,), f"was {then}") for path, then in scene.relabelled)
        said = f"in another class than for the release in service: {count(len(cases))}"
        yield Finding("relabelled", said, "look at them", cases)
    found = scene.suspects.found
    if found:
        cases = tuple(
            Case((one.photo.path,), f"{one.predicted} {one.confidence:.2f}, its folder {one.own:.2f}") for one in found
        )
        said = f"a model contradicts the folder of {count(len(found))} (asked about {scene.suspects.whom()})"
        yield Finding("suspects", said, "look at them, and move those that lie in the wrong folder", cases)


def _field(scene: Scene) -> Iterator[Finding]:
    if scene.loose:
        said = (
            f"field photos are judged that DVC does not know as they are: {'; '.join(one.what for one in scene.loose)}"
        )
        help_ = "dvc add each folder in data/field; else nobody can get the photos again that a score is of"
        yield Finding("field_untracked", said, help_)

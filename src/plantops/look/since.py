"""What became of the photos since the release in service was trained, class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from plantops.judgement import renamed
from plantops.look.photos import Photo
from plantops.ondisk import Sorted

Rows = Iterable[Mapping[str, str]]


@dataclass(frozen=True)
class ClassRow:
    """A class now, and against a release, in photos by their bytes. ``came_from``, ``went_to``: photos that lie in
    another class than then; ``new`` and ``gone`` do not count them. ``note``: added, gone, renamed."""

    name: str
    photos: int
    unusable: int = 0
    new: int = 0
    gone: int = 0
    moved: int = 0
    came_from: int = 0
    went_to: int = 0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Since(NamedTuple):
    """A row for each class that is or was, and the paths of photos that lie in another class than when the release was
    trained, with that class; renamed classes left out."""

    classes: list[ClassRow]
    relabelled: list[tuple[str, str]]


class _Place(NamedTuple):
    path: str
    label: str


class _Both(NamedTuple):
    """Where photos with the same bytes lay for a release, and where they lie now; ``first``: the place of the first."""

    md5: str
    then: _Place | None
    now: _Place | None
    first: int


def compare(photos: Iterable[Photo], release: Rows | None) -> Since:
    """``release``: rows of its split.csv (path, md5, class), or None. Both are gone through several times."""
    files, unusable = Counter[str](), Counter[str]()
    for one in photos:
        files[one.label] += 1
        unusable[one.label] += bool(one.facts.problem)
    if release is None:
        return Since([ClassRow(name, files[name], unusable[name]) for name in sorted(files)], [])
    before = {row["class"] for row in release}
    kinds = ("new", "gone", "moved", "came_from", "went_to")
    counts = {kind: Counter[str]() for kind in kinds}
    away, relabelled = list[_Both](), list[tuple[int, str, str]]()
    for both in _by_bytes(photos, release):
        _count(counts, both)
        if both.then and both.then.label not in files:
            away.append(both)
        elif both.then and both.now and both.now.label != both.then.label:
            relabelled.append((both.first, both.now.path, both.then.label))
    notes = _notes(before, files.keys(), _renamed(away, before, files))
    rows = [(name, {kind: counts[kind][name] for kind in kinds}) for name in sorted({*files, *before})]
    classes = [ClassRow(name, files[name], unusable[name], **row, note=notes.get(name, "")) for name, row in rows]
    return Since(classes, [(path, label) for _, path, label in sorted(relabelled)])


def _by_bytes(photos: Iterable[Photo], release: Rows) -> Iterator[_Both]:
    """All usable photos and those of the release, by md5; of several the one that the release learned from: a copy
    beside it is no move."""
    rows = Sorted()
    for row in release:
        rows.add(row["md5"], -1, row["path"], row["class"])
    for at, one in enumerate(photos):
        if not one.facts.problem:
            rows.add(one.md5, at, one.path, one.label)
    for md5, group in groupby(rows, key=itemgetter(0)):
        then = now = None
        first = -1
        for _, at, *place in group:  # those of the release come first
            if at < 0:
                then = _Place(*place)
            elif now is None or (then and then.path == place[0]):
                now, first = _Place(*place), at if now is None else first
        yield _Both(md5, then, now, first)


def _count(counts: Mapping[str, Counter[str]], one: _Both) -> None:
    if one.now and not one.then:
        counts["new"][one.now.label] += 1
    elif one.then and not one.now:
        counts["gone"][one.then.label] += 1
    elif one.then and one.now and one.then.label != one.now.label:
        counts["came_from"][one.now.label] += 1
        counts["went_to"][one.then.label] += 1
    elif one.then and one.now and one.then.path != one.now.path:
        counts["moved"][one.then.label] += 1


def _renamed(away: Iterable[_Both], before: Set[str], here: Mapping[str, int]) -> dict[str, str]:
    """Classes that are called otherwise now, as the gate tells them. ``away``: photos of classes that are no more."""
    then = [{"md5": one.md5, "class": one.then.label} for one in away if one.then]
    now = [{"md5": one.md5, "class": one.now.label} for one in away if one.now]
    return renamed(then, now, before, here)


def _notes(before: Set[str], here: Set[str], names: Mapping[str, str]) -> dict[str, str]:
    """By class; ``names``: those that are called otherwise now."""
    notes = dict.fromkeys(here - before, "new class") | dict.fromkeys(before - here, "gone")
    for old, new in names.items():
        notes |= {old: f"renamed to {new}", new: f"was {old}"}
    return notes

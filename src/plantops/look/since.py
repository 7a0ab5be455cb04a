"""What became of the photos since the release in service was trained, class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from plantops.judgement import renamed
from plantops.look.photos import Photo


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


def table(photos: Sequence[Photo], release: Iterable[Mapping[str, str]] | None) -> list[ClassRow]:
    """A row for each class that is or was. ``release``: rows of its split.csv (path, md5, class), or None."""
    files, unusable = Counter(one.label for one in photos), Counter(one.label for one in photos if one.facts.problem)
    if release is None:
        return [ClassRow(name, files[name], unusable[name]) for name in sorted(files)]
    then = {row["md5"]: row for row in release}
    now = _one_of_each(photos, then)
    known = [(then[md5], photo) for md5, photo in now.items() if md5 in then]
    counts = {
        "new": Counter(photo.label for md5, photo in now.items() if md5 not in then),
        "gone": Counter(row["class"] for md5, row in then.items() if md5 not in now),
        "moved": Counter(row["class"] for row, photo in known if _only_moved(row, photo)),
        "came_from": Counter(photo.label for row, photo in known if row["class"] != photo.label),
        "went_to": Counter(row["class"] for row, photo in known if row["class"] != photo.label),
    }
    before = {row["class"] for row in then.values()}
    notes = _notes(before, files.keys(), renamed(then.values(), _listed(now), before, files))
    rows = [(name, {key: one[name] for key, one in counts.items()}) for name in sorted({*files, *before})]
    return [ClassRow(name, files[name], unusable[name], **row, note=notes.get(name, "")) for name, row in rows]


def relabelled(photos: Sequence[Photo], release: Iterable[Mapping[str, str]]) -> list[tuple[Photo, str]]:
    """Photos that lie in another class than when the release was trained, with that class; renamed classes left out."""
    then = {row["md5"]: row for row in release}
    here = {one.label for one in photos}
    now = _one_of_each(photos, then)
    moved = [(one, then[md5]["class"]) for md5, one in now.items() if md5 in then]
    return [(photo, label) for photo, label in moved if label != photo.label and label in here]


def _one_of_each(photos: Iterable[Photo], then: Mapping[str, Mapping[str, str]]) -> dict[str, Photo]:
    """By md5; of photos with the same bytes the one that the release learned from: a copy beside it is no move."""
    now: dict[str, Photo] = {}
    for one in photos:
        if not one.facts.problem and (one.md5 not in now or one.path == then.get(one.md5, {}).get("path")):
            now[one.md5] = one
    return now


def _only_moved(row: Mapping[str, str], photo: Photo) -> bool:
    return row["class"] == photo.label and row["path"] != photo.path


def _listed(now: Mapping[str, Photo]) -> list[dict[str, str]]:
    return [{"md5": md5, "class": photo.label} for md5, photo in now.items()]


def _notes(before: Set[str], here: Set[str], names: Mapping[str, str]) -> dict[str, str]:
    """By class; ``names``: those that are called otherwise now, as the gate tells them."""
    notes = dict.fromkeys(here - before, "new class") | dict.fromkeys(before - here, "gone")
    for old, new in names.items():
        notes |= {old: f"renamed to {new}", new: f"was {old}"}
    return notes

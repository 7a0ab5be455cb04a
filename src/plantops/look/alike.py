"""Photos that show the same: to the pixel, or so nearly that they are one picture saved twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from plantops import near
from plantops.look.photos import Album, Photo
from plantops.ondisk import Sorted

Group = tuple[Photo, ...]


@dataclass(frozen=True)
class Alike:
    """Groups of photos of two or more: ``same`` to the pixel, and ``near``: one picture in versions.

    A group that is the same to the pixel is in ``near`` only where another version of it is, by its first photo of
    each class.
    """

    same: tuple[Group, ...]
    near: tuple[Group, ...]


def find(album: Album, photos: Iterable[Photo]) -> Alike:
    """Compare all photos that can be used. Decodes in full only those whose hashes are near each other.

    ``photos`` are gone through several times.
    """
    alike = near.clusters(one.facts.hash if _compared(one) else "" for one in photos)
    copies = _same_bytes(photos)
    wanted = {at for group in (*alike, *copies) for at in group}
    by_place = {at: one for at, one in enumerate(photos) if at in wanted}
    clusters = [album.with_pixels(by_place[at] for at in one) for one in alike]
    same = [group for one in clusters for group in _groups(one, [_picture(photo) for photo in one])]
    same += [tuple(by_place[at] for at in one) for one in copies]
    versions = [_first_of_each(one) for one in clusters]
    return Alike(tuple(same), tuple(one for one in versions if len({_picture(photo) for photo in one}) > 1))


def _compared(photo: Photo) -> bool:
    """By what it shows. By their bytes alone: what shows nothing, and drawn sample leaves, whose shots differ less than
    those of photos."""
    return not photo.facts.problem and photo.facts.spread >= near.BLANK and not photo.facts.drawn


def _same_bytes(photos: Iterable[Photo]) -> list[list[int]]:
    """Places of photos that are compared by their bytes and have the same, in the order of their first."""
    rows = Sorted()
    for at, one in enumerate(photos):
        if not (one.facts.problem or _compared(one)):
            rows.add(one.md5, at)
    groups = ([at for _, at in group] for _, group in groupby(rows, key=itemgetter(0)))
    return sorted(group for group in groups if len(group) > 1)


def _groups(photos: Sequence[Photo], keys: Sequence[str]) -> list[Group]:
    found: dict[str, list[Photo]] = defaultdict(list)
    for photo, key in zip(photos, keys, strict=True):
        found[key].append(photo)
    return [tuple(group) for group in found.values() if len(group) > 1]


def _first_of_each(photos: Sequence[Photo]) -> Group:
    """The first photo of each picture in each class."""
    found: dict[tuple[str, str], Photo] = {}
    for photo in photos:
        found.setdefault((_picture(photo), photo.label), photo)
    return tuple(found.values())


def _picture(photo: Photo) -> str:
    return photo.facts.pixels or photo.md5

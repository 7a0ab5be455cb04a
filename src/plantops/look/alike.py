"""Photos that show the same: to the pixel, or so nearly that they are one picture saved twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plantops import near
from plantops.look.photos import Album, Photo

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
    """Compare all photos that can be used. Decodes in full only those whose hashes are near each other."""
    usable = [one for one in photos if not one.facts.problem]
    shown = [one for one in usable if one.facts.spread >= near.BLANK and not one.facts.drawn]
    clusters = [[shown[at] for at in one] for one in near.clusters([one.facts.hash for one in shown], near.RADIUS)]
    clusters = [album.with_pixels(one) for one in clusters]
    same = [group for one in clusters for group in _groups(one, [photo.facts.pixels or photo.md5 for photo in one])]
    # By their bytes alone: what shows nothing, and drawn sample leaves, whose shots differ less than those of photos.
    others = [one for one in usable if one.facts.spread < near.BLANK or one.facts.drawn]
    same += _groups(others, [one.md5 for one in others])
    versions = [_first_of_each(one) for one in clusters]
    return Alike(tuple(same), tuple(one for one in versions if len({_picture(photo) for photo in one}) > 1))


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

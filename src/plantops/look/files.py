"""Findings about single files. What cannot be used is set aside by prepare_data, which says the same."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from plantops.look.facts import DAMAGED, EMPTY, FOREIGN, HUGE
from plantops.look.findings import Case, Finding, count
from plantops.look.photos import Photo
from plantops.near import BLANK

_AGAIN = "copy them again, or remove them; then dvc add"
_PROBLEMS = {
    EMPTY: ("empty", _AGAIN),
    DAMAGED: ("cannot be decoded to the end", _AGAIN),
    FOREIGN: ("no image", "remove them from the folders of classes; then dvc add"),
    HUGE: ("too large to decode safely", "save them smaller; then dvc add"),
}
_EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png"},
    "WEBP": {".webp"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "GIF": {".gif"},
}
Remark = Callable[[Photo], str]  # empty where there is nothing to remark


def findings(photos: Iterable[Photo], min_side: int) -> Iterator[Finding]:
    """``min_side``: pixels under which prepare_data sets a photo aside."""
    rules: list[tuple[str, str, str, Remark]] = [
        ("tiny", f"smaller than {min_side} pixels", "take them larger, or lower prepare.min_side", _small(min_side)),
        ("blank", "nearly blank", "look at them; remove what shows no leaf", _blank),
        ("animated", "several pictures in one file, of which the first is used", "save the one that is meant", _frames),
        ("wrong_extension", "named as another format", "nothing: their bytes are believed", _format),
        ("odd_colours", "not in plain RGB", "look at them: they are turned into RGB, on white", lambda p: p.facts.odd),
        ("turned", "turned by EXIF", "nothing: training and API turn them upright", _turned),
    ]
    found: dict[str, list[Case]] = defaultdict(list)
    for one in photos:
        if one.facts.problem:
            found[one.facts.problem].append(Case((one.path,), one.facts.why))
            continue
        for rule, _, _, remark in rules:
            if said := remark(one):
                found[rule].append(Case((one.path,), said))
    words = _PROBLEMS | {rule: (text, help_) for rule, text, help_, _ in rules}
    for rule, (text, help_) in words.items():
        if rule in found:
            yield Finding(rule, f"{text}: {count(len(found[rule]))}", help_, tuple(found[rule]))


def _small(min_side: int) -> Remark:
    def remark(photo: Photo) -> str:
        width, height = photo.facts.width, photo.facts.height
        return f"{width} x {height}" if min(width, height) < min_side else ""

    return remark


def _blank(photo: Photo) -> str:
    return f"brightness varies by {photo.facts.spread:g}" if photo.facts.spread < BLANK else ""


def _frames(photo: Photo) -> str:
    return f"{photo.facts.frames} pictures" if photo.facts.frames > 1 else ""


def _format(photo: Photo) -> str:
    fits = os.path.splitext(photo.path)[1].lower() in _EXTENSIONS.get(photo.facts.format, set())
    return "" if fits else photo.facts.format


def _turned(photo: Photo) -> str:
    return "turned" if photo.facts.turned else ""

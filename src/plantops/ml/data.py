"""prepare_data: every photo decoded once, split without leaks, packed into a few files.

Nothing is held in memory of a photo but four bytes while near copies are looked for: what is known of each lies on disk
(:mod:`plantops.ondisk`), in the order of the paths, and is read as often as it is needed.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from plantops import console, near
from plantops.errors import MOVED, StepFailed
from plantops.ml import pixels, split, stage
from plantops.ml.files import DATA_METRICS, PREPARED, READ, fresh_folder, open_csv, write_json
from plantops.ml.params import Params, load
from plantops.ml.prepared import (
    GOLDEN,
    GREY,
    IMAGES,
    INDEX,
    META,
    SPLITS,
    Meta,
    Photo,
    digest,
    each_of_index,
    write_index,
)
from plantops.ml.reading import Read, contents, read_all
from plantops.ml.split import Grouping, Sides
from plantops.ml.stage import plain
from plantops.ml.survey import Known, Signature, check_unmoved, is_photo, walk
from plantops.ondisk import First, Rows, Sorted
from plantops.photo import open_photo
from plantops.preprocess import Preprocessing

FILTER, TURN = "bilinear", True
GOLDEN_PHOTOS = 12
_SHOWN = 5
_LINK = "a link to a folder, which DVC does not follow"
_HINT = "`plantops sample` draws leaves to try with; or copy a folder of photos per class there and `dvc add` it"


@dataclass
class Kept:
    """What reading all files gave. ``seen``: a row for each (:class:`Seen`); the counts are of photos in use."""

    seen: Rows
    labels: Counter[str] = field(default_factory=Counter)
    drawn: list[str] = field(default_factory=list)  # the first of each kind
    real: list[str] = field(default_factory=list)
    drawn_count: int = 0
    set_aside: dict[str, str] = field(default_factory=dict)

    @property
    def photos(self) -> int:
        """How many are in use."""
        return self.labels.total()

    def files(self) -> Iterator[Known]:
        """Every file that was read."""
        return (Known(path, md5, Signature(*stat)) for path, md5, stat, _ in self.seen)

    def used(self) -> Iterator[tuple[str, str, str]]:
        """(path, md5, what it shows) of the photos in use, row by row of the pixels."""
        return ((path, md5, shows) for path, md5, _, shows in self.seen if shows is not None)


@dataclass(frozen=True)
class Division:
    """Which group and which side of the split each photo is in. ``names``: what united groups are called."""

    grouping: Grouping
    names: Mapping[str, str]
    sides: Sides
    groups: int
    loose: int

    def photos(self, kept: Kept) -> Iterator[Photo]:
        """All in use, in order."""
        groups = self.grouping.of(path for path, _, _ in kept.used())
        for row, ((path, md5, _), group) in enumerate(zip(kept.used(), groups, strict=True)):
            name = path if group is None else group
            name = self.names.get(name, name)
            yield Photo(row, path, md5, _label(path), name, self.sides.of(name))


def main() -> None:
    """Read params.yaml and the photos; write data/prepared and metrics/data.json."""
    params = load()
    raw = Path(params.prepare.raw)
    _look(raw)
    if params.prepare.store:
        pixels.check(params.prepare.store)
    spec = Preprocessing(params.model.size, params.model.fit, FILTER, TURN, GREY, GREY)
    folder = fresh_folder(PREPARED)
    kept = _pack(folder, raw, spec, params)
    sample = _all_drawn(kept)
    _enough(kept, params)
    divided = _divide(kept, params, raw, folder)
    index = folder / INDEX
    write_index(index, divided.photos(kept))
    classes = tuple(sorted(kept.labels))
    listed = digest(each_of_index(index))
    meta = Meta(classes, spec.size, spec.fit, spec.filter, spec.turn, kept.photos, sample, listed)
    write_json(folder / META, meta.to_dict())
    _keep_golden(folder / GOLDEN, raw, each_of_index(index))
    later = check_unmoved(raw, kept.files())
    _list_what_was_read(kept)
    if params.prepare.store:
        pixels.hand_over(folder / IMAGES, params.prepare.store)
    counts = Counter((photo.label, photo.split) for photo in each_of_index(index))
    write_json(DATA_METRICS, _metrics(meta, counts, kept, divided))
    _tell(meta, counts, kept, divided)
    if later:
        print(f"{later:,} files came while the others were read: they are the next change")


def _look(raw: Path) -> None:
    if not raw.is_dir():
        raise StepFailed(f"there is no folder {raw}", _HINT)
    if not any(is_photo(path) for path, _ in walk(raw, [])):
        raise StepFailed(f"there are no photos in {raw}", _HINT)


def _label(path: str) -> str:
    return PurePosixPath(path).parts[0]


def _pack(folder: Path, raw: Path, spec: Preprocessing, params: Params) -> Kept:
    """Read every file once, write the pixels of the usable ones."""
    found, links = Rows(folder), list[str]()
    for path, signature in walk(raw, links):
        found.add(path, (signature.mtime_ns, signature.size, signature.inode))
    kept, first = Kept(Rows(folder)), First(len(found), folder)
    kept.set_aside |= dict.fromkeys(links, _LINK)
    files = ((path, stat[1]) for path, stat in console.track(found, "photos", len(found)))
    with (folder / IMAGES).open("wb") as images:
        for one, (_, stat) in zip(read_all(raw, files, spec, params), found, strict=True):
            if one.gone:
                continue
            shows = _used(kept, one, first)
            kept.seen.add(one.path, one.md5, stat, shows)
            if one.pixels is not None and shows is not None:
                images.write(one.pixels.tobytes())
    return kept


def _used(kept: Kept, one: Read, first: First) -> str | None:
    """What a photo shows that is to be used; None for one that is set aside, and for what is no photo."""
    if one.pixels is None:
        if one.reason:
            kept.set_aside[one.path] = one.reason
        return None
    place = first.of(one.md5, kept.seen.end)
    if place != kept.seen.end:
        kept.set_aside[one.path] = f"same bytes as {kept.seen.at(place)[0]}"
        return None
    kept.labels[_label(one.path)] += 1
    kept.drawn_count += one.drawn
    kind = kept.drawn if one.drawn else kept.real
    if not kind:
        kind.append(one.path)
    return one.shows


def _all_drawn(kept: Kept) -> bool:
    """Whether these are sample leaves. Raises StepFailed when they are mixed with photos."""
    if kept.drawn and kept.real:
        raise StepFailed(
            f"{kept.drawn_count} drawn sample leaves lie among {kept.photos - kept.drawn_count} photos "
            f"({plain(kept.drawn[0])} is drawn, {plain(kept.real[0])} is not)",
            "remove the drawn classes and their .dvc files, or keep real photos in a project of their own",
        )
    return bool(kept.drawn)


def _enough(kept: Kept, params: Params) -> None:
    labels = sorted(kept.labels)
    if len(labels) < 2:
        found = f"only {plain(labels[0])}" if labels else "none"
        raise StepFailed(
            f"a classifier needs two classes with usable photos; {params.prepare.raw} holds {found}", _HINT
        )


def _divide(kept: Kept, params: Params, raw: Path, folder: Path) -> Division:
    """One picture saved twice is on one side: its groups are one. Drawn sample leaves are not compared."""
    grouping = Grouping(params.split.group_by, raw, folder)
    listed, loose = Sorted(folder), 0
    for path, group in _grouped(kept, grouping):
        listed.add(path if group is None else group, _label(path))
        loose += group is None
    clusters = near.clusters((shows for _, _, shows in kept.used()), folder)
    total = sum(1 for _ in split.members(listed, {}))
    names, divided = _united(clusters, kept, grouping, listed, total)
    joined = len(names) - len(set(names.values()))
    if joined:
        print(f"{joined:,} groups joined others, because photos of both show the same picture")
    if divided:
        print(f"{divided:,} groups hold pictures too much alike to be copies: they may be on two sides of the split")
    sides = Sides(lambda: split.members(listed, names), params.seed, params.split.val, params.split.test)
    return Division(grouping, names, sides, total - joined, loose)


def _grouped(kept: Kept, grouping: Grouping) -> Iterator[tuple[str, str | None]]:
    paths = (path for path, _, _ in kept.used())
    return zip((path for path, _, _ in kept.used()), grouping.of(paths), strict=True)


def _united(
    clusters: list[list[int]], kept: Kept, grouping: Grouping, listed: Sorted, total: int
) -> tuple[dict[str, str], int]:
    """The groups of pictures that were saved twice, by what they are called from now on."""
    if not clusters:
        return {}, 0
    wanted = {row for cluster in clusters for row in cluster}
    named = (path if group is None else group for path, group in _grouped(kept, grouping))
    at = {row: name for row, name in enumerate(named) if row in wanted}
    asked = set(at.values())
    sizes = {group: sum(classes.values()) for group, classes in split.members(listed, {}) if group in asked}
    return split.tied([{at[row] for row in cluster} for cluster in clusters], sizes, total)


def _keep_golden(folder: Path, raw: Path, photos: Iterator[Photo]) -> None:
    """Copy a few photos as they are, from as many classes as possible, preferably unseen in training."""
    fresh_folder(folder)
    for number, photo in enumerate(_spread(photos, GOLDEN_PHOTOS)):
        data = contents(raw, photo.path)
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != photo.md5:
            raise StepFailed(f"{MOVED}: {plain(photo.path)} changed", "run again")
        image = open_photo(data)
        (folder / f"{number:02d}.{(image.format or 'jpg').lower()}").write_bytes(data)


def _spread(photos: Iterator[Photo], count: int) -> list[Photo]:
    """The first of each class, then the second of each, and so on; test before val before train."""
    seen: Counter[tuple[str, str]] = Counter()

    def rank(photo: Photo) -> tuple[int, int, int]:
        seen[photo.label, photo.split] += 1
        return -SPLITS.index(photo.split), seen[photo.label, photo.split], photo.row

    return heapq.nsmallest(count, photos, key=rank)


def _metrics(meta: Meta, counts: Counter[tuple[str, str]], kept: Kept, divided: Division) -> dict[str, Any]:
    per_class = {name: {side: counts[name, side] for side in SPLITS} for name in meta.classes}
    return {
        "photos": meta.count,
        "classes": len(meta.classes),
        "groups": divided.groups,
        "ungrouped": divided.loose,
        "sample_data": meta.sample_data,
        "digest": meta.digest,
        "splits": {side: sum(counts[name, side] for name in meta.classes) for side in SPLITS},
        "per_class": per_class,
        "not_judged": [name for name in meta.classes if not per_class[name]["test"]],
        "set_aside": [{"path": path, "reason": reason} for path, reason in sorted(kept.set_aside.items())],
    }


def _list_what_was_read(kept: Kept) -> None:
    """Every file as it was read, photo or not: from this follows what DVC must have recorded (see `lineage.py`)."""
    with open_csv(READ, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "md5", "size"))
        writer.writerows((one.path, one.md5, one.signature.size) for one in kept.files())


def _tell(meta: Meta, counts: Counter[tuple[str, str]], kept: Kept, divided: Division) -> None:
    what = "drawn sample leaves" if meta.sample_data else "photos"
    sides = {side: sum(counts[name, side] for name in meta.classes) for side in SPLITS}
    shares = ", ".join(f"{side} {sides[side]:,}" for side in SPLITS)
    print(f"{meta.count:,} {what} of {len(meta.classes)} classes: {shares}")
    if 0 < divided.loose < meta.count:
        print(f"{divided.loose:,} photos match no group of split.group_by: each counts as a group of its own")
    if kept.set_aside:
        print(f"{len(kept.set_aside):,} files set aside (all in {DATA_METRICS}):")
    shown: Mapping[str, str] = dict(islice(sorted(kept.set_aside.items()), _SHOWN))
    for path, reason in shown.items():
        print(f"  {plain(path)}: {plain(reason)}")


if __name__ == "__main__":
    stage.run(main)

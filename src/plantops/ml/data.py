"""prepare_data: every photo decoded once, split without leaks, packed into a few files."""

from __future__ import annotations

import csv
import hashlib
import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantops import console, near
from plantops.errors import MOVED, StepFailed
from plantops.ml import split, stage
from plantops.ml.files import DATA_METRICS, PREPARED, READ, fresh_folder, open_csv, write_json
from plantops.ml.params import Params, load
from plantops.ml.prepared import GOLDEN, GREY, IMAGES, INDEX, META, SPLITS, Meta, Photo, digest, write_index
from plantops.ml.stage import cores, plain
from plantops.ml.survey import Survey, check_unmoved, is_photo, recorded_as_read, survey
from plantops.photo import NotAPhoto, is_drawn, open_photo, pixels
from plantops.preprocess import Preprocessing

FILTER, TURN = "bilinear", True
GOLDEN_PHOTOS = 12
_SHOWN = 5
_MOST_BYTES = 1 << 30  # more than a picture of photo.MAX_PIXELS takes: a film, an archive
_LINK = "a link to a folder, which DVC does not follow"
_HINT = "`plantops sample` draws leaves to try with; or copy a folder of photos per class there and `dvc add` it"


@dataclass(frozen=True)
class Read:
    """One file as it was read: the md5 of its bytes, and its pixels or the reason why there are none."""

    path: str
    md5: str
    pixels: NDArray[np.uint8] | None = None
    drawn: bool = False
    shows: str = ""  # by plantops.near
    reason: str = ""
    gone: bool = False


@dataclass(frozen=True)
class Kept:
    """What reading all files gave; ``photos`` have no group and no split yet."""

    photos: list[Photo]
    drawn: frozenset[str]
    set_aside: dict[str, str]
    md5s: dict[str, str]
    shown: dict[str, str]


def main() -> None:
    """Read params.yaml and the photos; write data/prepared and metrics/data.json."""
    params = load()
    raw = Path(params.prepare.raw)
    before = _look(raw)
    spec = Preprocessing(params.model.size, params.model.fit, FILTER, TURN, GREY, GREY)
    folder = fresh_folder(PREPARED)
    kept = _pack(folder / IMAGES, raw, before, spec, params)
    sample = _all_drawn(kept)
    photos, loose = _split(kept, params, raw)
    _enough(photos, params)
    write_index(folder / INDEX, photos)
    classes = tuple(sorted({photo.label for photo in photos}))
    meta = Meta(classes, spec.size, spec.fit, spec.filter, spec.turn, len(photos), sample, digest(photos))
    write_json(folder / META, meta.to_dict())
    _keep_golden(folder / GOLDEN, raw, photos)
    later = check_unmoved(raw, before, kept.md5s)
    _list_what_was_read(kept.md5s, before)
    write_json(DATA_METRICS, _metrics(meta, photos, kept, loose))
    _tell(meta, photos, kept, loose)
    if later:
        print(f"{later:,} files came while the others were read: they are the next change")


def _look(raw: Path) -> Survey:
    found = survey(raw)
    if not raw.is_dir():
        raise StepFailed(f"there is no folder {raw}", _HINT)
    if not any(is_photo(path) for path in found.files):
        raise StepFailed(f"there are no photos in {raw}", _HINT)
    return found


def _pack(target: Path, raw: Path, found: Survey, spec: Preprocessing, params: Params) -> Kept:
    """Read every file once, write the pixels of the usable ones to ``target``."""
    kept = Kept([], frozenset(), dict.fromkeys(found.links, _LINK), {}, {})
    drawn, first = set(), dict[str, str]()
    with target.open("wb") as images:
        for one in _read_all(raw, found, spec, params):
            if one.gone:
                continue
            kept.md5s[one.path] = one.md5
            if one.pixels is None:
                if one.reason:
                    kept.set_aside[one.path] = one.reason
                continue
            if one.md5 in first:
                kept.set_aside[one.path] = f"same bytes as {first[one.md5]}"
                continue
            first[one.md5] = one.path
            images.write(one.pixels.tobytes())
            drawn.update([one.path] if one.drawn else [])
            kept.shown[one.path] = one.shows
            label = PurePosixPath(one.path).parts[0]
            kept.photos.append(Photo(len(kept.photos), one.path, one.md5, label, "", ""))
    return replace(kept, drawn=frozenset(drawn))


def _read_all(raw: Path, found: Survey, spec: Preprocessing, params: Params) -> Iterator[Read]:
    """Read and decode on all cores (Pillow lets go of the GIL), in order, a few files ahead."""
    workers = cores()
    waiting: deque[Future[list[Read]]] = deque()
    paths = iter(console.track(found.files, "photos", len(found.files)))
    with ThreadPoolExecutor(workers) as pool:
        try:
            while chunk := list(islice(paths, 16)):
                waiting.append(
                    pool.submit(_read_some, raw, [(one, found.files[one].size) for one in chunk], spec, params)
                )
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read_some(raw: Path, files: list[tuple[str, int]], spec: Preprocessing, params: Params) -> list[Read]:
    return [_read_one(raw, path, size, spec, params) for path, size in files]


def _read_one(raw: Path, path: str, size: int, spec: Preprocessing, params: Params) -> Read:
    if recorded_as_read() and not (raw / path).exists():
        return Read(path, "", gone=True)  # never seen, never recorded: as if it had not been there
    if not is_photo(path) or path == params.split.group_by:
        return Read(path, _md5(raw, path))
    if "/" not in path:
        return Read(path, _md5(raw, path), reason="not in the folder of a class")
    if size > _MOST_BYTES:
        return Read(path, _md5(raw, path), reason=f"{size / 1e9:.1f} GB, too large for a photo")
    data = _bytes(raw, path)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    try:
        image = open_photo(data)
        if min(image.size) < params.prepare.min_side:
            width, height = image.size
            return Read(path, md5, reason=f"{width} x {height} pixels, smaller than {params.prepare.min_side}")
        drawn = is_drawn(image)
        shown = pixels(image, spec)
        return Read(path, md5, shown, drawn, "" if drawn else near.shown(shown))
    except NotAPhoto as error:
        return Read(path, md5, reason=str(error))


def _bytes(raw: Path, path: str) -> bytes:
    with _readable(raw, path):
        return (raw / path).read_bytes()


def _md5(raw: Path, path: str) -> str:
    """Of a file of any size."""
    with _readable(raw, path), (raw / path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _readable(raw: Path, path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise StepFailed(f"{MOVED}: {plain(path)} went", "run again") from None
    except OSError as error:
        raise StepFailed(f"{plain(str(raw / path))} cannot be read: {error.strerror}") from None


def _all_drawn(kept: Kept) -> bool:
    """Whether these are sample leaves. Raises StepFailed when they are mixed with photos."""
    real = [photo.path for photo in kept.photos if photo.path not in kept.drawn]
    if kept.drawn and real:
        raise StepFailed(
            f"{len(kept.drawn)} drawn sample leaves lie among {len(real)} photos "
            f"({plain(min(kept.drawn))} is drawn, {plain(real[0])} is not)",
            "remove the drawn classes and their .dvc files, or keep real photos in a project of their own",
        )
    return bool(kept.drawn)


def _split(kept: Kept, params: Params, raw: Path) -> tuple[list[Photo], int]:
    """The photos with group and split, and how many have no group but themselves.

    One picture saved twice is on one side: its groups are one. Drawn sample leaves are not compared.
    """
    photos = kept.photos
    given, loose = split.group_names((photo.path for photo in photos), params.split.group_by, raw)
    names, divided = split.together(given, kept.shown)
    if moved := len(set(given.values())) - len(set(names.values())):
        print(f"{moved:,} groups joined others, because photos of both show the same picture")
    if divided:
        print(f"{divided:,} groups hold pictures too much alike to be copies: they may be on two sides of the split")
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for photo in photos:
        members[names[photo.path]][photo.label] += 1
    splits = split.assign(members, params.seed, params.split.val, params.split.test)
    return [replace(p, group=names[p.path], split=splits[names[p.path]]) for p in photos], loose


def _enough(photos: list[Photo], params: Params) -> None:
    labels = sorted({photo.label for photo in photos})
    if len(labels) < 2:
        found = f"only {plain(labels[0])}" if labels else "none"
        raise StepFailed(
            f"a classifier needs two classes with usable photos; {params.prepare.raw} holds {found}", _HINT
        )


def _keep_golden(folder: Path, raw: Path, photos: list[Photo]) -> None:
    """Copy a few photos as they are, from as many classes as possible, preferably unseen in training."""
    fresh_folder(folder)
    for number, photo in enumerate(_spread(photos, GOLDEN_PHOTOS)):
        data = _bytes(raw, photo.path)
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != photo.md5:
            raise StepFailed(f"{MOVED}: {plain(photo.path)} changed", "run again")
        image = open_photo(data)
        (folder / f"{number:02d}.{(image.format or 'jpg').lower()}").write_bytes(data)


def _spread(photos: list[Photo], count: int) -> list[Photo]:
    """The first of each class, then the second of each, and so on; test before val before train."""
    seen: Counter[tuple[str, str]] = Counter()

    def rank(photo: Photo) -> tuple[int, int, int]:
        seen[photo.label, photo.split] += 1
        return -SPLITS.index(photo.split), seen[photo.label, photo.split], photo.row

    return heapq.nsmallest(count, photos, key=rank)


def _metrics(meta: Meta, photos: list[Photo], kept: Kept, loose: int) -> dict[str, Any]:
    counts = Counter((photo.label, photo.split) for photo in photos)
    per_class = {name: {side: counts[name, side] for side in SPLITS} for name in meta.classes}
    return {
        "photos": len(photos),
        "classes": len(meta.classes),
        "groups": len({photo.group for photo in photos}),
        "ungrouped": loose,
        "sample_data": meta.sample_data,
        "digest": meta.digest,
        "splits": {side: sum(counts[name, side] for name in meta.classes) for side in SPLITS},
        "per_class": per_class,
        "not_judged": [name for name in meta.classes if not per_class[name]["test"]],
        "set_aside": [{"path": path, "reason": reason} for path, reason in sorted(kept.set_aside.items())],
    }


def _list_what_was_read(md5s: Mapping[str, str], found: Survey) -> None:
    """Every file as it was read, photo or not: from this follows what DVC must have recorded (see `lineage.py`)."""
    with open_csv(READ, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "md5", "size"))
        writer.writerows((path, md5, found.files[path].size) for path, md5 in md5s.items())


def _tell(meta: Meta, photos: list[Photo], kept: Kept, ungrouped: int) -> None:
    sides = Counter(photo.split for photo in photos)
    what = "drawn sample leaves" if meta.sample_data else "photos"
    shares = ", ".join(f"{side} {sides[side]:,}" for side in SPLITS)
    print(f"{len(photos):,} {what} of {len(meta.classes)} classes: {shares}")
    if 0 < ungrouped < len(photos):
        print(f"{ungrouped:,} photos match no group of split.group_by: each counts as a group of its own")
    if kept.set_aside:
        print(f"{len(kept.set_aside):,} files set aside (all in {DATA_METRICS}):")
    shown: Mapping[str, str] = dict(islice(sorted(kept.set_aside.items()), _SHOWN))
    for path, reason in shown.items():
        print(f"  {plain(path)}: {plain(reason)}")


if __name__ == "__main__":
    stage.run(main)

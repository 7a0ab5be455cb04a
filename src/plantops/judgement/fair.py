"""Which photos both models can be asked fairly, of which classes, and what they answer."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from plantops import artifacts, dvc, gate, process
from plantops.artifacts import SPLIT_FILE, Learned
from plantops.bundle import Bundle
from plantops.config import Config
from plantops.shelf import Shelf
from plantops.store import Release, Store

_RENAMED = 0.9  # share of a class's photos that lie in one new class, for it to be the same by another name


def champion(
    config: Config, shelf: Shelf, current: Release, bundle: Bundle, answers: list[gate.Answer]
) -> gate.Champion:
    """A release with its answers on the candidate's test photos that it did not learn from either.

    Nor from others of their group: the two may have been trained with another ``split.group_by``. Where their
    classes differ, both are asked about the shared ones, and answer with one of these. Raises BadBundle, StepFailed.
    """
    if current.sample_data != bundle.manifest.sample_data:
        return gate.Champion(current.id, current.sample_data, ())
    folder = shelf.release(current.id)
    then, now = artifacts.rows(folder / SPLIT_FILE), artifacts.rows(config.root / artifacts.INDEX)
    ours, theirs = bundle.manifest.classes, Bundle.load(folder).manifest.classes
    names = {name: name for name in theirs if name in ours} | renamed(then, now, theirs, ours)
    not_fair = unfair(artifacts.learned(folder), now)
    fair = {one.photo for one in answers if one.photo not in not_fair and one.actual in names.values()}
    if not fair:
        return gate.Champion(current.id, current.sample_data, ())
    shared = set(names.values())
    asked = ask(config, folder, fair, () if len(names) == len(theirs) else names)
    told = [replace(one, predicted=names.get(one.predicted, one.predicted)) for one in asked]
    own = None if len(shared) == len(ours) else tuple(ask(config, bundle.path, fair, shared))
    return gate.Champion(current.id, current.sample_data, tuple(told), own)


def renamed(
    then: Iterable[Mapping[str, str]], now: Iterable[Mapping[str, str]], theirs: Iterable[str], ours: Iterable[str]
) -> dict[str, str]:
    """Classes that are the same by another name: old -> new. Told by their photos, where nearly all went together."""
    classes = {row["md5"]: row["class"] for row in now}
    theirs, ours = set(theirs), set(ours)
    moved: dict[str, Counter[str]] = defaultdict(Counter)
    for row in then:
        if row["class"] in theirs - ours and row["md5"] in classes:
            moved[row["class"]][classes[row["md5"]]] += 1
    found = {}
    for old, places in moved.items():
        (new, most), *_ = places.most_common(1)
        if new in ours - theirs and most >= _RENAMED * places.total():
            found[old] = new
    several = {new for new, count in Counter(found.values()).items() if count > 1}  # united classes, not renamed ones
    return {old: new for old, new in found.items() if new not in several}


def renaming(store: Store, shelf: Shelf, release: str) -> dict[str, str]:
    """What ``release`` calls classes that the one in service calls otherwise, by their split lists: old -> new.

    Nothing where a list is away.
    """
    current = store.in_service()
    lists = [shelf.release(name) / SPLIT_FILE for name in (current.id if current else "", release)]
    if not all(one.is_file() for one in lists):
        return {}
    then, now = map(artifacts.rows, lists)
    return renamed(then, now, *({row["class"] for row in rows} for rows in (then, now)))


def unfair(learned: Mapping[str, Learned], now: Iterable[Mapping[str, str]]) -> set[str]:
    """The md5 of all photos that a release ``learned`` from, and of others of the same leaf.

    A photo that is no more, or was saved anew, still speaks for its leaf.
    """
    now = list(now)
    kin = {row["group"] for row in now if row["md5"] in learned} | {one.group for one in learned.values() if one.group}
    return learned.keys() | {row["md5"] for row in now if row["group"] in kin}


def wandered(config: Config, store: Store, shelf: Shelf) -> dict[str, str]:
    """Photos that are in another split than for the release in service: path -> ``train → test``.

    A group that grows or is repaired takes its photos along; the gate leaves out what the champion learned from.
    """
    current = store.in_service()
    if current is None:
        return {}
    split_list = shelf.release(current.id) / SPLIT_FILE
    if not split_list.is_file():
        return {}
    before = {row["md5"]: row["split"] for row in artifacts.rows(split_list)}
    now = artifacts.rows(config.root / artifacts.INDEX)
    return {
        row["path"]: f"{before[row['md5']]} → {row['split']}"
        for row in now
        if before.get(row["md5"], row["split"]) != row["split"]
    }


def ask(config: Config, folder: Path, photos: set[str], classes: Iterable[str] = ()) -> list[gate.Answer]:
    """Answers of a bundle on photos given by md5, in a process of its own; with one of ``classes`` if given."""
    root = config.root
    rows = [row for row in artifacts.rows(root / artifacts.INDEX) if row["md5"] in photos]
    with tempfile.TemporaryDirectory(dir=config.state) as scratch:
        only, may, out = Path(scratch, "photos"), Path(scratch, "classes"), Path(scratch, "predictions.parquet")
        only.write_bytes(_list(row["path"] for row in rows))
        argv = ["python", "-m", "plantops.ml.compare", "--bundle", str(folder), "--index", str(root / artifacts.INDEX)]
        argv += ["--raw", str(dvc.raw_folder(root)), "--only", str(only), "--out", str(out)]
        if classes:
            may.write_bytes(_list(classes))
            argv += ["--classes", str(may)]
        process.stream(argv, root, lambda line: None)
        return given(config, out)


def given(config: Config, path: Path) -> list[gate.Answer]:
    """Answers that were written to a file, with the groups of the photos."""
    groups = {row["md5"]: row["group"] for row in artifacts.rows(config.root / artifacts.INDEX)}
    return [
        gate.Answer(row["md5"], row["actual"], row["predicted"], groups.get(row["md5"], ""))
        for row in artifacts.predictions(path)
    ]


def _list(names: Iterable[str]) -> bytes:
    return b"\0".join(name.encode(errors="surrogateescape") for name in names)

"""Which photos both models can be asked fairly, of which classes, and what they answer."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plantops import artifacts, dvc, gate, process
from plantops.artifacts import SPLIT_FILE, Learned
from plantops.bundle import Bundle
from plantops.config import Config
from plantops.shelf import Shelf
from plantops.store import Release, Store

_RENAMED = 0.9  # share of a class's photos that lie in one new class, for it to be the same by another name
Rows = Sequence[Mapping[str, str]]  # as in data/prepared/index.csv


def champion(
    config: Config, shelf: Shelf, current: Release, bundle: Bundle, answers: list[gate.Answer]
) -> gate.Champion:
    """A release with its answers on the candidate's test and field photos that it did not learn from either.

    Nor from others of their group: the two may have been trained with another ``split.group_by``. Where their
    classes differ, both are asked about the shared ones, and answer with one of these. Raises BadBundle, StepFailed.
    """
    if current.sample_data != bundle.manifest.sample_data:
        return gate.Champion(current.id, current.sample_data, ())
    folder = shelf.release(current.id)
    then, now = artifacts.rows(folder / SPLIT_FILE), artifacts.rows(config.root / artifacts.INDEX)
    ours, theirs = bundle.manifest.classes, Bundle.load(folder).manifest.classes
    names = {name: name for name in theirs if name in ours} | renamed(then, now, theirs, ours)
    both = _Both(config, folder, bundle, names, len(names) == len(theirs))
    learned, known = artifacts.learned(folder), {one.photo for one in answers}
    not_fair = unfair(learned, now)
    tests = [row for row in now if row["md5"] in known - not_fair]
    outside = [row for row in _in_field(config) if row["md5"] not in learned]
    on_tests = both.asked(dvc.raw_folder(config.root), tests, answers)
    own = given(config, config.root / artifacts.PREDICTIONS, "field")
    on_field = both.asked(config.root / artifacts.FIELD, outside, own)
    return gate.Champion(current.id, current.sample_data, *on_tests, *on_field, tuple(names.values()))


@dataclass(frozen=True)
class _Both:
    """The release in ``folder`` and the candidate; ``names``: what it calls the classes that both know -> we.

    ``whole``: it knows no others.
    """

    config: Config
    folder: Path
    bundle: Bundle
    names: Mapping[str, str]
    whole: bool

    def asked(
        self, raw: Path, rows: Rows, own: Sequence[gate.Answer]
    ) -> tuple[tuple[gate.Answer, ...], tuple[gate.Answer, ...]]:
        """The release's answers on photos below ``raw``, and the candidate's: ``own`` where it knows all classes."""
        shared = set(self.names.values())
        rows = [row for row in rows if row["class"] in shared]
        if not rows:
            return (), ()
        said = ask(self.config, self.folder, raw, rows, () if self.whole else self.names)
        told = tuple(replace(one, predicted=self.names.get(one.predicted, one.predicted)) for one in said)
        alike = len(shared) == len(self.bundle.manifest.classes)
        return told, tuple(own if alike else ask(self.config, self.bundle.path, raw, rows, shared))


def _in_field(config: Config) -> Rows:
    """The field photos that the candidate was asked about."""
    found = artifacts.predictions(config.root / artifacts.PREDICTIONS, "field")
    return [
        {"row": "0", "path": one["path"], "md5": one["md5"], "class": one["actual"], "group": "", "split": "field"}
        for one in found
    ]


def renamed(
    then: Iterable[Mapping[str, str]], now: Iterable[Mapping[str, str]], theirs: Iterable[str], ours: Iterable[str]
) -> dict[str, str]:
    """Classes that are the same by another name: old -> new. Told by their photos: nearly all that are still here, and
    more than half of what there was, went together.
    """
    then, classes = list(then), {row["md5"]: row["class"] for row in now}
    theirs, ours = set(theirs), set(ours)
    moved: dict[str, Counter[str]] = defaultdict(Counter)
    for row in then:
        if row["class"] in theirs - ours and row["md5"] in classes:
            moved[row["class"]][classes[row["md5"]]] += 1
    before, found = Counter(row["class"] for row in then), {}
    for old, places in moved.items():
        (new, most), *_ = places.most_common(1)
        if new in ours - theirs and most >= _RENAMED * places.total() and 2 * most > before[old]:
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


def ask(config: Config, folder: Path, raw: Path, rows: Rows, classes: Iterable[str] = ()) -> list[gate.Answer]:
    """Answers of a bundle on photos below ``raw``, in a process of its own; with one of ``classes`` if given."""
    with tempfile.TemporaryDirectory(dir=config.state) as scratch:
        photos, may, out = Path(scratch, "photos.csv"), Path(scratch, "classes"), Path(scratch, "predictions.parquet")
        with photos.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        argv = ["python", "-m", "plantops.ml.compare", "--bundle", str(folder), "--photos", str(photos)]
        argv += ["--raw", str(raw), "--prepared", str(config.root / artifacts.INDEX.parent), "--out", str(out)]
        if classes:
            may.write_bytes(b"\0".join(name.encode(errors="surrogateescape") for name in classes))
            argv += ["--classes", str(may)]
        process.stream(argv, config.root, lambda line: None)
        return given(config, out, rows[0]["split"])


def given(config: Config, path: Path, split: str = "test") -> list[gate.Answer]:
    """Answers that were written to a file on photos of a split, with the groups of the photos."""
    groups = {row["md5"]: row["group"] for row in artifacts.rows(config.root / artifacts.INDEX)}
    return [
        gate.Answer(row["md5"], row["actual"], row["predicted"], groups.get(row["md5"], ""))
        for row in artifacts.predictions(path, split)
    ]

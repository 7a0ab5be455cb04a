"""A look at the photos before training: what changed, what is wrong, which labels and splits a person should see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops import artifacts, dvc, scan
from plantops.artifacts import SPLIT_FILE
from plantops.config import Config
from plantops.console import Console
from plantops.errors import StepFailed
from plantops.look import alike, rules, since, suspects
from plantops.look.alike import Alike
from plantops.look.findings import NOTE, STOP, WARN, Finding
from plantops.look.photos import Album, Photos
from plantops.look.since import ClassRow
from plantops.look.suspects import Suspects
from plantops.shelf import Shelf
from plantops.store import Store


@dataclass(frozen=True)
class Look:
    """What was seen. ``release``: the one compared with, or empty; ``read``: pictures that no look had seen before."""

    photos: Photos
    classes: tuple[ClassRow, ...]
    findings: tuple[Finding, ...]
    suspects: Suspects
    alike: Alike
    release: str
    read: int

    def at(self, level: str) -> list[Finding]:
        """The findings of one level."""
        return [one for one in self.findings if one.level == level]

    def sentence(self) -> str:
        """In one line."""
        counts = ((len(self.at(WARN)), "warning"), (len(self.at(NOTE)), "note"))
        found = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
        return f"{len(self.photos):,} photos, {self.read:,} of them new to the look: {found}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "photos": len(self.photos),
            "read": self.read,
            "release": self.release or None,
            "classes": [one.to_dict() for one in self.classes],
            "findings": [one.to_dict() for one in self.findings],
            "asked": self.suspects.asked,
            "learned": self.suspects.learned,
            "not_asked": self.suspects.rest,
        }


def at(
    config: Config,
    store: Store,
    remember: bool = True,
    split: bool = True,
    console: Console | None = None,
) -> Look:
    """Look at all photos of a project. Reads those that are new since the last look, which the ``store`` remembers.

    ``split``: look for leaks in the prepared split, too. ``console``: where the progress is shown.
    Raises StepFailed when a photo cannot be read.
    """
    album = Album(config.root, store, remember)
    folders = len(scan.classes(album.raw))
    photos = album.photos(lambda done: console.bar("classes", done, folders) if console else None)
    current = store.in_service()
    split_list = Shelf(config.models).release(current.id) / SPLIT_FILE if current else None
    release = _Rows(split_list) if split_list and split_list.is_file() else None
    became = since.compare(photos, release)
    suspicious = suspects.find(
        photos,
        artifacts.probabilities(config.root / artifacts.PREDICTIONS),
        artifacts.course(config.root / artifacts.COURSE),
    )
    versions = alike.find(album, photos)
    scene = rules.Scene(
        photos,
        versions,
        became.classes,
        suspicious,
        _Rows(config.root / artifacts.INDEX) if split else (),
        became.relabelled,
        int(dvc.params(config.root, "prepare").get("min_side", 1)),
        float(dvc.params(config.root, "split").get("test", 0.0)),
        config.gate.min_support,
        scan.loose(config.root, config.root / artifacts.FIELD, store, remember),
    )
    found = rules.judge(scene, config.data.rules)
    compared = current.id if current and release is not None else ""
    return Look(photos, tuple(became.classes), tuple(found), suspicious, versions, compared, album.looked)


def leaks(config: Config, seen: Look) -> list[Finding]:
    """What lies on two sides of the split as it is prepared now."""
    return rules.levelled(rules.leaks(seen.alike, _Rows(config.root / artifacts.INDEX)), config.data.rules)


def check(found: Iterable[Finding]) -> None:
    """Raise StepFailed, with the photos named, when a finding stops the run."""
    stops = [one for one in found if one.level == STOP]
    if stops:
        said = "\n".join(f"    {one.sentence}" + (f": {one.named()}" if one.cases else "") for one in stops)
        names = ", ".join(f"data.rules.{one.rule}" for one in stops)
        raise StepFailed(
            f"the look at the photos stops the run:\n{said}",
            f"{stops[0].help}; plantops data shows all of it (to go on all the same: {names}: warn in config.yaml)",
        )


@dataclass(frozen=True)
class _Rows:
    """What a stage left, row by row, or nothing where it has not run. May be gone through several times."""

    path: Path

    def __iter__(self) -> Iterator[dict[str, str]]:
        return artifacts.each(self.path) if self.path.is_file() else iter(())

"""`plantops predict`: answers for photos and folders of them, by an API or by a bundle without one."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from plantops import extras, process, recall
from plantops.ahead import ahead
from plantops.client import Client
from plantops.config import Config
from plantops.console import Console
from plantops.deploy import probe
from plantops.deploy.address import named, reached
from plantops.deploy.towerkey import TowerKey
from plantops.errors import PlantopsError, SetupError, StepFailed
from plantops.shelf import Shelf

_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ""}
_CONNECTIONS = 8
_COLUMNS = ("photo", "prediction", "confidence", "unsure", "unlike", "error")
_MARK = "@"


class Sink(Protocol):
    """Where answers go."""

    def take(self, photo: str, answer: dict[str, Any]) -> None:
        """One photo's answer, or its ``error``."""

    def end(self) -> None:
        """That was all."""


@dataclass
class Lines:
    """A line a photo, for a person."""

    console: Console

    def take(self, photo: str, answer: dict[str, Any]) -> None:
        """Say it."""
        if "error" in answer:
            self.console.say(f"{photo}  not used: {answer['error']}", "red")
            return
        doubt = "  unlike its photos" if answer.get("unlike") else "  not sure" if answer.get("unsure") else ""
        self.console.say(f"{photo}  {answer['prediction']}  {answer['confidence']:.1%}{doubt}")

    def end(self) -> None:
        """Nothing more."""


class Table:
    """CSV."""

    def __init__(self, out: Any) -> None:
        self._writer = csv.DictWriter(out, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()

    def take(self, photo: str, answer: dict[str, Any]) -> None:
        """A row; a cell is empty where nothing is known."""
        self._writer.writerow({"photo": photo, **answer})

    def end(self) -> None:
        """Nothing more."""


@dataclass
class Document:
    """One JSON document at the end."""

    console: Console
    rows: list[dict[str, Any]] = field(default_factory=list)

    def take(self, photo: str, answer: dict[str, Any]) -> None:
        """Keep it."""
        self.rows.append({"photo": photo, **answer})

    def end(self) -> None:
        """Print them all."""
        self.console.json({"results": self.rows})


def sink(console: Console, kind: str) -> Sink:
    """For ``csv``, ``json``, or a person."""
    return Table(console.out) if kind == "csv" else Document(console) if kind == "json" else Lines(console)


@dataclass
class Asking:
    """Photos that are being asked about: their answers go to ``sink`` as they come, in order."""

    photos: list[Path]
    sink: Sink
    progress: Console
    answered: int = 0
    failed: int = 0

    def take(self, answer: dict[str, Any]) -> None:
        """The next photo's answer."""
        photo = _shown(self.photos[self.answered])
        self.answered += 1
        self.sink.take(photo, answer)
        if "error" in answer:
            self.failed += 1
            if not isinstance(self.sink, Lines):
                self.progress.say(f"{photo}: {answer['error']}", "yellow")
        self.progress.bar("photos", self.answered, len(self.photos))

    def end(self) -> None:
        """That was all. Raises StepFailed when photos could not be used."""
        self.sink.end()
        if self.failed:
            raise StepFailed(f"{self.failed} of {len(self.photos)} photos could not be used; the reasons are above")


def photos(named: Iterable[Path]) -> list[Path]:
    """The photos named, and those in folders named, by their endings, sorted. Raises SetupError when there are none."""
    found = [path for one in named for path in (_inside(one) if one.is_dir() else [one])]
    if not found:
        raise SetupError("no photos there", "plantops predict PHOTO… or FOLDER…")
    return found


@dataclass(frozen=True)
class Source:
    """Who answers: the API at ``url`` (by its ``key``, if it wants one), or a ``bundle``."""

    url: str | None
    bundle: Path | None
    key: str = ""


def own(config: Config) -> Source:
    """The project's own API where it answers, else the release in service. Raises SetupError when there is none."""
    url = own_url(config)
    return Source(url, None, own_key(config)) if url else Source(None, own_bundle(config))


def predict(named: Iterable[Path], source: Source, kind: str, top: int) -> None:
    """Ask about photos and folders; answers to standard output as ``csv``, ``json`` or for a person.

    Raises StepFailed at the end when photos could not be used.
    """
    console = Console()
    asking = Asking(photos(named), sink(console, kind), Console(sys.stderr) if kind else console)
    if source.url:
        by_api(source.url, asking, top, source.key)
    elif source.bundle:
        by_bundle(source.bundle, asking, top)
    asking.end()


def by_api(url: str, asking: Asking, top: int, key: str = "") -> None:
    """Ask the API at ``url``; its key, if it wants one and none is given, is in PLANTOPS_API_KEY. Raises StepFailed."""
    client = Client(url, key or os.environ.get("PLANTOPS_API_KEY", ""), top)
    for answer in ahead(client.answer, asking.photos, _CONNECTIONS):
        asking.take(answer)


def by_bundle(bundle: Path, asking: Asking, top: int) -> None:
    """Ask a bundle, in a process of its own: serving's code imports nothing of ours, nor we of it.

    Raises StepFailed when the bundle cannot be used.
    """

    def read(line: str) -> None:
        if line.startswith(_MARK):
            asking.take(json.loads(line[1:]))

    extras.need(extras.SERVE, "asking a bundle without an API")
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "photos"
        names.write_bytes(b"".join(os.fsencode(one.absolute()) + b"\0" for one in asking.photos))
        argv = [sys.executable, "-m", "plantops.serve.batch", "--bundle", str(bundle.absolute())]
        process.stream([*argv, "--photos", str(names), "--top", str(top)], Path(folder), read)


def own_url(config: Config) -> str | None:
    """Where this project's API answers; None when nothing does, or another project's."""
    there = config.kubernetes.url if config.deploy.backend == "kubernetes" else ""
    address = named(there) if there else reached(config.deploy.bind, config.deploy.port)
    try:
        reply = probe.health(address)
    except PlantopsError:
        return None
    release = reply.json().get("release") if reply.status == 200 else None
    return address.url if release and Shelf(config.models).release(str(release)).is_dir() else None


def own_key(config: Config) -> str:
    """The tower's own key to this project's API; empty where that asks for none."""
    return TowerKey(config.state, config.api).value


def own_bundle(config: Config) -> Path:
    """The bundle of the release in service. Raises SetupError when there is none."""
    with recall.look(config) as store:
        current = store.in_service()
    if current is None:
        raise SetupError("there is no release yet", "plantops run, or --url, or --bundle")
    return Shelf(config.models).release(current.id)


def _inside(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            wanted = not name.startswith(".") and os.path.splitext(name)[1].lower() in _ENDINGS
            if wanted and (path.is_file() or not path.exists()):  # a pipe would be waited for; a lost link is said
                yield path


def _shown(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")

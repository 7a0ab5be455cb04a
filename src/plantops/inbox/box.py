"""What waits in the inbox, and what becomes of it: a photo of a class, or nothing. Until the end it can be undone."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops import dvc, kept, scan
from plantops.config import Config
from plantops.errors import SetupError
from plantops.photo import NotAPhoto, is_drawn, open_photo
from plantops.sample import MARKER

_DONE = "done"


@dataclass(frozen=True)
class Waiting:
    """A photo that waits, and what people said it shows."""

    photo: kept.Photo
    said: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.photo.id, "file": str(self.photo.path), "answer": self.photo.answer, "feedback": self.said,
        }  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """A photo taken out of the inbox, and the photo of a class that came of it; None: rejected."""

    photo: kept.Photo
    made: Path | None


class Inbox:
    """The inbox of one project."""

    def __init__(self, config: Config) -> None:
        self._root = config.root
        self.folder = config.kept
        self._raw = dvc.raw_folder(config.root)
        self.decided: list[Decision] = []

    def waiting(self) -> list[Waiting]:
        """What waits, oldest first."""
        said: dict[str, list[str]] = {}
        for one in kept.opinions(self.folder):
            said.setdefault(str(one["request_id"]), []).append(str(one["class"]))
        return [Waiting(one, said.get(one.id, [])) for one in kept.photos(self.folder)]

    def classes(self) -> list[str]:
        """The classes there are: folders of photos, and such that DVC knows and that are away."""
        return sorted({one.name for one in scan.classes(self._raw)} | {one.stem for one in self._raw.glob("*.dvc")})

    def label(self, name: str, title: str) -> Path:
        """The photo ``name`` shows class ``title``: it becomes a file there, over no other. Raises SetupError."""
        photo = self._find(name)
        self._check_class(title)
        self._check_kind(photo.path)
        try:
            made = _place(photo.path, self._raw / title)
        except OSError as error:
            raise SetupError(f"{self._raw / title} cannot be written: {error.strerror}") from None
        self._take_out(photo, made)
        return made

    def reject(self, name: str) -> str:
        """The photo ``name`` is good for nothing; its name. Raises SetupError."""
        self._take_out(self._find(name), None)
        return name

    def undo(self) -> str:
        """Take the last decision back; the name of its photo. Raises SetupError when there is none."""
        if not self.decided:
            raise SetupError("there is nothing to undo")
        last = self.decided.pop()
        if last.made:
            last.made.unlink(missing_ok=True)
            with suppress(OSError):  # a class that was there holds others
                last.made.parent.rmdir()
        for path in (last.photo.note, last.photo.path):
            if (self.folder / _DONE / path.name).exists():
                os.replace(self.folder / _DONE / path.name, path)
        return last.photo.id

    def close(self) -> list[Path]:
        """Forget what was decided; the folders that hold more than before, for `dvc add`."""
        shutil.rmtree(self.folder / _DONE, ignore_errors=True)
        folders = sorted({one.made.parent for one in self.decided if one.made and one.made.exists()})
        self.decided.clear()
        return [self._raw] if folders and dvc.covered(self._raw) else folders

    def _find(self, name: str) -> kept.Photo:
        found = next((one for one in kept.photos(self.folder) if one.id == name), None)
        if found is None:
            raise _gone(name)
        return found

    def _take_out(self, photo: kept.Photo, made: Path | None) -> None:
        (self.folder / _DONE).mkdir(exist_ok=True)
        for path in (photo.path, photo.note):
            if path.exists():
                os.replace(path, self.folder / _DONE / path.name)
        self.decided.append(Decision(photo, made))

    def _check_class(self, title: str) -> None:
        known = self.classes()
        if title not in known:
            if why := kept.unsafe(title):
                raise SetupError(why)
            if twin := next((one for one in known if one.casefold() == title.casefold()), None):
                raise SetupError(f"there is a class {twin} already")
        for folder in (self._raw, self._raw / title):
            recorded = (dvc.covered(folder) or {}).get("nfiles", 0)
            there = sum(1 for one in folder.rglob("*") if one.is_file()) if recorded else 0
            if there < recorded:  # `dvc add` would forget the others
                where = folder.relative_to(self._root)
                raise SetupError(
                    f"{title}: {recorded - there} of its photos are not here",
                    f"dvc checkout {shlex.quote(f'{where}.dvc')}",
                )

    def _check_kind(self, path: Path) -> None:
        """Drawn leaves and photos are never mixed."""
        try:
            drawn = is_drawn(open_photo(path.read_bytes()))
        except NotAPhoto as error:
            raise SetupError(f"{path.name} cannot be used: {error}") from None
        except FileNotFoundError:  # it had to make room for another one meanwhile
            raise _gone(path.stem) from None
        if drawn != (self._raw / MARKER).exists() and self.classes():
            what = (
                "a drawn leaf, and the classes hold photos" if drawn else "a photo, and the classes hold drawn leaves"
            )
            raise SetupError(f"{path.name} is {what}: they are never mixed")


def _gone(name: str) -> SetupError:
    return SetupError(f"the photo {name} is not in the inbox any more")


def _place(source: Path, folder: Path) -> Path:
    """A copy of ``source`` in ``folder`` under a name that no file has, there whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{source.name}.part"
    try:
        with source.open("rb") as data, part.open("wb") as out:
            shutil.copyfileobj(data, out)
            out.flush()
            os.fsync(out.fileno())
        for number in itertools.count():
            target = folder / f"inbox-{source.stem}{f'.{number}' if number else ''}{source.suffix}"
            try:
                os.link(part, target)
            except FileExistsError:
                continue
            return target
    finally:
        part.unlink(missing_ok=True)
    raise AssertionError("itertools.count ends never")

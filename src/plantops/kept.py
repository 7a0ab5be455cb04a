"""What the API keeps for people to look at, in one folder, and the names that people may give to a class.

``feedback.jsonl``      one answer of a person a line; when it is full, the older half is ``feedback.jsonl.1``
``photos/<id>.jpg``     a photo that the model was unsure of (only with ``serve.keep``), as it came, by its request
``photos/<id>.json``    what the API answered, written before the photo: a photo that is there has an answer
``recent/``             with ``serve.replay``, the photos of the last requests, for the next release to be asked again
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHOTOS, FEEDBACK, RECENT = "photos", "feedback.jsonl", "recent"
NOT_A_LEAF = "not a leaf"
LONGEST_NAME = 100
# Letters and digits of any script, and what PlantVillage's own names hold. No dot or dash at the beginning (hidden
# files, options), none of what a path is made of, and no ending that DVC takes for a file of its own.
_SAFE = re.compile(r"\w(?:[\w ,.()'+&-]*[\w)'+])?")
_DVC = ".dvc"


def unsafe(name: str) -> str:
    """Why ``name`` cannot be the folder of a class; empty when it can."""
    if not name.strip():
        return "a class needs a name"
    if len(name) > LONGEST_NAME or len(name.encode()) > 2 * LONGEST_NAME:
        return f"a class's name has at most {LONGEST_NAME} characters"
    if not _SAFE.fullmatch(name) or name.lower().endswith(_DVC):
        return "a class's name holds letters, digits, spaces and ,.()'+&_- and begins with a letter or digit"
    return "" if name != NOT_A_LEAF else f"`{NOT_A_LEAF}` is no class"


@dataclass(frozen=True)
class Photo:
    """A photo kept, and what the API answered (its JSON)."""

    id: str
    path: Path
    answer: dict[str, Any]

    @property
    def note(self) -> Path:
        """The file with the answer."""
        return self.path.with_suffix(".json")


def photos(folder: Path) -> list[Photo]:
    """The photos kept in ``folder``, oldest first; one whose answer cannot be read has an empty one."""
    found = [one for one in (folder / PHOTOS).glob("[!.]*") if one.suffix != ".json"]
    return [Photo(one.stem, one, _object(one.with_suffix(".json"))) for one in sorted(found, key=_age)]


def recent(folder: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The photos of the last requests, and what was answered: ``release``, ``prediction``, ``confidence``.

    Slots are written anew while they are read: a photo whose answer was another one by then is left out.
    """
    for note in sorted((folder / RECENT).glob("[!.]*.json")):
        answer = _object(note)
        try:
            photo = note.with_suffix(".photo").read_bytes()
        except FileNotFoundError:
            continue
        if answer and _object(note) == answer:
            yield photo, answer


def opinions(folder: Path) -> list[dict[str, Any]]:
    """What people said, oldest first: ``request_id``, ``class``, ``at``. A line cut short by a crash is left out."""
    lines = [line for name in (f"{FEEDBACK}.1", FEEDBACK) for line in _lines(folder / name)]
    read = [_parsed(line) for line in lines]
    return [one for one in read if {"request_id", "class"} <= one.keys()]


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except FileNotFoundError:  # it had to make room for another one meanwhile
        return 0, path.name


def _object(path: Path) -> dict[str, Any]:
    return _parsed("".join(_lines(path)))


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []

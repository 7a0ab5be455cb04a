"""Folders and files that are on disk whole or not at all, wherever we are killed or the power goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

NEW, GONE = ".new", ".gone"  # how the hidden names end under which a killed call leaves what it had in hand


def appear(target: Path, fill: Callable[[Path], None]) -> None:
    """Have ``fill`` fill a folder beside ``target``, and move it into place; what was there goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _aside(target, NEW)
    fresh.mkdir()
    try:
        fill(fresh)
        for path in fresh.rglob("*"):  # DVC's links from its cache are read-only; this is a copy of its own
            path.chmod(0o755 if path.is_dir() else 0o644)
        sync(fresh)
    except BaseException:  # as of a full disk: what is half made takes the room that is needed
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    vanish(target)
    fresh.rename(target)
    _sync(target.parent)


def vanish(folder: Path) -> None:
    """Remove a folder, if it is there: it has lost its name before the first of its files goes."""
    if folder.exists():
        shutil.rmtree(folder.rename(_aside(folder, GONE)))


def write(path: Path, text: str) -> None:
    """Have ``path`` hold ``text``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}{NEW}")
    fresh.write_text(text, encoding="utf-8")
    _sync(fresh)
    fresh.replace(path)
    _sync(path.parent)


def sync(folder: Path) -> None:
    """Have all files of a folder on disk before it gets its name, so that a power cut leaves no empty ones."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _aside(folder: Path, ending: str) -> Path:
    """A hidden name beside ``folder`` that is free."""
    aside = folder.with_name(f".{folder.name}{ending}")
    shutil.rmtree(aside, ignore_errors=True)
    return aside


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

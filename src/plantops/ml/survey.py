"""Which files lie in the folder of photos, in DVC's eyes, and whether they moved while they were read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plantops.errors import StepFailed
from plantops.ml.stage import plain

# What .dvcignore leaves out, and DVC's own folders.
_IGNORED = (".gitignore", ".gitkeep", ".git", ".hg", ".dvc")
_SHOWN = 5


@dataclass(frozen=True)
class Signature:
    """A file's stat: when it is the same, the bytes are taken to be the same."""

    mtime_ns: int
    size: int
    inode: int


@dataclass(frozen=True)
class Survey:
    """Files by path relative to the folder, and links to folders, which DVC does not follow."""

    files: dict[str, Signature]
    links: tuple[str, ...]


def survey(raw: Path) -> Survey:
    """Walk ``raw`` as DVC does: all regular files and links to such, folders that are links not entered."""
    files, links = {}, []
    for folder, folders, names in os.walk(raw):
        inside = os.path.relpath(folder, raw)
        prefix = "" if inside == "." else f"{inside}/"
        folders[:] = sorted(name for name in folders if name not in _IGNORED)
        links += [prefix + name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in names:
            signature = None if name in _IGNORED else _signature(os.path.join(folder, name))
            if signature:
                files[prefix + name] = signature
    return Survey(dict(sorted(files.items())), tuple(sorted(links)))


def check_unmoved(raw: Path, before: Survey, md5s: Mapping[str, str]) -> None:
    """Walk again and compare with what was read.

    ``md5s``: md5 of each file as it was read. Raises StepFailed when a file came, went or changed; otherwise DVC
    would record, after the stage, photos that training never saw (treeverse/dvc#11058).
    """
    now = survey(raw).files
    came = [f"{plain(path)} came" for path in now if path not in before.files]
    went = [f"{plain(path)} went" for path in before.files if path not in now]
    touched = [path for path, signature in now.items() if before.files.get(path, signature) != signature]
    changed = [f"{plain(path)} changed" for path in touched if _md5(raw / path) != md5s[path]]
    moved = came + went + changed
    if moved:
        more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        raise StepFailed(
            f"photos moved while they were read: {', '.join(moved[:_SHOWN])}{more}",
            "run again when the copying is done: dvc repro --force --single-item prepare_data",
        )


def _signature(path: str) -> Signature | None:
    try:
        found = os.stat(path)
    except OSError:
        return None  # gone between listing and looking, or a link to nowhere
    if not stat.S_ISREG(found.st_mode):
        return None
    return Signature(found.st_mtime_ns, found.st_size, found.st_ino)


def _md5(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError:
        return None

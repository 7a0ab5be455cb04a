"""Which files lie in the folder of photos, in DVC's eyes, and whether they moved while they were read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from plantops.errors import MOVED, StepFailed
from plantops.ml.stage import plain
from plantops.process import RUN_VARIABLE

# What .dvcignore leaves out, and DVC's own folders.
_IGNORED = (".gitignore", ".gitkeep", ".git", ".hg", ".dvc")
_SHOWN = 5
MARKER = "DRAWN_SAMPLES.txt"  # left by `plantops sample` beside what it draws


@dataclass(frozen=True, slots=True)
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


def survey(raw: Path, unrecorded: bool = False) -> Survey:
    """Walk ``raw`` as DVC does: all regular files and links to such, folders that are links not entered.

    In a run of plantops, a class that is not under DVC came after the run had seen to that: it is the next change,
    unless ``unrecorded`` ones are wanted, too.
    """
    links: list[str] = []
    return Survey(dict(sorted(_walk(raw, links, unrecorded))), tuple(sorted(links)))


def _walk(raw: Path, links: list[str], unrecorded: bool = False) -> Iterator[tuple[str, Signature]]:
    left_out, here = _dvcignore(), os.path.relpath(raw)
    class_by_class = not unrecorded and recorded_as_read() and not raw.with_name(f"{raw.name}.dvc").exists()
    for folder, folders, names in os.walk(raw):
        inside = os.path.relpath(folder, raw)
        prefix = "" if inside == "." else f"{inside}/"
        folders[:] = sorted(name for name in folders if name not in _IGNORED)
        if class_by_class and not prefix:
            folders[:] = [name for name in folders if f"{name}.dvc" in names]
        links += [prefix + name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in names:
            ignored = name in _IGNORED or left_out.match_file(f"{here}/{prefix}{name}")
            signature = None if ignored else _signature(os.path.join(folder, name))
            if signature:
                yield prefix + name, signature


def check_unmoved(raw: Path, before: Survey, md5s: Mapping[str, str]) -> int:
    """Walk again and compare with what was read; returns how many files came meanwhile.

    ``md5s``: md5 of each file as it was read. Raises StepFailed when one of them went or changed. What came is an
    error only where nobody puts DVC's record right afterwards (see :func:`recorded_as_read`): DVC would record,
    after the stage, photos that training never saw (treeverse/dvc#11058).
    """
    came, touched, unseen = [], [], set(md5s)
    for path, signature in _walk(raw, []):
        unseen.discard(path)
        if path not in md5s:
            came.append(f"{plain(path)} came")
        elif _minded(path) and signature != before.files[path]:
            touched.append(path)
    went = [f"{plain(path)} went" for path in md5s if path in unseen and _minded(path)]
    changed = [f"{plain(path)} changed" for path in sorted(touched) if _md5(raw / path) != md5s[path]]
    moved = went + changed + ([] if recorded_as_read() else came)
    if moved:
        more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        raise StepFailed(
            f"{MOVED}: {', '.join(moved[:_SHOWN])}{more}",
            "run again when the copying is done: dvc repro --force --single-item prepare_data",
        )
    return len(came)


def _minded(path: str) -> bool:
    """Whether a file that moved is an error: where DVC's record is put right afterwards, a photo alone."""
    return not recorded_as_read() or is_photo(path)


def recorded_as_read() -> bool:
    """Whether plantops started this stage: it has dvc.lock say what was read, whatever lies there by then."""
    return RUN_VARIABLE in os.environ


def is_photo(path: str) -> bool:
    """Whether a file is meant as a photo: what hides and what DVC keeps beside the data is not."""
    parts = PurePosixPath(path).parts
    return path != MARKER and not path.endswith(".dvc") and not any(part.startswith(".") for part in parts)


def _dvcignore() -> GitIgnoreSpec:
    """The patterns of the project's .dvcignore; a stage runs in the project's root."""
    file = Path(".dvcignore")
    return GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines() if file.is_file() else [])


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

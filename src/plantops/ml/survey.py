"""Which files lie in the folder of photos, in DVC's eyes, and whether they moved while they were read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
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


@dataclass(frozen=True, slots=True)
class Known:
    """A file as it was when it was read."""

    path: str
    md5: str
    signature: Signature


def survey(raw: Path, unrecorded: bool = False) -> Survey:
    """All that :func:`walk` finds, in memory."""
    links: list[str] = []
    return Survey(dict(walk(raw, links, unrecorded)), tuple(links))


def walk(raw: Path, links: list[str], unrecorded: bool = False) -> Iterator[tuple[str, Signature]]:
    """Walk ``raw`` as DVC does, in the order of the paths: all regular files and links to such. Of the tree, no more
    than the names of a folder and of those above it are in memory.

    Folders that are links are not entered, but appended to ``links``. In a run of plantops, a class that is not under
    DVC came after the run had seen to that: it is the next change, unless ``unrecorded`` ones are wanted, too.
    """
    left_out, here = _dvcignore(), os.path.relpath(raw)
    class_by_class = not unrecorded and recorded_as_read() and not raw.with_name(f"{raw.name}.dvc").exists()

    def below(prefix: str) -> Iterator[tuple[str, Signature]]:
        names = _names(os.path.join(raw, prefix))
        if class_by_class and not prefix:
            listed = set(names)
            names = [one for one in names if not one.endswith("/") or f"{one[:-1]}.dvc" in listed]
        for name in names:
            path = prefix + name
            if name.rstrip("/") in _IGNORED:
                continue
            if not name.endswith("/"):
                ignored = left_out.match_file(f"{here}/{path}")
                signature = None if ignored else _signature(os.path.join(raw, path))
                if signature:
                    yield path, signature
            elif os.path.islink(os.path.join(raw, path[:-1])):
                links.append(path[:-1])
            else:
                yield from below(path)

    return below("")


def _names(folder: str) -> list[str]:
    """What lies in a folder, folders with a slash: so sorted, whole paths are in order, too. None where it is gone."""
    try:
        with os.scandir(folder) as entries:
            return sorted(f"{one.name}/" if _is_folder(one) else one.name for one in entries)
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def check_unmoved(raw: Path, read: Iterable[Known]) -> int:
    """Walk again and compare with what was ``read``, in the order of paths; returns how many files came meanwhile.

    Raises StepFailed when one of them went or changed. What came is an error only where nobody puts DVC's record
    right afterwards (see :func:`recorded_as_read`): DVC would record, after the stage, photos that training never saw
    (treeverse/dvc#11058).
    """
    went, changed, came, count = list[str](), list[str](), list[str](), 0
    for path, known, now in _beside(iter(read), walk(raw, [])):
        if known is None:
            count += 1
            if not recorded_as_read():
                came.append(f"{plain(path)} came")
        elif not _minded(path):
            continue
        elif now is None:
            went.append(f"{plain(path)} went")
        elif now != known.signature and _md5(raw / path) != known.md5:
            changed.append(f"{plain(path)} changed")
    if moved := went + changed + came:
        more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        raise StepFailed(
            f"{MOVED}: {', '.join(moved[:_SHOWN])}{more}",
            "run again when the copying is done: dvc repro --force --single-item prepare_data",
        )
    return count


def _beside(
    read: Iterator[Known], walked: Iterator[tuple[str, Signature]]
) -> Iterator[tuple[str, Known | None, Signature | None]]:
    """The two lists, which are in the order of paths, by path."""
    known, now = next(read, None), next(walked, None)
    while known or now:
        if known and (now is None or known.path < now[0]):
            yield known.path, known, None
            known = next(read, None)
        elif now and (known is None or now[0] < known.path):
            yield now[0], None, now[1]
            now = next(walked, None)
        elif known and now:
            yield now[0], known, now[1]
            known, now = next(read, None), next(walked, None)


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

"""Looks at the photos themselves: which are not under DVC, and which moved since their ``dvc add``.

Each photo is hashed once: the state database keeps its stat signature (size, mtime, inode) with its md5.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops import detect, dirhash, dvc, process
from plantops.config import LOCK, PIPELINE
from plantops.errors import StepFailed
from plantops.store import Store

_NOT_DATA = {".gitignore", ".gitkeep"}
Signature = tuple[int, int, int]


@dataclass(frozen=True)
class Loose:
    """A folder whose photos DVC does not know as they are: ``what`` in words, ``add``: whether `dvc add` mends it."""

    folder: Path
    what: str
    add: bool = True


def loose(root: Path, raw: Path, store: Store, remember: bool = True) -> list[Loose]:
    """Folders of photos below ``raw`` (itself included) that are not under DVC, or not as DVC knows them.

    Hashes what it has not hashed before; ``remember`` keeps that for the next time. Raises StepFailed when a
    photo cannot be read.
    """
    if not raw.is_dir():
        known = dvc.covered(raw)
        return [_away(root, raw)] if known else []
    folders = [raw] if dvc.covered(raw) else sorted(Path(one.path) for one in os.scandir(raw) if one.is_dir())
    missing = [path.with_suffix("") for path in sorted(raw.glob("*.dvc")) if not path.with_suffix("").exists()]
    index = _Index(root, store)
    found = [_look(root, folder, index) for folder in folders]
    if remember:
        index.keep(raw)
    return [one for one in found if one] + [_away(root, one) for one in missing]


def moved_code(root: Path, inputs: dict[str, Any]) -> list[detect.Change]:
    """Dependencies of stages that are files in the project (scripts, settings) and differ from dvc.lock's record."""
    pipeline, recorded = inputs.get(PIPELINE), (inputs.get(LOCK) or {}).get("stages") or {}
    found = []
    for name, path in detect.plain_deps(pipeline):
        known = next((one for one in (recorded.get(name) or {}).get("deps", []) if one.get("path") == path), None)
        if known and (root / path).is_file() and _md5(root / path) != known.get("md5"):
            found.append(detect.Change(path, f"changed since stage {name} ran", (name,)))
    return found


def _look(root: Path, folder: Path, index: _Index) -> Loose | None:
    files = dict(_files(folder))
    out = dvc.covered(folder)
    name = folder.relative_to(root).as_posix()
    if out is None:
        return Loose(folder, f"{folder.name}: {len(files)} photos not under DVC: dvc add '{name}'") if files else None
    hashes = index.hashes(folder, files)
    if dirhash.directory(hashes.items()) == out.get("md5") or _clean(root, folder):
        return None
    before, now = out.get("nfiles", 0), len(files)
    said = f"{before} → {now} photos" if before != now else f"other content in its {now} photos"
    return Loose(folder, f"{folder.name}: {said} since its dvc add: dvc add '{name}'")


def _clean(root: Path, folder: Path) -> bool:
    """Whether DVC sees no difference, as it leaves out what .dvcignore names. Half a second; asked in doubt only."""
    answer = process.capture(["dvc", "status", "--json", f"{folder.relative_to(root)}.dvc"], root, timeout=600)
    return answer.ok and answer.out.strip() == "{}"


def _away(root: Path, folder: Path) -> Loose:
    name = folder.relative_to(root).as_posix()
    return Loose(folder, f"{folder.name}: its photos are not here: dvc checkout '{name}.dvc' or dvc pull", add=False)


def _files(folder: Path) -> Iterator[tuple[str, Signature]]:
    """(path below ``folder``, stat signature) of every file, as DVC would take them."""
    pending = [""]
    while pending:
        inside = pending.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                path = f"{inside}{entry.name}"
                if entry.is_dir():
                    pending.append(path + "/")
                elif entry.name not in _NOT_DATA and entry.is_file():
                    stat = entry.stat()
                    yield path, (stat.st_size, stat.st_mtime_ns, stat.st_ino)


class _Index:
    """md5 of photos by stat signature, from the state database."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self.store = root, store
        self.known = store.photos()
        self.fresh: dict[str, tuple[int, int, int, str]] = {}
        self.seen: set[str] = set()

    def hashes(self, folder: Path, files: dict[str, Signature]) -> dict[str, str]:
        """path below ``folder`` -> md5; only what is new or moved is read."""
        base = folder.relative_to(self.root).as_posix()
        found, unknown = {}, []
        for path, signature in files.items():
            known = self.known.get(f"{base}/{path}")
            self.seen.add(f"{base}/{path}")
            if known and known[:3] == signature:
                found[path] = known[3]
            else:
                unknown.append(path)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, md5 in zip(unknown, pool.map(_md5, [folder / one for one in unknown]), strict=True):
                found[path] = md5
                self.fresh[f"{base}/{path}"] = (*files[path], md5)
        return found

    def keep(self, raw: Path) -> None:
        """Store what was hashed; forget what is gone from below ``raw``."""
        prefix = raw.relative_to(self.root).as_posix() + "/"
        gone = [path for path in self.known if path.startswith(prefix) and path not in self.seen]
        if self.fresh or gone:
            self.store.remember_photos([(path, *row) for path, row in self.fresh.items()], gone)


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise StepFailed(f"{path} cannot be read: {error.strerror}", f"ls -l '{path.parent}'") from None

"""Looks at the photos themselves: which are not under DVC, and which moved since their ``dvc add``.

Each photo is hashed once: the state database keeps its stat signature (size, mtime, inode) with its md5, and for
each folder a digest of all of them, so that one in which nothing moved costs its stats alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops import detect, dirhash, dvc, process
from plantops.ahead import ahead, cores
from plantops.config import LOCK, PIPELINE
from plantops.errors import MOVED, StepFailed
from plantops.store import Store
from plantops.store.photos import Signature

_NO_LINKS = "put the folder itself there (README: With real photos)"
# Bytes of a name that are no UTF-8, as Python has them.
_NO_TEXT = re.compile("[\udc80-\udcff]")


class Vanished(StepFailed):
    """A photo that was listed is gone, as what an upload renames when it is whole."""


@dataclass(frozen=True)
class Loose:
    """A folder whose photos DVC does not know as they are: ``what`` in words, ``add``: whether `dvc add` mends it.

    ``md5`` is DVC's of what lies there now; empty when nothing does.
    """

    folder: Path
    what: str
    add: bool = True
    md5: str = ""


def loose(root: Path, raw: Path, store: Store, remember: bool = True) -> list[Loose]:
    """Folders of photos below ``raw`` (itself included) that are not under DVC, or not as DVC knows them.

    Hashes what it has not hashed before; ``remember`` keeps that for the next time. Raises StepFailed when a
    photo cannot be read.
    """
    if not raw.is_dir():
        known = dvc.covered(raw)
        return [_away(root, raw)] if known else []
    folders = [raw] if dvc.pointer(raw).is_file() else classes(raw)
    missing = [path.with_suffix("") for path in sorted(raw.glob("*.dvc")) if not path.with_suffix("").exists()]
    index = _Index(root, store, remember)
    found = [_look(root, folder, index) for folder in folders]
    index.forget_others(raw)
    return [one for one in found if one] + [_away(root, one) for one in missing]


def listed(
    root: Path, raw: Path, store: Store, read: Callable[[Path], str], remember: bool = True
) -> Iterator[tuple[str, dict[str, str]]]:
    """Folder by folder: what its paths begin with below ``raw``, and path in it: md5, of every file. ``read`` hashes
    one that is new or moved.

    Raises what ``read`` raises.
    """
    index = _Index(root, store, remember, read)
    for folder in [raw] if dvc.covered(raw) else classes(raw):
        inside = "" if folder == raw else f"{folder.name}/"
        yield inside, index.hashes(folder, dict(_files(folder)))
    index.forget_others(raw)


def classes(raw: Path) -> list[Path]:
    """The folders of classes: those below ``raw``, and links to such. One that hides is none, nor a link to itself."""
    return sorted(one for one in raw.iterdir() if one.is_dir() and not _hides(one.name)) if raw.is_dir() else []


def moved_code(root: Path, inputs: dict[str, Any]) -> list[detect.Change]:
    """Dependencies of stages that are files in the project (scripts, settings) and differ from dvc.lock's record."""
    pipeline, recorded = inputs.get(PIPELINE), (inputs.get(LOCK) or {}).get("stages") or {}
    found = []
    for name, path in detect.plain_deps(pipeline):
        known = next((one for one in (recorded.get(name) or {}).get("deps", []) if one.get("path") == path), None)
        if known and (root / path).is_file() and md5_of(root / path) != known.get("md5"):
            found.append(detect.Change(path, f"changed since stage {name} ran", (name,)))
    return found


def _look(root: Path, folder: Path, index: _Index) -> Loose | None:
    files = dict(_files(folder))
    out = dvc.covered(folder)
    name = shlex.quote(folder.relative_to(root).as_posix())
    broken = out is None and dvc.pointer(folder).is_file()
    if not (files or out or broken):
        return None
    md5 = index.md5(folder, files)
    if odd := next((one for one in (folder.name, *files) if _NO_TEXT.search(one)), ""):
        said = f"the name {odd!a} is not UTF-8, and DVC takes none such: rename it"
        return Loose(folder, f"{_NO_TEXT.sub('?', folder.name)}: {said}", add=False, md5=md5)
    if broken:
        mend = f"git checkout HEAD -- {_pointer(root, folder)}"
        return Loose(folder, f"{folder.name}: its .dvc cannot be read: resolve its conflict, or {mend}", False, md5)
    if out is None and folder.is_symlink():
        return Loose(folder, f"{folder.name}: a link, and DVC takes no photos through one: {_NO_LINKS}", False, md5)
    if out is None:
        return Loose(folder, f"{folder.name}: {detect.photos(len(files))} not under DVC: dvc add {name}", md5=md5)
    if md5 == out.get("md5") or _clean(root, folder):
        return None
    before, now = out.get("nfiles", 0), len(files)
    said = f"{before} → {detect.photos(now)}" if before != now else f"other content in its {detect.photos(now)}"
    return Loose(folder, f"{folder.name}: {said} since its dvc add: dvc add {name}", md5=md5)


def _clean(root: Path, folder: Path) -> bool:
    """Whether DVC sees no difference, as it leaves out what .dvcignore names. Half a second; asked in doubt only."""
    answer = process.capture(["dvc", "status", "--json", f"{folder.relative_to(root)}.dvc"], root, timeout=600)
    return answer.ok and answer.out.strip() == "{}"


def _away(root: Path, folder: Path) -> Loose:
    said = f"its photos are not here: dvc checkout {_pointer(root, folder)} or dvc pull"
    return Loose(folder, f"{folder.name}: {said}", add=False)


def _pointer(root: Path, folder: Path) -> str:
    """The ``.dvc`` file of a folder as it is typed."""
    return shlex.quote(dvc.pointer(folder).relative_to(root).as_posix())


def _files(folder: Path) -> Iterator[tuple[str, Signature]]:
    """(path below ``folder``, stat signature) of every file, as DVC takes them: links to folders are not followed.

    What hides is left out, as by .dvcignore; so is what goes while we look.
    """
    pending = [""]
    while pending:
        inside = pending.pop()
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder / inside) as entries:
            for entry in entries:
                path = f"{inside}{entry.name}"
                if _hides(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path + "/")
                elif signature := _signature(entry):
                    yield path, signature


def _hides(name: str) -> bool:
    return name.startswith(".")


def _signature(entry: os.DirEntry[str]) -> Signature | None:
    """Of a file or a link to one; None for what is no file (any more), and for a link to itself."""
    try:
        found = entry.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ino) if stat.S_ISREG(found.st_mode) else None


class _Index:
    """The md5 of photos and DVC's of folders, by what they hold by stat, from the state database."""

    def __init__(self, root: Path, store: Store, remember: bool, read: Callable[[Path], str] | None = None) -> None:
        self.root, self.store, self.remember, self.read = root, store, remember, read or md5_of
        self.known = store.folders()
        self.seen: set[str] = set()

    def md5(self, folder: Path, files: dict[str, Signature]) -> str:
        """DVC's md5 of ``folder``, which holds ``files``; only photos that are new or moved are read."""
        name = self._seen(folder)
        known = self.known.get(name)
        if known and known[0] == _digest(files):
            return known[1]
        return dirhash.directory(self.hashes(folder, files).items())

    def hashes(self, folder: Path, files: dict[str, Signature]) -> dict[str, str]:
        """path: md5 of the ``files`` in ``folder`` that are still there; only what is new or moved is read."""
        name, stats = self._seen(folder), _digest(files)
        before = self.known.get(name)
        if before and before[0] == stats:
            return self.store.md5s(name)
        hashes = self._read_unknown(folder, files, self.store.photos(name))
        if self.remember:
            stats = stats if len(hashes) == len(files) else _digest({path: files[path] for path in hashes})
            photos = ((path, files[path], one) for path, one in hashes.items())
            self.store.remember_folder(name, stats, dirhash.directory(hashes.items()), photos)
        return hashes

    def _seen(self, folder: Path) -> str:
        name = folder.relative_to(self.root).as_posix()
        self.seen.add(name)
        return name

    def _read_unknown(
        self, folder: Path, files: dict[str, Signature], known: dict[str, tuple[Signature, str]]
    ) -> dict[str, str]:
        found = {path: known[path][1] for path, stat in files.items() if path in known and known[path][0] == stat}
        unknown = [path for path in files if path not in found]
        read = ahead(self._md5, (folder / one for one in unknown), cores())
        found.update((path, md5) for path, md5 in zip(unknown, read, strict=True) if md5)
        return found

    def _md5(self, path: Path) -> str:
        """Empty when the photo is gone: then it is none of the folder's."""
        try:
            return self.read(path)
        except Vanished:
            return ""

    def forget_others(self, raw: Path) -> None:
        """Forget folders that are gone from ``raw``, and ``raw`` itself where its folders are known one by one."""
        prefix = raw.relative_to(self.root).as_posix() + "/"
        gone = [name for name in self.known if f"{name}/".startswith(prefix) and name not in self.seen]
        if gone and self.remember:
            self.store.forget_folders(gone)


def _digest(files: dict[str, Signature]) -> str:
    """Of names and stat signatures, in any order."""
    hashed, between = hashlib.sha256(), ""
    for one in sorted(f"{path}\0{signature}" for path, signature in files.items()):
        hashed.update(os.fsencode(between + one))
        between = "\0"
    return hashed.hexdigest()


def md5_of(path: Path) -> str:
    """The md5 of a file, hex. Raises StepFailed when it cannot be read, Vanished when it is gone."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> StepFailed:
    """Words for a photo that the machine does not let us read, or that is gone."""
    if isinstance(error, FileNotFoundError):
        return Vanished(f"{MOVED}: {path} went", "run again when the copying is done")
    return StepFailed(f"{path} cannot be read: {error.strerror}", f"ls -l {shlex.quote(str(path.parent))}")

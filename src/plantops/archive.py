"""A tar archive that proves itself: its last member holds the digest of every other. It appears whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from plantops.errors import SetupError, StepFailed

FORMAT = 1
_CONTENTS = "plantops-backup.json"
_CHUNK = 1 << 20
Tell = Callable[[int], None]


def write(target: Path, files: Mapping[str, Path], about: Mapping[str, Any], tell: Tell) -> None:
    """Write ``files`` (name in the archive: path) and what to say ``about`` them; ``tell`` gets bytes as they are done.

    The archive is readable by its owner alone. Raises StepFailed when a file changes while it is read, or the disk is
    full.
    """
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            with tarfile.open(fileobj=out, mode="w") as tar:
                digests = {name: _add(tar, name, path, tell) for name, path in files.items()}
                contents = json.dumps({**about, "format": FORMAT, "files": digests}).encode()
                _put(tar, _CONTENTS, len(contents), io.BytesIO(contents))
            out.flush()
            os.fsync(out.fileno())
        fresh.rename(target)
    except OSError as error:
        said = f"df {shlex.quote(str(target.parent))}; then again"
        raise StepFailed(f"{target} could not be written: {error}", said) from None
    finally:
        fresh.unlink(missing_ok=True)


def unpack(source: Path, into: Path, tell: Tell) -> dict[str, Any]:
    """Unpack an archive into an empty folder, and check it; returns what it says about itself.

    Only plain files are ever made, below ``into``. Raises SetupError when it is not whole, not one of ours, of a newer
    format, or names a place outside.
    """
    found: dict[str, str] = {}
    try:
        with tarfile.open(source, "r:*") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or not _inside(member.name):
                    raise SetupError(f"{source} holds {member.name!r}, which no backup of plantops has")
                found[member.name] = _extract(content, into / member.name, tell)
        about: dict[str, Any] = json.loads((into / _CONTENTS).read_bytes())
        listed, version = about["files"], int(about["format"])
    except (OSError, EOFError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{source} is no whole backup: {error}", "plantops backup makes one") from None
    if version > FORMAT:
        raise SetupError(f"{source} was made by a newer plantops (format {version})", "upgrade plantops")
    del found[_CONTENTS]
    if wrong := sorted(name for name in {*found, *listed} if found.get(name) != listed.get(name)):
        raise SetupError(f"{source} is damaged: {', '.join(wrong[:3])}", "take another backup")
    return about


def _add(tar: tarfile.TarFile, name: str, path: Path, tell: Tell) -> str:
    """Returns the sha256 of what was added."""
    with path.open("rb") as file:
        reader = _Reader(file, tell)
        _put(tar, name, os.fstat(file.fileno()).st_size, reader)
    return reader.digest.hexdigest()


def _put(tar: tarfile.TarFile, name: str, size: int, file: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    tar.addfile(info, file)


def _extract(content: Any, target: Path, tell: Tell) -> str:
    """Returns the sha256 of what was written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    reader = _Reader(content, tell)
    with target.open("xb") as out:
        while piece := reader.read(_CHUNK):
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    return reader.digest.hexdigest()


def _inside(name: str) -> bool:
    """Whether a name stays below the folder that it is unpacked into."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


class _Reader:
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO, tell: Tell) -> None:
        self._file, self._tell, self.digest = file, tell, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes at most."""
        piece = self._file.read(size)
        self.digest.update(piece)
        self._tell(len(piece))
        return piece

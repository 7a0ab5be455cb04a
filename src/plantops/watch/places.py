"""Where something can happen that matters to watch: which folders to watch, and which paths in them count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plantops import dvc
from plantops.config import LOCK, PIPELINE, Config
from plantops.errors import SetupError

# Disks on which other machines write without this kernel's knowledge.
_SHARED = {
    "9p", "afs", "ceph", "cifs", "drvfs", "glusterfs", "lustre", "nfs", "nfs4", "prl_fs", "smb3", "smbfs", "vboxsf",
    "virtiofs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse",
}  # fmt: skip


@dataclass(frozen=True)
class Moved:
    """What moved that can be a reason to look; false when nothing did."""

    inputs: bool = False
    photos: bool = False
    folders: bool = False

    def __bool__(self) -> bool:
        return self.inputs or self.photos or self.folders

    def __or__(self, other: Moved) -> Moved:
        return Moved(self.inputs or other.inputs, self.photos or other.photos, self.folders or other.folders)


@dataclass(frozen=True)
class Places:
    """``folders`` to watch, each by itself. In ``photos`` of them any file counts, elsewhere ``files`` and ``.dvc``."""

    folders: frozenset[str]
    files: frozenset[str]
    photos: frozenset[str]
    raw: str

    def moved(self, path: str) -> Moved:
        """What it means that something came, went or changed at ``path``."""
        above, name = os.path.split(path)
        if path in self.files or (name.endswith(".dvc") and name != ".dvc"):
            return Moved(inputs=True)
        is_folder = path in self.folders or (name not in dvc.SKIP and os.path.isdir(path))
        is_photo = above in self.photos and not name.startswith(".")
        return Moved(photos=is_photo or (is_folder and above == self.raw), folders=is_folder)


def of(config: Config) -> Places:
    """The places of the project as it is now. A folder that a ``.dvc`` covers is none, unless its photos are added."""
    root = config.root
    walked = {str(folder) for folder, _ in dvc.folders(root)}
    named = {config.file, *(root / name for name in (PIPELINE, LOCK, *dvc.params_files(dvc.pipeline(root))))}
    files = {os.path.abspath(one) for one in named} | {os.path.realpath(one) for one in named}
    raw = _raw(config)
    adds = bool(raw) and config.data.untracked == "add"
    photos = set(_below(raw)) if adds else {one for one in walked if raw and one.startswith(raw + os.sep)}
    above = {os.path.dirname(one) for one in files}
    there = frozenset(one for one in walked | photos | above if os.path.isdir(one) and os.access(one, os.R_OK))
    return Places(there, frozenset(files), frozenset(photos - {raw}), raw)


def shared_disks(config: Config) -> list[str]:
    """``folder (kind of file system)`` for the project and its photos, where other machines can write to them."""
    mounts = _mounts()
    found = []
    for path in dict.fromkeys(os.path.realpath(one) for one in (config.root, _raw(config)) if one):
        kind = mounts[max((one for one in mounts if _inside(path, one)), key=len)] if mounts else ""
        if kind in _SHARED:
            found.append(f"{path} ({kind})")
    return found


def _raw(config: Config) -> str:
    """The folder of photos, or an empty string while params.yaml does not name one."""
    try:
        return str(dvc.raw_folder(config.root))
    except SetupError:
        return ""


def _below(folder: str) -> Iterator[str]:
    """``folder`` and every folder below it, through links as well, each real folder once."""
    seen: set[str] = set()
    for inside, names, _ in os.walk(folder, followlinks=True):
        real = os.path.realpath(inside)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        yield inside


def _mounts() -> dict[str, str]:
    """Mount point to kind of file system; empty where the kernel does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        # Spaces and the like are octal in it.
        point = fields.split(b" ")[4].decode("unicode_escape").encode("latin-1")
        found[os.fsdecode(point)] = os.fsdecode(rest.split(b" ")[0])
    return found


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)

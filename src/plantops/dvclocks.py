"""What DVC's dead processes left in ``.dvc/tmp``, and which of it is safe to clear.

DVC 3.67 has two kinds of locks. ``lock`` and ``rwlock.lock`` are kernel locks: nothing of them survives their
process, though the files do, and mean nothing. With ``core.hardlink_lock`` the files themselves are the lock, for a
year. ``rwlock`` lists what running stages read and write, with the pid of their DVC; the next DVC that needs a path
passes over the entry of a dead one, but a file that was being written then is refused by all.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from plantops import process

_RWLOCK, _GUARDS = "rwlock", ("lock", "rwlock.lock")


@dataclass(frozen=True)
class Stale:
    """Something left behind: ``clear`` removes it, or is None where nobody can say whether its process is dead.

    ``stops``: DVC does not work until it is gone. ``remedy`` is the command.
    """

    says: str
    stops: bool
    remedy: str
    clear: Callable[[], None] | None


def stale(root: Path) -> Iterator[Stale]:
    """What lies in ``.dvc/tmp`` of a process that is dead on this host, or that cannot be told from one."""
    folder = root / ".dvc/tmp"
    if process.capture(["dvc", "config", "core.hardlink_lock"], root).out.strip().lower() == "true":
        yield from filter(None, (_hardlink(folder / name) for name in _GUARDS))
    with _guarded(folder) as guarded:
        if guarded:  # else a DVC is writing it now
            yield from _entries(root, folder / _RWLOCK)


def _hardlink(path: Path) -> Stale | None:
    """A lock by the presence of its file. Left by a kernel lock it names a pid, else only DVC's own claim."""
    try:
        text = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    where = f".dvc/tmp/{path.name}"
    if not text.isdigit():
        says = f"{where} is held (core.hardlink_lock) and does not say by which process"
        return Stale(says, True, f"rm {where} {text}, if no dvc is running on any machine", None)
    if process.alive(int(text)):
        return None
    return Stale(f"{where} is of pid {text}, which is dead", True, _FIX, path.unlink)


def _entries(root: Path, path: Path) -> Iterator[Stale]:
    try:
        listed = json.loads(path.read_bytes())
        holders = {int(one["pid"]): str(one["cmd"]) for one in _holders(listed)}
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, AttributeError):
        working = process.working_in(root, "dvc")
        says = ".dvc/tmp/rwlock was being written when its process died, and DVC cannot read it"
        if working:
            yield Stale(
                f"{says}; pid {working[0]} is still working", True, "wait for it, then plantops doctor --fix", None
            )
        else:
            yield Stale(says, True, _FIX, path.unlink)
        return
    dead = {pid for pid in holders if not process.alive(pid)}
    if dead:
        said = ", ".join(f"pid {pid} ({holders[pid]})" for pid in sorted(dead))
        yield Stale(f".dvc/tmp/rwlock holds paths for {said}, dead", False, _FIX, partial(_drop, path, listed, dead))


def _holders(listed: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from listed.get("write", {}).values()
    for readers in listed.get("read", {}).values():
        yield from readers


def _drop(path: Path, listed: dict[str, Any], dead: set[int]) -> None:
    """Write the list without the entries of dead processes."""
    writers = {name: one for name, one in listed.get("write", {}).items() if one["pid"] not in dead}
    readers = {
        name: kept
        for name, several in listed.get("read", {}).items()
        if (kept := [one for one in several if one["pid"] not in dead])
    }
    fresh = path.with_name(".rwlock.new")
    fresh.write_text(json.dumps({"write": writers, "read": readers}))
    fresh.replace(path)


@contextmanager
def _guarded(folder: Path) -> Iterator[bool]:
    """Hold DVC's own lock of the list; says whether it could be had. Where there is no list, none is needed."""
    guard = folder / _GUARDS[1]
    if not (folder / _RWLOCK).exists() or not guard.exists():
        yield (folder / _RWLOCK).exists()
        return
    descriptor = os.open(guard, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


_FIX = "plantops doctor --fix"

"""One run of a project at a time, one switch at a time: kernel locks on files, freed when their process dies."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from plantops.errors import Busy, SetupError

RUN, SWITCH, VIEWS, BACKUP, WATCH = "run.lock", "switch.lock", "views.lock", "backup.lock", "watch.lock"
_BUSY = {RUN: "another run is going", BACKUP: "another backup is being made", WATCH: "watch is going here already"}


@contextmanager
def hold(folder: Path, name: str = RUN, patience: float = 0.5) -> Iterator[None]:
    """Hold a lock of the project, waiting for it ``patience`` seconds at most.

    Raises Busy naming the holder, SetupError where its file cannot be written.
    """
    with _opened(folder / name, "a+") as file:
        if not _taken(file, patience):
            what = _BUSY.get(name, "another command has hold of what is in service")
            raise Busy(f"{what}: {_holder(file)}", "plantops status")
        _sign(file, folder / name)
        yield
        file.seek(0)
        file.truncate()


def _opened(path: Path, mode: str) -> TextIO:
    """A lock's file. Raises FileNotFoundError when it is only to be read, SetupError when it cannot be used."""
    try:
        if mode != "r":
            path.parent.mkdir(parents=True, exist_ok=True)
        return path.open(mode, encoding="utf-8")  # type: ignore[return-value]
    except OSError as error:
        if mode == "r" and isinstance(error, FileNotFoundError):
            raise
        raise _unusable(path, error) from None


def _sign(file: TextIO, path: Path) -> None:
    """Say in the file who holds it. Not through a buffer: on a full disk that would fail again when it is closed."""
    try:
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), json.dumps(myself()).encode())
    except OSError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: OSError) -> SetupError:
    folder = path.parent
    mend = (
        f"sudo chown -R {user()} {shlex.quote(str(folder))}"
        if isinstance(error, PermissionError)
        else f"df -h {shlex.quote(str(folder))}"
    )
    return SetupError(f"{path} cannot be used: {error.strerror}", mend)


def _taken(file: TextIO, patience: float) -> bool:
    """Take the lock. Never gives up at once: whoever looks with :func:`holder` has it for an instant."""
    for _ in range(max(1, round(patience / 0.05))):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def holder(folder: Path, name: str = RUN) -> str:
    """Who holds a lock, in words; empty when nobody does. Raises SetupError when that cannot be read."""
    try:
        with _opened(folder / name, "r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(file)
    except FileNotFoundError:
        pass
    return ""


def myself() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "user": user(),
        "host": platform.node(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["plantops", *sys.argv[1:]]),
    }


def user() -> str:
    """Who we are, by name where there is one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        return str(os.getuid())


def _holder(file: TextIO) -> str:
    file.seek(0)
    try:
        who = json.load(file)
        return f"pid {who['pid']} ({who['user']}@{who['host']}) since {who['since']}: {who['command']}"
    except (ValueError, KeyError):
        return "its holder has not said who it is"

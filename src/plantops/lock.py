"""One run of a project at a time, one switch at a time: kernel locks on files, freed when their process dies."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from plantops.errors import Busy

RUN, SWITCH, VIEWS = "run.lock", "switch.lock", "views.lock"


@contextmanager
def hold(folder: Path, name: str = RUN, patience: float = 0.5) -> Iterator[None]:
    """Hold a lock of the project, waiting for it ``patience`` seconds at most. Raises Busy naming the holder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a+", encoding="utf-8") as file:
        if not _taken(file, patience):
            what = "another run is going" if name == RUN else "another command has hold of what is in service"
            raise Busy(f"{what}: {_holder(file)}", "plantops status")
        file.seek(0)
        file.truncate()
        file.write(json.dumps(_myself()))
        file.flush()
        yield
        file.seek(0)
        file.truncate()


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


def holder(folder: Path) -> str:
    """Who holds the run lock, in words; empty when nobody does."""
    try:
        with (folder / RUN).open("r", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(file)
    except FileNotFoundError:
        pass
    return ""


def _myself() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "user": _user(),
        "host": platform.node(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["plantops", *sys.argv[1:]]),
    }


def _user() -> str:
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

"""What can go wrong, in words for the user, and the exit code that goes with it."""

from __future__ import annotations

import errno
import re
import shlex

OK = 0
CHANGES_WAITING = 6
INTERRUPTED = 130
MOVED = "photos moved while they were read"  # how prepare_data's message begins then, and how it is known by
HIDDEN = "[redacted]"
# In a URI: user:password@ (a password for a database may hold a slash), and what drivers take as ?password=.
_USERINFO = re.compile(r"(?<=://)(?:[^\s/?#]*@|[^\s:/?#@]*:[^\s@]*@)")
_QUERY = re.compile(r"(?i)(?<=[?&])(\w*(?:password|passwd|pwd|token|secret)|odbc_connect)=[^&\s]*")
ROOM = "make room; du -sh .dvc/cache models mlruns shows what takes it"
_NO_ROOM = tuple(f"[Errno {number}]" for number in (errno.ENOSPC, errno.EDQUOT))
# sqlite.org/rescode.html: full; and busy, locked, read-only, I/O error, damaged, cannot be opened, no database.
_SQLITE_FULL = 13
_SQLITE_REFUSED = {5, 6, 8, 10, 11, 14, 26}


def redacted(text: str) -> str:
    """``text`` without the users, passwords and tokens of the URIs in it."""
    return _QUERY.sub(rf"\1={HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class PlantopsError(Exception):
    """A failure that the user can understand: what happened, where, and the command that helps.

    ``message`` says what happened and where; ``hint`` is the next command or action, or empty. They are
    printed, logged, stored and sent, so neither holds a password, also where other programs' words are quoted, nor what
    is no text, as names of files may be: those bytes are written as ``\\udce9``.
    """

    code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = _text(redacted(message))
        self.hint = _text(redacted(hint))
        super().__init__(self.message)


class StepFailed(PlantopsError):
    """A step of a run, or a stage of the pipeline, failed (exit 1)."""

    code = 1


class SetupError(PlantopsError):
    """Usage, configuration or a missing tool, found before work began (exit 2)."""

    code = 2


class Refused(PlantopsError):
    """The gate did not accept the model (exit 4)."""

    code = 4


class Busy(PlantopsError):
    """Another run is going (exit 5)."""

    code = 5


def in_words(error: Exception) -> StepFailed | None:
    """What the machine refused us, wherever that happened; None when it is something else: a bug."""
    # By its text: what shutil.copytree raises holds the errors of all files in words alone.
    if isinstance(error, OSError) and any(one in str(error) for one in _NO_ROOM):
        return StepFailed("the disk is full", ROOM)
    sqlite = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if sqlite == _SQLITE_FULL:
        return StepFailed("the disk is full", ROOM)
    if sqlite in _SQLITE_REFUSED:
        return StepFailed(f"a database of this project cannot be used: {error}", "plantops doctor")
    if isinstance(error, PermissionError) and error.filename:
        return StepFailed(
            f"{error.filename} cannot be used: {error.strerror}", f"ls -ld {shlex.quote(str(error.filename))}"
        )
    return None


BUG = 3

EXIT_CODES = {
    OK: "done, or nothing to do",
    1: "a step failed",
    2: "usage, config or a missing tool, found before work began",
    BUG: "a bug in plantops; a report was written to .plantops/",
    4: "the gate did not accept the model",
    5: "another run is going",
    CHANGES_WAITING: "changes are waiting (check --exit-code)",
    INTERRUPTED: "interrupted",
}

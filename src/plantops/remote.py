"""DVC's cache and remote: what is brought from there and sent there; and why not, in words.

DVC's checkout replaces what lies there, and removes it where the cache lacks what is to come. So it is asked only for
what the cache holds to the last file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops import process
from plantops.errors import StepFailed, redacted

OnLine = Callable[[str], None]
_CHATTER = re.compile(r"Having any troubles|failed to collect|Everything is up to date|^$|^WARNING: Some of the cache")
# What each kind of remote says in its own words -> what that means, and the command that helps.
_MEANINGS = (
    (r"requires 'dvc-(\w+)'", "DVC's part for this kind of remote is not installed", r"pip install 'plantops[\1]'"),
    (
        r"(?i)NoCredentials|unable to locate credentials|DefaultCredentialsError|DefaultAzureCredential"
        r"|credentials? (?:were|was) not found",
        "there are no credentials for it here",
        "dvc remote modify --local {name} …, or the environment that it reads (README: Working with others)",
    ),
    (
        r"(?i)InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Forbidden|\b40[13]\b|Unauthorized"
        r"|ExpiredToken|PermissionError|Permission denied|AuthenticationFail|invalid_grant|access was denied",
        "it refuses the credentials that are used here, or they may not do this",
        "dvc remote modify --local {name} …, or ask whoever keeps the remote",
    ),
    (
        r"(?i)NoSuchBucket|bucket does not exist|ContainerNotFound",
        "there is no such bucket",
        "dvc remote modify {name} url …",
    ),
    (
        r"(?i)could not connect|connection|timed? ?out|unreachable|name or service not known|getaddrinfo|no answer",
        "it does not answer",
        "dvc fetch -v",
    ),
)


@dataclass(frozen=True)
class Remote:
    """The default remote of DVC; its ``url`` without a password."""

    name: str
    url: str

    def __str__(self) -> str:
        return f"{self.name} ({self.url})"


def default(root: Path) -> Remote | None:
    """Where `dvc fetch` and `dvc push` go, or None."""
    said = process.capture(["dvc", "config", "--list"], root).out
    values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    name = values.get("core.remote", "")
    return Remote(name, redacted(values.get(f"remote.{name}.url", ""))) if name else None


def cache(root: Path) -> Path:
    """The folder of DVC's cache. Raises StepFailed."""
    answer = process.capture(["dvc", "cache", "dir"], root)
    if not answer.ok:
        raise StepFailed(f"DVC does not say where its cache is: {answer.err.strip()}", "dvc cache dir")
    return Path(answer.out.strip())


def holds(cache: Path, out: Mapping[str, Any]) -> bool:
    """Whether the cache holds an output, as a ``.dvc`` or dvc.lock names it, to its last file."""
    if isinstance(out.get("files"), list):  # of a remote that keeps versions: the list of files is in the .dvc itself
        return all(_object(cache, str(one.get("md5"))) for one in out["files"])
    found = _object(cache, str(out.get("md5") or ""))
    if found is None or found.suffix != ".dir":
        return found is not None
    try:
        listed = json.loads(found.read_bytes())
        return all(_object(cache, str(one["md5"])) for one in listed)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _object(cache: Path, md5: str) -> Path | None:
    """A file of the cache; the second place is that of DVC before its version 3."""
    places = (cache / "files" / "md5", cache) if len(md5) > 2 else ()
    return next((path for place in places if (path := place / md5[:2] / md5[2:]).is_file()), None)


def text(cache: Path, md5: str) -> str | None:
    """What the cache holds under a hash, as text; None where it does not."""
    found = _object(cache, md5)
    return found.read_text(encoding="utf-8", errors="replace") if found else None


def listing(cache: Path, md5: str) -> list[tuple[str, str]] | None:
    """The files of a folder by its hash, as (md5, path in it); None where the cache lacks the list."""
    try:
        return [(str(one["md5"]), str(one["relpath"])) for one in json.loads(text(cache, md5) or "")]
    except (ValueError, KeyError, TypeError):
        return None


def fetch(root: Path, targets: Iterable[str], on_line: OnLine) -> None:
    """Bring into the cache what is missing there. Raises StepFailed; not for what the remote does not have."""
    _dvc(root, ["fetch", *targets], on_line)


def checkout(root: Path, targets: Iterable[str], on_line: OnLine) -> None:
    """Have the project hold what ``.dvc`` files and dvc.lock name. Raises StepFailed where that would lose a file."""
    _dvc(root, ["checkout", *targets], on_line)


def push(root: Path, on_line: OnLine) -> None:
    """Send what the project's ``.dvc`` files and dvc.lock name. Raises StepFailed."""
    _dvc(root, ["push"], on_line)


def _dvc(root: Path, words: list[str], on_line: OnLine) -> None:
    try:
        process.stream(["dvc", *words], root, on_line)
    except process.Failed as failed:
        said = [line for line in failed.tail if not _CHATTER.search(line)]
        raise explained(default(root), "\n".join(said[-3:]), f"dvc {words[0]}") from None


def explained(remote: Remote | None, said: str, command: str) -> StepFailed:
    """What a remote or DVC said, with its meaning where that is known, and the command that helps."""
    name = remote.name if remote else "NAME"
    said = said.removeprefix("ERROR: ").removeprefix("unexpected error - ")
    for pattern, meaning, hint in _MEANINGS:
        if found := re.search(pattern, said):
            where = f"the DVC remote {remote}" if remote else "DVC's remote"
            return StepFailed(f"{where}: {meaning}: {said}", found.expand(hint).format(name=name))
    return StepFailed(f"`{command}` failed: {said}", f"{command} -v")

"""DVC's cache: which objects belong to a hash, and which of them the remote has for sure.

The one room that loads DVC itself, and only on the way to ``plantops gc --dvc`` and ``plantops doctor``: no command of
DVC's asks a remote for objects that no commit names, or writes one small file there. (``dvc gc`` removes those objects
unasked: with ``-A`` all of them, and ``--not-in-remote`` saves only what a commit names.)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from plantops import yamltext
from plantops.errors import Busy, SetupError, StepFailed

_HASH = re.compile(r"\b[0-9a-f]{32}(?:\.dir)?\b")
_DIRECTORY = ".dir"


class Cache:
    """The cache of a project beside its default remote. Objects go by DVC's hash, a directory's ends with ``.dir``."""

    def __init__(self, repo: Any) -> None:
        self._local, self._old_local = repo.cache.local, repo.cache.legacy
        self._remote = repo.cloud.get_remote_odb(None, "gc")
        self._old_remote = repo.cloud.get_remote_odb(None, "gc", hash_name="md5-dos2unix")

    def size(self, one: str) -> int | None:
        """Bytes of an object; None when it is not in the cache."""
        try:
            return self._path(one).stat().st_size
        except FileNotFoundError:
            return None

    def members(self, one: str) -> set[str] | None:
        """An object, and for a directory the objects of its files; None when the list of its files is nowhere."""
        if not one.endswith(_DIRECTORY):
            return {one}
        for place in (self._local, self._old_local, self._remote, self._old_remote):
            try:
                with _speaking():
                    listed = json.loads(place.fs.cat_file(place.oid_to_path(one)))
                return {one, *(str(entry["md5"]) for entry in listed)}
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                continue
        return None

    def proven(self, objects: Iterable[str]) -> set[str]:
        """Those that the remote has, asked of the remote itself: there, and as large as here.

        Raises StepFailed when it does not answer.
        """
        asked = sorted(objects)
        with _speaking():
            said = self._remote.fs.info([self._remote.oid_to_path(one) for one in asked], return_exceptions=True)
            if wrong := [one for one in said if isinstance(one, Exception) and not isinstance(one, FileNotFoundError)]:
                raise wrong[0]
        there = {one: facts.get("size") for one, facts in zip(asked, said, strict=True) if isinstance(facts, dict)}
        return {one for one, size in there.items() if self.size(one) in (None, size)}

    def remove(self, objects: Iterable[str]) -> None:
        """Remove objects; a directory goes after its files, so that a kill leaves the list of them."""
        for one in sorted(objects, key=lambda one: one.endswith(_DIRECTORY)):
            self._path(one).unlink(missing_ok=True)

    def runs(self) -> Iterator[str]:
        """DVC's record of each stage it ran, as YAML: the entry of dvc.lock that it made."""
        for path in sorted(Path(self._old_local.path, "runs").glob("*/*/*")):
            if not path.name.startswith(".") and path.is_file():
                yield path.read_text(encoding="utf-8", errors="replace")

    def check(self, root: Path) -> None:
        """Raise SetupError where the cache is not this project's alone, or is the remote itself."""
        here = Path(self._local.path).resolve()
        if not here.is_relative_to(root.resolve()):
            raise SetupError(f"the cache lies outside the project, others may use it: {here}", "dvc gc -p")
        if os.path.isdir(self._remote.path) and Path(self._remote.path).resolve() == here:
            raise SetupError(f"the DVC remote is the cache itself: {here}", "dvc remote add -d NAME URL")

    def _path(self, one: str) -> Path:
        return Path(self._local.oid_to_path(one))


@contextmanager
def _speaking() -> Iterator[None]:
    """Turn whatever a remote's file system raises into StepFailed; only that something is not there is an answer."""
    try:
        yield
    except (FileNotFoundError, ValueError):
        raise
    except Exception as error:  # noqa: BLE001 - each kind of remote has errors of its own
        raise StepFailed(f"the DVC remote does not answer: {type(error).__name__}: {error}", "dvc status -c") from None


@contextmanager
def opened(root: Path, alone: bool) -> Iterator[Cache]:
    """The project's cache; with ``alone`` no DVC command runs meanwhile.

    Raises SetupError when there is no remote to prove anything with, StepFailed when DVC fails.
    """
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo, repo.lock if alone else nullcontext():
            cache = Cache(repo)
            cache.check(root)
            yield cache
    except NoRemoteError:
        raise SetupError(
            "no default DVC remote: nothing in the cache is proven to be anywhere else",
            "dvc remote add -d NAME URL, then dvc push",
        ) from None
    except LockError as error:
        raise Busy(f"another DVC command is working in this project: {error}", "wait for it") from None
    except DvcException as error:
        raise StepFailed(f"DVC: {error}", "dvc status -c") from None


def round_trip(root: Path) -> None:
    """Write a small file to the default remote, read it and remove it. Raises StepFailed with the remote's words."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    said = os.urandom(16).hex().encode()
    try:
        with Repo(str(root)) as repo:
            remote = repo.cloud.get_remote(None, "doctor")
            path = remote.fs.join(remote.path, f"plantops-doctor-{os.urandom(4).hex()}")
            remote.fs.makedirs(remote.fs.parent(path), exist_ok=True)
            remote.fs.pipe_file(path, said)
            try:
                heard = remote.fs.cat_file(path)
            finally:
                remote.fs.rm_file(path)
    except DvcException as error:
        raise StepFailed(str(error)) from None
    except Exception as error:  # noqa: BLE001 - each kind of remote has errors of its own
        raise StepFailed(f"{type(error).__name__}: {error}") from None
    if heard != said:
        raise StepFailed("what was written there is not what was read")


def hashes(text: str) -> set[str]:
    """All that a file of DVC's names, outputs and dependencies alike."""
    return set(_HASH.findall(text))


def data(text: str) -> set[str]:
    """The outputs of a ``.dvc``; of one that cannot be read, everything that looks like it."""
    outs = _parsed(text).get("outs")
    return hashes(str(outs) if outs else text)


def outputs(text: str) -> dict[str, str]:
    """What a dvc.lock, or one entry of it, says that stages made: hash to path. What cannot be read made nothing."""
    value = _parsed(text)
    stages = value.get("stages")
    entries = [value, *(stages.values() if isinstance(stages, dict) else [])]
    listed = [one for entry in entries if isinstance(entry, dict) for one in entry.get("outs") or []]
    # An older DVC's outputs (no `hash: md5`) lie elsewhere in the cache.
    return {str(one["md5"]): str(one.get("path")) for one in listed if one.get("hash") == "md5" and one.get("md5")}


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = yamltext.read(text)
    except yamltext.NotYaml:
        return {}
    return value if isinstance(value, dict) else {}

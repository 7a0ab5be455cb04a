"""The folders under models/: releases, refused, production. Each appears whole or not at all.

``models/releases/<release>/``  a bundle, ``release.json``, ``lineage.json``, ``split.csv``, ``reports/``; never changed
``models/refused/<run>/``       the last five candidates that the gate did not accept: ``verdict.json``, ``reports/``
``models/production/``          a copy of the release in service, exchanged as one folder
"""

from __future__ import annotations

import ctypes
import errno
import filecmp
import json
import os
import shutil
from pathlib import Path
from typing import Any

from plantops import whole
from plantops.artifacts import RELEASE_FILE, SPLIT_FILE
from plantops.bundle import BadBundle, Bundle
from plantops.errors import StepFailed

LINEAGE_FILE, VERDICT_FILE = "lineage.json", "verdict.json"
REPORTS = "reports"
_KEPT_REFUSED = 5
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Shelf:
    """The models folder of a project."""

    def __init__(self, models: Path) -> None:
        self.candidate = models / "candidate"
        self.production = models / "production"
        self.releases = models / "releases"
        self.refused = models / "refused"

    def release(self, name: str) -> Path:
        """Where a release lies."""
        return self.releases / name

    def accepted_anyway(self, name: str) -> dict[str, str] | None:
        """Who released it although the gate did not accept it, why, and when; None where nobody had to."""
        verdict = _read_json(self.release(name) / RELEASE_FILE).get("verdict") or {}
        found: dict[str, str] | None = verdict.get("accepted_anyway")
        return found

    def records(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """What release.json and lineage.json of each release say, in the order they were made.

        A release.json that cannot be read, or that names another release than its folder, is left out;
        a lineage.json that cannot be read is empty.
        """
        found = []
        for file in self.releases.glob(f"[!.]*/{RELEASE_FILE}"):
            facts = _read_json(file)
            if facts.get("release") == file.parent.name and facts.get("digest"):
                found.append((facts, _read_json(file.with_name(LINEAGE_FILE))))
        return sorted(found, key=lambda one: str(one[0].get("created")))

    def stage(self, name: str, facts: dict[str, Any], lineage: dict[str, Any], split: Path, reports: Path) -> Path:
        """Put the candidate on the shelf as a release, with its split list and reports; an existing one stays.

        ``facts`` travel with the model, into the image too; ``lineage`` (uncommitted code and the like) stays here.
        """
        target = self.release(name)
        if not _whole(target):

            def fill(folder: Path) -> None:
                shutil.copytree(self.candidate, folder, dirs_exist_ok=True)
                shutil.copyfile(split, folder / SPLIT_FILE)
                _copy_reports(reports, folder)
                _write_json(folder / RELEASE_FILE, facts)
                _write_json(folder / LINEAGE_FILE, lineage)

            whole.appear(target, fill)
        return target

    def refuse(self, run: str, verdict: dict[str, Any], reports: Path) -> Path:
        """Keep a refused candidate with the verdict and reports; only the last five stay."""
        kept = self.refused / run

        def fill(folder: Path) -> None:
            shutil.copytree(self.candidate, folder, dirs_exist_ok=True)
            _write_json(folder / VERDICT_FILE, verdict)
            _copy_reports(reports, folder)

        whole.appear(kept, fill)
        others = sorted(one for one in self.refused.glob("[!.]*") if one != kept)  # a clock may have been set back
        for old in others[: 1 - _KEPT_REFUSED]:
            whole.vanish(old)
        return kept

    def facts(self, name: str) -> dict[str, Any]:
        """What release.json of a release says; empty where it cannot be read."""
        return _read_json(self.release(name) / RELEASE_FILE)

    def lineage(self, name: str) -> dict[str, Any]:
        """What lineage.json of a release says; empty where it cannot be read."""
        return _read_json(self.release(name) / LINEAGE_FILE)

    def refusal(self, run: str) -> dict[str, Any]:
        """The verdict on a candidate that was refused; empty where it is kept no more."""
        return _read_json(self.refused / run / VERDICT_FILE)

    def differing(self, name: str) -> list[str]:
        """The files of models/production/ that are not as in the given release, sorted."""
        folders = (self.release(name), self.production)
        paths = {file.relative_to(one) for one in folders for file in one.rglob("*") if file.is_file()}
        return sorted(str(path) for path in paths if not _same(*(one / path for one in folders)))

    def produce(self, name: str, anew: bool = False) -> bool:
        """Make models/production/ the given release, in one exchange; says whether it was another one.

        ``anew``: also where it says that it is this one, as its files may have been changed by hand.
        """
        if self.produced() == name and not (anew and self.differing(name)):
            return False
        fresh = self.production.with_name(".production.new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(self.release(name), fresh)
        whole.sync(fresh)
        if self.production.exists():
            _exchange(fresh, self.production)
            shutil.rmtree(fresh)
        else:
            fresh.rename(self.production)
        return True

    def produced(self) -> str:
        """The release that models/production/ holds, or an empty string."""
        return str(_read_json(self.production / RELEASE_FILE).get("release", ""))


def release_of(folder: Path) -> str:
    """The id of the release in a folder, as the API will say it. Raises StepFailed when there is none."""
    try:
        if (folder / RELEASE_FILE).exists():
            return str(json.loads((folder / RELEASE_FILE).read_text(encoding="utf-8"))["release"])
        return Bundle.load(folder).digest[:12]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepFailed(f"{folder} holds no release: {type(error).__name__}: {error}") from None


def _copy_reports(reports: Path, folder: Path) -> None:
    """Pages and cards in folder ``reports``, where there are any."""
    for file in sorted(reports.glob("*.*")):
        (folder / REPORTS).mkdir(exist_ok=True)
        shutil.copyfile(file, folder / REPORTS / file.name)


def _whole(folder: Path) -> bool:
    """Whether a release lies there undamaged."""
    try:
        return bool(Bundle.load(folder).golden()) and (folder / RELEASE_FILE).is_file()
    except BadBundle:
        return False


def _same(one: Path, other: Path) -> bool:
    """Whether two files are there and hold the same."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step: renameat2(2) with RENAME_EXCHANGE.

    Some file systems (NFS among them) cannot; there it takes three renames, and for an instant ``other`` is away.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, f"{os.strerror(number)} while exchanging {one} and {other}")
        aside = other.with_name(f".{other.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        other.rename(aside)
        one.rename(other)
        aside.rename(one)


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none to read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON in ASCII, so that names of files in any encoding survive."""
    path.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="ascii")

"""What lies in a folder before `plantops init`: photos by class, a pipeline of another make, or a project of ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from plantops import code, dvc, whole
from plantops.config import FILE, LOCK, PARAMS, PIPELINE, load
from plantops.errors import PlantopsError, SetupError

ASIDE = ".before-plantops"
_PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
_OURS = {"docker", "models", "mlruns", "metrics", "plots", "reports", "demo", "scripts", "src", "tests"}
_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}  # hold classes, and are none
_DEPTH = 4  # folders below the one given in which classes are looked for
_ENOUGH = 2  # classes: with one there is nothing to tell apart
_TIMES_ON_DISK = 2  # the photos, and DVC's cache


@dataclass(frozen=True)
class Photos:
    """A folder of classes: photos by class."""

    folder: Path
    classes: dict[str, int]

    def sentence(self) -> str:
        """In words."""
        return f"{sum(self.classes.values()):,} photos of {len(self.classes)} classes in {self.folder}"


@dataclass(frozen=True)
class Foreign:
    """A pipeline of another make: what is in the way, and what stays as it is."""

    replaced: tuple[str, ...]
    kept: tuple[str, ...]
    raw: str


def photos(folder: Path) -> Photos | None:
    """The classes in ``folder`` itself: two folders or more that hold photos. None where there are none, also where
    they are the parts of a split.
    """
    found = {one.name: count for one in _folders(folder) if (count := _count(one))}
    parts = {one.lower() for one in found} <= _SPLITS
    return None if parts or len(found) < _ENOUGH else Photos(folder, dict(sorted(found.items())))


def search(folder: Path) -> list[Photos]:
    """Folders of classes in ``folder`` and below it, not in one another."""
    return list(_search(folder, _DEPTH))


def foreign(folder: Path) -> Foreign | None:
    """A pipeline that plantops did not write; None where there is none, or it is ours."""
    there = [name for name in (FILE, PARAMS, PIPELINE, LOCK) if (folder / name).is_file()]
    if PIPELINE not in there and FILE not in there:
        return None
    if _ours(folder):
        return None
    docker = [str(one.relative_to(folder)) for one in sorted((folder / "docker").glob("*")) if one.name != ".env"]
    stages = {one for entry in _deps(folder) for one in entry}
    raw = next((one for one in sorted(stages) if photos(folder / one) or list((folder / one).glob("*.dvc"))), "")
    kept = [one.name for one in sorted(folder.iterdir()) if one.name not in (*there, "docker", ".git", ".dvc", ASIDE)]
    return Foreign((*there, *docker), tuple(kept), raw)


def set_aside(folder: Path, found: Foreign) -> Path:
    """Move what is replaced into a folder of its own, and say which; nothing is deleted."""
    target = folder / ASIDE / f"{datetime.now():%Y%m%d-%H%M%S}"
    for name in found.replaced:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(target / name)
    return target


def copy(found: Photos, target: Path) -> None:
    """Copy the classes to ``target``, each whole or not at all. Raises SetupError where there is no room."""
    files = (one for name in found.classes for one in (found.folder / name).rglob("*"))
    wanted = sum(one.stat().st_size for one in files if one.is_file())  # a link that leads nowhere is none
    target.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target).free < _TIMES_ON_DISK * wanted:
        said = f"{wanted / 1e9:.1f} GB of photos, once here and once in DVC's cache, do not fit on the disk of {target}"
        raise SetupError(said, "plantops init on another disk")
    for name in found.classes:
        if not (target / name).exists():
            whole.appear(target / name, lambda fresh, one=name: _fill(found.folder / one, fresh))  # type: ignore[misc]


def move(found: Photos, target: Path) -> None:
    """Move the classes to ``target`` on the same disk; a class that is there already stays where it was."""
    target.mkdir(parents=True, exist_ok=True)
    for name in found.classes:
        if not (target / name).exists():
            (found.folder / name).rename(target / name)


def _fill(source: Path, fresh: Path) -> None:
    shutil.copytree(source, fresh, dirs_exist_ok=True, ignore_dangling_symlinks=True)


def _search(folder: Path, depth: int) -> Iterator[Photos]:
    found = photos(folder)
    # Folders of folders of photos may be classes, or collections: that a person must say.
    if found and sum(_holds_photos(folder / one) for one in found.classes) >= _ENOUGH:
        yield found
    elif depth:
        for one in _folders(folder):
            yield from _search(one, depth - 1)


def _holds_photos(folder: Path) -> bool:
    return any(one.suffix.lower() in _PHOTOS for one in folder.iterdir())


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    names = [one for one in folder.iterdir() if one.is_dir() and not one.is_symlink()]
    return sorted(one for one in names if not one.name.startswith(".") and one.name not in dvc.SKIP | _OURS)


def _count(folder: Path) -> int:
    """Photos in a folder and below."""
    return sum(1 for one in folder.rglob("*") if one.suffix.lower() in _PHOTOS and one.is_file())


def _ours(folder: Path) -> bool:
    """Whether config.yaml and dvc.yaml, as far as they are there, are of our shape."""
    try:
        if (folder / FILE).is_file():
            load(folder)
    except PlantopsError:
        return False
    if not (folder / PIPELINE).is_file():
        return True
    stages = code.digests(dvc.pipeline(folder)) if isinstance(dvc.pipeline(folder), dict) else {}
    return not stages or any(one != code.FOREIGN for one in stages.values())


def _deps(folder: Path) -> Iterator[list[str]]:
    pipeline = dvc.pipeline(folder)
    stages = pipeline.get("stages") if isinstance(pipeline, dict) else None
    for stage in stages.values() if isinstance(stages, dict) else ():
        listed = stage.get("deps") if isinstance(stage, dict) else None
        yield [str(one) for one in listed or [] if isinstance(one, str)]

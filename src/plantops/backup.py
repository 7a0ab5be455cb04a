"""`plantops backup` and `restore`: what a project remembers and has released, in one file.

In it: the state database, records that wait for MLflow, the releases and production, MLflow's database and artifacts
where they lie in the project, the config, params and DVC files. Not in it: photos and DVC's cache (`dvc push`), code
(`git push`), logs, and nothing that is secret: no .env, no .dvc/config.local, URLs without their passwords.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from plantops import __version__, archive, deploy, dvc, lock, recall, recover, store
from plantops.config import CODE, LOCK, PIPELINE, Config
from plantops.console import Console
from plantops.deploy import daemon
from plantops.errors import HIDDEN, PlantopsError, SetupError, StepFailed, redacted
from plantops.shelf import Shelf
from plantops.store import Store
from plantops.tracking import Tracker, rehome

_DATABASE, _SPOOL = f".plantops/{store.FILE}", ".plantops/spool"
_RELEASES, _PRODUCTION, _ARTIFACTS = "models/releases", "models/production", "mlruns/artifacts"
_LOGS = ("-wal", "-shm", "-journal")
_TEXT = {".yaml", ".yml", ".json", ".toml", ".lock", ".dvc"}
_PATIENCE_S = 120.0


def backup(config: Config, console: Console, target: Path | None) -> Path:
    """Write a backup; returns where. A run and the API may go on meanwhile.

    What moves is frozen first, under the lock of a switch, by hard links and SQLite's own backup: an instant. The
    bundles are never changed once they are there, so the packing needs no lock. Raises SetupError when ``target``
    exists.
    """
    target = target or config.state / "backups" / f"{config.project}-{time.strftime('%Y%m%d-%H%M%S')}.tar"
    if target.exists():
        raise SetupError(f"{target} exists already", "another name, or move it away")
    recover.mend(config, console)
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock.hold(config.state, lock.BACKUP), _scratch(config, "backup.new") as frozen:
        about = _freeze(config, frozen)
        files = {path.relative_to(frozen).as_posix(): path for path in _files(frozen)}
        if about["mlflow"]:
            files |= {path.relative_to(config.root).as_posix(): path for path in _files(config.root / _ARTIFACTS)}
        _room(target.parent, sum(path.stat().st_size for path in files.values()))
        archive.write(target, files, about, _progress(console, "backup", files.values()))
    return target


def restore(config: Config, console: Console, source: Path, force: bool) -> list[str]:
    """Put a backup into this project; returns what to tell the user.

    Checked whole before anything is touched; what was there is set aside, never deleted. Raises Busy while a run
    is going, SetupError while the API answers, or, without ``force``, when the project has releases.
    """
    if not source.is_file():
        raise SetupError(f"there is no file {source}", "ls .plantops/backups")
    with ExitStack() as held:
        for name in (lock.RUN, lock.SWITCH, lock.VIEWS):
            held.enter_context(lock.hold(config.state, name))
        _must_be_down(config)
        if not force:
            _must_be_empty(config, source)
        fresh = held.enter_context(_scratch(config, "restore.new"))
        _room(fresh, source.stat().st_size)
        about = archive.unpack(source, fresh, _progress(console, "restore", [source]))
        texts = _checked(fresh, about, source)
        if about["mlflow"]:
            rehome(fresh / about["mlflow"], Path(about["root"]), config.root.absolute())
        aside = config.state / f"replaced-{time.strftime('%Y%m%d-%H%M%S')}"
        _exchange(config.root, fresh, aside, about, texts)
    said = [f"restored {source} of {about['created']}"]
    if aside.exists():
        said.append(f"what was here before is in {aside.relative_to(config.root)}")
    blank = [one for one in texts if HIDDEN in (config.root / one).read_text(encoding="utf-8", errors="replace")]
    said += [f"{one} is without its passwords, which no backup has: put them in again" for one in blank]
    return [*said, "next: dvc checkout (or dvc pull) for the photos, plantops status, plantops up"]


def _freeze(config: Config, frozen: Path) -> dict[str, Any]:
    """Lay out in ``frozen`` what may move while it is packed; returns what to say about it."""
    database = Tracker(config.root, config.mlflow).database
    inside = database is not None and database.is_file() and database.is_relative_to(config.root.absolute())
    mlflow = database.relative_to(config.root.absolute()).as_posix() if database and inside else None
    with lock.hold(config.state, lock.SWITCH, _PATIENCE_S), lock.hold(config.state, lock.VIEWS, _PATIENCE_S):
        known = _copy_database(config, frozen)
        if database and mlflow:  # after the store: it may know more, as after a crash, and never less
            _copy(database, frozen / mlflow)
        shelf = Shelf(config.models)
        for folder in [*(shelf.release(name) for name in known), shelf.production, config.root / _SPOOL]:
            for path in _files(folder):
                _link(path, frozen / path.relative_to(config.root))
    for path in _texts(config):
        _link(path, frozen / path.relative_to(config.root))
    for path in _files(frozen):
        _without_passwords(path)
    made = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"plantops": __version__, "created": made, "root": str(config.root.absolute()), "mlflow": mlflow}


def _copy_database(config: Config, frozen: Path) -> list[str]:
    """The state database as it is now; returns the releases that it knows."""
    if not (config.state / store.FILE).exists():
        return []
    _copy(config.state / store.FILE, frozen / _DATABASE)
    with Store((frozen / _DATABASE).parent, readonly=True) as state:
        return [one.id for one in state.releases()]


def _copy(database: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    store.copy(database, target)


def _texts(config: Config) -> Iterator[Path]:
    """The config, params and DVC files, and what a run writes beside them."""
    root = config.root
    named = [PIPELINE, LOCK, CODE, *dvc.params_files(dvc.pipeline(root))]
    for path in {config.file, *(root / name for name in named), *dvc.dvc_files(root)}:
        if path.is_file() and path.is_relative_to(root) and path.resolve().is_relative_to(root.resolve()):
            yield path


def _link(path: Path, target: Path) -> None:
    """The file as it is, wherever its name may go; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _without_passwords(path: Path) -> None:
    if path.suffix not in _TEXT:
        return
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    if (clean := redacted(text)) != text:
        path.unlink()  # a link: the file itself keeps what it says
        path.write_text(clean, encoding="utf-8", errors="surrogateescape")


def _must_be_down(config: Config) -> None:
    """Raise SetupError while anything of this project has its files open."""
    backend = deploy.get(config)
    try:
        running = bool(backend.serving() or backend.pages() or deploy.found(config))
    except PlantopsError:  # its engine is away, and what it served with it
        running = False
    if running or daemon.find(config.state / daemon.MLFLOW):
        raise SetupError("the API of this project or MLflow's pages are running", "plantops down, then again")


def _must_be_empty(config: Config, source: Path) -> None:
    with recall.look(config) as state:
        count = len(state.releases())
    if count:
        raise SetupError(
            f"this project has {count} release{'' if count == 1 else 's'} already",
            f"plantops restore {shlex.quote(str(source))} --force (sets them aside first)",
        )


def _checked(fresh: Path, about: dict[str, Any], source: Path) -> list[str]:
    """The names of the text files. Raises SetupError when something does not belong, or a database is no good."""
    mlflow = about.get("mlflow")
    folders = (f"{_SPOOL}/", f"{_RELEASES}/", f"{_PRODUCTION}/", *([f"{_ARTIFACTS}/"] if mlflow else []))
    texts = []
    for name in about["files"]:
        if name == _DATABASE or name.startswith(folders):
            continue
        if any(part.startswith(".") for part in PurePosixPath(name).parts):
            raise SetupError(f"{source} holds {name!r}, which no backup of plantops has")
        if name != mlflow:
            texts.append(name)
    with Store((fresh / _DATABASE).parent, readonly=True) as state:
        if damage := state.damage(thorough=True):
            raise SetupError(f"the state database in {source} is damaged: {damage}", "take another backup")
    return texts


def _exchange(root: Path, fresh: Path, aside: Path, about: dict[str, Any], texts: list[str]) -> None:
    """Set aside what is here and move in what was unpacked; undone when it fails. The database comes last."""
    places = [_SPOOL, _RELEASES, _PRODUCTION]
    places += [about["mlflow"], _ARTIFACTS] if about["mlflow"] else []
    places += [name for name in texts if not _same(root / name, fresh / name)]
    places.append(_DATABASE)
    try:
        with ExitStack() as undo:
            for name in places:
                for one in (name, *(name + log for log in _LOGS)):
                    _move(root / one, aside / one, undo)
                _move(fresh / name, root / name, undo)
            undo.pop_all()
    except OSError as error:
        raise StepFailed(
            f"nothing was restored, all is as it was: {error}", shlex.join(["ls", "-l", str(root)])
        ) from None


def _move(path: Path, target: Path, undo: ExitStack) -> None:
    if path.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
        undo.callback(shutil.move, target, path)


def _same(here: Path, restored: Path) -> bool:
    """Whether a file says what the backup says of it, which knows no passwords."""
    if not here.is_file():
        return False
    text = here.read_text(encoding="utf-8", errors="surrogateescape")
    return redacted(text) == restored.read_text(encoding="utf-8", errors="surrogateescape")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise SetupError(f"{size / 1e9:.1f} GB are needed in {folder}, and {free / 1e9:.1f} GB are free", "make room")


def _progress(console: Console, what: str, files: Any) -> archive.Tell:
    """Shows how many MB are done."""
    total, done = sum(path.stat().st_size for path in files), 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        console.bar(what, min(done, total) // 1_000_000, total // 1_000_000, "MB")

    return tell


@contextmanager
def _scratch(config: Config, name: str) -> Iterator[Path]:
    """A folder of our own, new, and gone afterwards. Call while holding the lock that makes us the only one."""
    folder = config.state / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

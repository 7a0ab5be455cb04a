"""`plantops gc`: remove bundles, images and logs of older releases, and stage outputs that DVC's remote has for sure.

Never what is in service or a rollback needs, never the data of a ``.dvc``, and nothing that may be nowhere else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from plantops import cache, deploy, dvc, git, lock, recall, recover, replay, whole
from plantops.bundle import BadBundle, Bundle
from plantops.cache import Cache
from plantops.config import LOCK, Config
from plantops.console import Console
from plantops.deploy import image, spare
from plantops.deploy.compose import engine
from plantops.errors import SetupError
from plantops.shelf import Shelf
from plantops.store import Release, Store


@dataclass(frozen=True)
class Waste:
    """One thing to remove, and the bytes that this frees."""

    kind: str
    name: str
    size: int
    remove: Callable[[], None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {"kind": self.kind, "name": self.name, "bytes": self.size}


def tidy(config: Config, console: Console, keep: int, with_dvc: bool, dry_run: bool, as_json: bool) -> None:
    """Remove what the newest ``keep`` releases do not need; say what, and how much it is.

    Raises Busy while a run is going, SetupError when ``with_dvc`` has no remote to prove anything with.
    """
    if not dry_run:
        recover.mend(config, console)
    with ExitStack() as held:
        if not dry_run:
            held.enter_context(lock.hold(config.state))
            held.enter_context(lock.hold(config.state, lock.SWITCH, patience=60))
        store = held.enter_context(recall.look(config))
        objects = held.enter_context(cache.opened(config.root, alone=not dry_run)) if with_dvc else None
        found = [*_releases(config, store, keep), *(_outputs(config.root, objects) if objects else ())]
        for one in found:
            if not as_json:
                console.say(f"  {one.kind:<12} {one.name:<44} {_mb(one.size):>12}")
            if not dry_run:
                one.remove()
    total = sum(one.size for one in found)
    if as_json:
        console.json({"dry_run": dry_run, "removed": [one.to_dict() for one in found], "bytes": total})
    elif not found:
        console.say("nothing to remove")
    else:
        console.say(f"{_mb(total)} would be freed; nothing was removed" if dry_run else f"{_mb(total)} freed", "green")


def kept(store: Store, shelf: Shelf, count: int) -> set[str]:
    """The releases that stay whole: in service, where a rollback goes, what ``run --skip-dvc`` takes, the newest."""
    try:
        candidate = store.with_digest(Bundle.load(shelf.candidate).digest)
    except BadBundle:
        candidate = None
    needed = (store.in_service(), store.previous(), candidate, *store.releases()[:count])
    return {one.id for one in needed if one}


def _releases(config: Config, store: Store, count: int) -> Iterator[Waste]:
    """Bundles and images of older releases, and what a killed removal left."""
    shelf, known = Shelf(config.models), store.releases()
    staying = kept(store, shelf, count)
    old = [one for one in known if one.id not in staying]
    yield from _bundles(shelf, old)
    yield from _logs(config, [one for one in known if one.id in staying])
    for page in (replay.page(config, one.id) for one in old):
        if page.is_file():
            yield Waste("page", str(page.relative_to(config.root)), page.stat().st_size, page.unlink)
    if deploy.get(config).built() is None:
        return
    client = engine.client()
    for one in spare.find(client, config, {each.id for each in old}, {each.id for each in known}):
        yield Waste("image", one.shown, one.size, partial(image.remove, client, one.name))


def _bundles(shelf: Shelf, old: Collection[Release]) -> Iterator[Waste]:
    for left in sorted(one for folder in (shelf.releases, shelf.refused) for one in folder.glob(".*")):
        if left.name.endswith((whole.NEW, whole.GONE)):
            yield Waste("bundle", f"{left.name} (left over)", _size(left), partial(shutil.rmtree, left))
    for folder in (shelf.release(one.id) for one in old):
        if folder.is_dir():
            yield Waste("bundle", folder.name, _size(folder), partial(whole.vanish, folder))


def _logs(config: Config, staying: Collection[Release]) -> Iterator[Waste]:
    """Logs of runs that had ended when the oldest release was made that stays."""
    oldest = min(staying, key=lambda one: one.created, default=None)
    if oldest is None or not oldest.created:  # a record that was lost in part does not say when
        return
    made = datetime.fromisoformat(oldest.created).timestamp()
    old = [one for one in (config.state / "logs").glob("[0-9]*-*.log") if one.stat().st_mtime < made]
    if old:
        size = sum(one.stat().st_size for one in old)
        yield Waste("logs", f"{len(old)} of runs before {oldest.id}", size, partial(_unlink, old))


def _unlink(files: Collection[Path]) -> None:
    for one in files:
        one.unlink()


def _outputs(root: Path, objects: Cache) -> Iterator[Waste]:
    """Outputs that stages made once and that dvc.lock no longer names, where the remote has the whole of each.

    Only what a stage is known to have made is ever looked at. What belongs to a ``.dvc`` of any commit, to an output
    of now, or to an output that the remote lacks stays, also where an old output has the same file.
    """
    staying = _data(root, objects)
    current = {one for path in {root / LOCK, *git.files(root, f"*{LOCK}")} for one in cache.hashes(_text(path))}
    for one in current:
        staying |= objects.members(one) or {one}
    texts = [*objects.runs(), *git.versions(root, f"*{LOCK}")]
    made = {one: path for text in texts for one, path in cache.outputs(text).items() if one not in current}
    old = {one: objects.members(one) or {one} for one in sorted(made) if objects.size(one) is not None}
    safe = objects.proven(set().union(*old.values()) - staying) | staying
    for members in old.values():
        if not members <= safe:
            staying |= members
    for one, members in old.items():
        going = {each for each in members - staying if objects.size(each) is not None}
        staying |= going  # counted once, and gone with the first that has it
        if going:
            size = sum(objects.size(each) or 0 for each in going)
            yield Waste("stage output", f"{made[one]} {one[:7]}", size, partial(objects.remove, going))


def _data(root: Path, objects: Cache) -> set[str]:
    """All objects of every ``.dvc``, here and in any commit. Raises SetupError where nobody can say which they are."""
    texts = [*map(_text, dvc.dvc_files(root)), *git.versions(root, "*.dvc")]
    found: set[str] = set()
    for one in {each for text in texts for each in cache.data(text)}:
        members = objects.members(one)
        if members is None:
            raise SetupError(
                f"the list of files of {one}, which a .dvc names, is neither in the cache nor in the remote: "
                "nobody can say which objects are its own",
                f"git log --all -S {one.removesuffix('.dir')} shows whose it is; dvc push where it lies",
            )
        found |= members
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"

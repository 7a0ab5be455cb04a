"""Writes a lost state database anew: releases from their files, what is in service from what answers.

What the files do not hold is lost, and said: earlier runs, withdrawals, the index of photos.
"""

from __future__ import annotations

import time
from pathlib import Path

from plantops import deploy, lock, recall
from plantops.config import Config
from plantops.console import Console
from plantops.errors import PlantopsError
from plantops.shelf import Shelf
from plantops.store import FILE, PERHAPS, Store
from plantops.tracking import Tracker

_FILES = ("", "-wal", "-shm")


def mend(config: Config, console: Console) -> None:
    """Rebuild the database if it is lost, and say what is lost with it. Every command that writes begins with this.

    A damaged file is set aside, never deleted. Raises Busy while a run is going: it may still write into it.
    """
    if not recall.lost(config, thorough=True):
        return
    with lock.hold(config.state):
        why = recall.lost(config, thorough=True)
        if not why:  # another command was faster
            return
        aside = _set_aside(config.state)
        answering, backend = _answering(config)
        versions, previous, away = _registry(config, answering)
        with Store(config.state) as store:
            recall.refill(config, store, answering, previous, versions)
            if backend:
                deploy.remember(store, backend)
            console.say(_said(store, why, aside) + away, "yellow")


def _set_aside(folder: Path) -> str:
    """Give a damaged database and its log another name; returns it, or nothing when there was no database."""
    if not (folder / FILE).exists():
        return ""
    name = f"{FILE}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in _FILES:  # the database first: without its log it could pass for a sound one of yesterday
        if (folder / (FILE + suffix)).exists():
            (folder / (FILE + suffix)).rename(folder / (name + suffix))
    return name


def _answering(config: Config) -> tuple[str, str]:
    """(release, backend) that answer now; empty where nothing does."""
    name = deploy.found(config)
    running = deploy.connect(config, name).serving() if name else None
    return (running.release or "" if running else ""), name


def _registry(config: Config, answering: str) -> tuple[dict[str, int], str, str]:
    """(versions, the release with the alias previous, what to say): what the registry knows better than the files."""
    tracker, current = Tracker(config.root, config.mlflow), answering or Shelf(config.models).produced()
    try:
        tracker.ping()
        versions, aliases = tracker.versions(), tracker.aliases()
    except PlantopsError as error:
        return {}, "", f"; MLflow could not be asked ({error.message})"
    if aliases.get("champion") != versions.get(current):
        return versions, "", ""
    return versions, next((one for one, version in versions.items() if version == aliases.get("previous")), ""), ""


def _said(store: Store, why: str, aside: str) -> str:
    """What happened, what is back and what is not, in one sentence."""
    known, current = store.releases(), store.in_service()
    back = f"{len(known)} release{'' if len(known) == 1 else 's'} came back from models/releases"
    serving = f"{current.id} in service" if current else "none of them known to be in service (plantops rollback NAME)"
    perhaps = [one.id for one in known if one.withdrawn == PERHAPS]
    doubt = f"; {', '.join(perhaps)} may have been withdrawn and will not come back unasked" if perhaps else ""
    kept = f" and is kept as .plantops/{aside}" if aside else ""
    return (
        f".plantops/{FILE} {why}{kept}: {back}, {serving}{doubt}; "
        "lost are earlier runs, withdrawals, refusals, and the index of photos, which are hashed once more"
    )

"""The views of what is in service: models/production and the registry's aliases. The store decides; they follow."""

from __future__ import annotations

from plantops import lock
from plantops.config import Config
from plantops.errors import PlantopsError, redacted
from plantops.shelf import Shelf
from plantops.store import Store
from plantops.tracking import Tracker

_ALIASES = "aliases"
_PATIENCE_S = 120.0


def show(config: Config, store: Store, tracker: Tracker, anew: bool = False, aliases: bool = True) -> list[str]:
    """Rewrite each view that differs from the store; returns what to tell the user.

    ``anew``: what they were last made to show is not believed, as somebody may have changed them by hand.
    Without ``aliases`` those stay as they are: they show what another machine released since.

    One writer at a time, and what the store says is read again after each writing: a rollback meanwhile wins.
    MLflow being away holds nothing up: its aliases follow at the next command.
    """
    with lock.hold(config.state, lock.VIEWS, _PATIENCE_S):
        while True:
            wanted = _wanted(store)
            if anew:
                store.set_shown(_ALIASES, "")
            said = _write(config, store, tracker, wanted, anew, aliases) if wanted else []
            if _wanted(store) == wanted:
                return said


def recount(store: Store, tracker: Tracker) -> None:
    """Have the store hold the version numbers of the registry that is there: it may have been removed, or be another.

    Where MLflow is away nothing is changed.
    """
    try:
        tracker.ping()
        versions = tracker.versions()
    except PlantopsError:
        return
    for one in store.releases():
        version = versions.get(one.id, versions.get(one.digest))
        if one.version != version:
            store.set_version(one.id, version)
            store.set_shown(_ALIASES, "")


def _wanted(store: Store) -> tuple[str, int | None, int | None] | None:
    """(release in service, its version, the version before), or None before any release."""
    current, previous = store.in_service(), store.previous()
    return (current.id, current.version, previous.version if previous else None) if current else None


def _write(
    config: Config, store: Store, tracker: Tracker, wanted: tuple[str, int | None, int | None], anew: bool, ours: bool
) -> list[str]:
    release, version, previous = wanted
    Shelf(config.models).produce(release, anew)
    where = f"{redacted(config.mlflow.tracking_uri)} {config.mlflow.model_name}"
    aliases = f"champion {version} previous {previous} in {where}"
    if not ours or store.shown(_ALIASES) == aliases:
        return []
    if version is None:
        return [f"{release} is not in the registry yet"]
    store.set_shown(_ALIASES, "")  # one of the two may be set when the other fails
    try:
        done = tracker.promote(version, previous)
    except PlantopsError as error:
        return [f"the aliases in MLflow will follow: {error.message}"]
    if done:
        store.set_shown(_ALIASES, aliases)
    return [] if done else ["MLflow is away: its aliases will follow"]

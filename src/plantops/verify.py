"""Does everything outside the store say what the store says? Asked of each by itself, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from plantops import deploy
from plantops.bundle import BadBundle, Bundle
from plantops.config import Config
from plantops.errors import PlantopsError, SetupError
from plantops.shelf import Shelf
from plantops.store import Release, Store
from plantops.tracking import Tracker

OK, DIFFERS, UNKNOWN = "ok", "differs", "unknown"
_FOLLOW = "plantops follow"
_SHOWN = 3


@dataclass(frozen=True)
class Check:
    """One thing compared with the store: ``state`` is ok, differs or unknown (it could not be asked)."""

    what: str
    state: str
    says: str
    remedy: str = ""


def verify(config: Config, store: Store) -> list[Check]:
    """All checks of the release in service. Raises SetupError when nothing is in service."""
    current = store.in_service()
    if current is None:
        raise SetupError("nothing is in service", "plantops run")
    return [
        _bundle(config, current),
        *_served(config, current),
        _production(config, current),
        _champion(config, current),
    ]


def _bundle(config: Config, current: Release) -> Check:
    """The files of the release are those that were judged."""
    shelf = Shelf(config.models)
    other = "plantops rollback goes to the release before; plantops restore FILE brings a backup's files back"
    try:
        digest = Bundle.load(shelf.release(current.id)).digest
    except BadBundle as error:
        return Check("bundle", DIFFERS, f"models/releases/{current.id}: {error}", other)
    written = shelf.facts(current.id)
    if (digest, written.get("digest"), written.get("release")) != (current.digest, current.digest, current.id):
        said = f"models/releases/{current.id} holds {digest[:12]}, the store has {current.digest[:12]}"
        return Check("bundle", DIFFERS, said, other)
    return Check("bundle", OK, f"{digest[:12]} as it was judged")


def _served(config: Config, current: Release) -> Iterator[Check]:
    """The API, and the image that it runs from where there is one."""
    try:
        backend = deploy.get(config)
        running, label = backend.serving(), backend.labelled()
    except PlantopsError as error:
        yield Check("api", UNKNOWN, error.message, error.hint)
        return
    yield _api(running, current)
    if label is not None:
        right = label == current.id
        said = f"the image that serves is labelled {label or 'as nothing'}"
        yield Check("image", OK if right else DIFFERS, said, "" if right else "plantops up")


def _api(running: deploy.Serving | None, current: Release) -> Check:
    if running is None:
        return Check("api", DIFFERS, "it is not running", "plantops up")
    if running.digest is None:
        return Check("api", UNKNOWN, f"{running.url} is {running.status}: {running.reason}", "plantops up")
    said = f"{running.url} answers as {running.release} with bundle {running.digest[:12]}"
    right = (running.release, running.digest) == (current.id, current.digest)
    return Check("api", OK if right else DIFFERS, said, "" if right else "plantops up")


def _production(config: Config, current: Release) -> Check:
    shelf = Shelf(config.models)
    if shelf.produced() != current.id:
        return Check("production", DIFFERS, f"models/production is {shelf.produced() or 'nothing'}", _FOLLOW)
    if differing := shelf.differing(current.id):
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        said = f"models/production differs from the release in {', '.join(differing[:_SHOWN])}{more}"
        return Check("production", DIFFERS, said, _FOLLOW)
    return Check("production", OK, "models/production is a copy of it")


def _champion(config: Config, current: Release) -> Check:
    try:
        tracker = Tracker(config.root, config.mlflow)
        tracker.ping()
        champion = tracker.aliases().get("champion")
    except PlantopsError as error:
        return Check("mlflow", UNKNOWN, error.message, error.hint or "plantops doctor")
    if current.version is None:
        return Check("mlflow", DIFFERS, "the release is not in the registry yet", "plantops run")
    said = f"champion is version {champion}" if champion else "nothing is champion"
    if champion == current.version:
        return Check("mlflow", OK, said)
    return Check("mlflow", DIFFERS, f"{said}; the release is version {current.version}", _FOLLOW)

"""Which backend serves: the one in config.yaml; for ``auto`` the one of the first deployment, from then on."""

from __future__ import annotations

from importlib import import_module

from plantops import recall
from plantops.config import Config
from plantops.deploy.moving import Moving
from plantops.deploy.protocol import Backend, Movable, Serving
from plantops.errors import PlantopsError
from plantops.shelf import Shelf
from plantops.store import Store

BACKENDS = {
    "local": "plantops.deploy.local",
    "compose": "plantops.deploy.compose",
    "swarm": "plantops.deploy.swarm",
    "kubernetes": "plantops.deploy.kubernetes",
}
_VIEW = "backend"


def get(config: Config) -> Backend:
    """The backend that config.yaml chooses; while another one of ours serves, the way from that to this."""
    with recall.look(config) as store:
        before, current = remembered(store), store.in_service()
    if current and not before:  # the database was lost
        before = found(config)
    new = connect(config, config.deploy.backend if config.deploy.backend != "auto" else before or _auto(config))
    if before in ("", new.name) or current is None:
        return new
    old = connect(config, before)
    return Moving(old, new, Shelf(config.models).release(current.id)) if _serving(old) else new


def found(config: Config) -> str:
    """The backend that serves a release of this project now, asked of each; empty when none does."""
    shelf = Shelf(config.models)
    running = {name: _serving(connect(config, name)) for name in BACKENDS}
    # Another project may have a stack of the same name here.
    ours = (name for name, one in running.items() if one and one.release and shelf.release(one.release).is_dir())
    return next(ours, "")


def moves(backend: Backend) -> str:
    """In words, when this is a way from one backend to another; else empty."""
    return backend.what if isinstance(backend, Moving) else ""


def remembered(store: Store) -> str:
    """The backend that serves the release in service; empty before the first deployment."""
    return store.shown(_VIEW)


def remember(store: Store, name: str) -> None:
    """This backend serves from now on."""
    store.set_shown(_VIEW, name)


def _auto(config: Config) -> str:
    """What ``auto`` comes to on this machine, at the first deployment.

    It is remembered: an engine that is away later is an error, never a silent move.
    """
    return "compose" if import_module(BACKENDS["compose"]).available(config) else "local"


def connect(config: Config, name: str) -> Movable:
    """A backend by its name."""
    backend: Movable = import_module(BACKENDS[name]).connect(config)
    return backend


def _serving(backend: Backend) -> Serving | None:
    try:
        return backend.serving()
    except PlantopsError:  # its engine is gone, and what it served with it
        return None

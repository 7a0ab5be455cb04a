"""Which backend serves: the one in config.yaml; for ``auto`` the one of the first deployment, from then on."""

from __future__ import annotations

from importlib import import_module

from plantops.config import Config
from plantops.deploy.moving import Moving
from plantops.deploy.protocol import Backend, Movable
from plantops.errors import PlantopsError
from plantops.shelf import Shelf
from plantops.store import Store

BACKENDS = {"local": "plantops.deploy.local", "compose": "plantops.deploy.compose"}
_VIEW = "backend"


def get(config: Config) -> Backend:
    """The backend that config.yaml chooses; while another one of ours serves, the way from that to this."""
    with Store(config.state, readonly=True) as store:
        before, current = remembered(store), store.in_service()
    new = _backend(config, config.deploy.backend if config.deploy.backend != "auto" else before or _found(config))
    if before in ("", new.name) or current is None:
        return new
    old = _backend(config, before)
    return Moving(old, new, Shelf(config.models).release(current.id)) if _serves(old) else new


def moves(backend: Backend) -> str:
    """In words, when this is a way from one backend to another; else empty."""
    return backend.what if isinstance(backend, Moving) else ""


def remembered(store: Store) -> str:
    """The backend that serves the release in service; empty before the first deployment."""
    return store.shown(_VIEW)


def remember(store: Store, name: str) -> None:
    """This backend serves from now on."""
    store.set_shown(_VIEW, name)


def _found(config: Config) -> str:
    """What ``auto`` comes to on this machine, at the first deployment.

    It is remembered: an engine that is away later is an error, never a silent move.
    """
    return "compose" if import_module(BACKENDS["compose"]).available(config) else "local"


def _backend(config: Config, name: str) -> Movable:
    backend: Movable = import_module(BACKENDS[name]).connect(config)
    return backend


def _serves(old: Backend) -> bool:
    try:
        return old.serving() is not None
    except PlantopsError:  # its engine is gone, and what it served with it
        return False

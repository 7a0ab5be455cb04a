"""Which backend serves: the one in config.yaml; for ``auto`` the one of the first deployment, from then on."""

from __future__ import annotations

from importlib import import_module

from plantops.config import Config
from plantops.deploy.protocol import Backend
from plantops.store import Store

BACKENDS = {"local": "plantops.deploy.local", "compose": "plantops.deploy.compose"}
_VIEW = "backend"


def get(config: Config, name: str = "") -> Backend:
    """The backend of that name, or the one that config.yaml chooses."""
    backend: Backend = import_module(BACKENDS[name or _chosen(config)]).connect(config)
    return backend


def remembered(store: Store) -> str:
    """The backend that serves the release in service; empty before the first deployment."""
    return store.shown(_VIEW)


def remember(store: Store, name: str) -> None:
    """This backend serves from now on."""
    store.set_shown(_VIEW, name)


def _chosen(config: Config) -> str:
    """An engine that is away later is an error, never a silent move to another backend."""
    if config.deploy.backend != "auto":
        return config.deploy.backend
    with Store(config.state, readonly=True) as store:
        return remembered(store) or ("compose" if import_module(BACKENDS["compose"]).available(config) else "local")

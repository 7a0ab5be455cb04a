"""Putting a release into service: one module a backend, all with the verbs of :class:`Backend`."""

from __future__ import annotations

from types import ModuleType

from plantops.config import Config
from plantops.deploy import local
from plantops.deploy.protocol import Backend, Serving, Trial

BACKENDS: dict[str, ModuleType] = {"local": local}


def get(config: Config) -> Backend:
    """The backend that config.yaml names."""
    backend: Backend = BACKENDS[config.deploy.backend].connect(config)
    return backend


__all__ = ["BACKENDS", "Backend", "Serving", "Trial", "get"]

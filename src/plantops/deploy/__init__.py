"""Putting a release into service: one module a backend, all with the verbs of :class:`Backend`."""

from __future__ import annotations

from plantops.deploy.choice import BACKENDS, connect, found, get, moves, remember, remembered
from plantops.deploy.protocol import Backend, Serving, Trial

__all__ = ["BACKENDS", "Backend", "Serving", "Trial", "connect", "found", "get", "moves", "remember", "remembered"]

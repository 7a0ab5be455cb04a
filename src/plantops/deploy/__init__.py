"""Putting a release into service: one module a backend, all with the verbs of :class:`Backend`."""

from __future__ import annotations

from plantops.deploy.choice import BACKENDS, get, moves, remember, remembered
from plantops.deploy.protocol import Backend, Serving, Trial

__all__ = ["BACKENDS", "Backend", "Serving", "Trial", "get", "moves", "remember", "remembered"]

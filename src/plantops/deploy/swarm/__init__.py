"""Serving by Docker Swarm: the API's replicas on any node of it, behind HAProxy on this one."""

from __future__ import annotations

from plantops.deploy.swarm.backend import Swarm, connect

__all__ = ["Swarm", "connect"]

"""Serving on a Kubernetes cluster: a Deployment for each start of a release, and a Service that selects one of them."""

from __future__ import annotations

from plantops.deploy.kubernetes.backend import Kubernetes, connect

__all__ = ["Kubernetes", "connect"]

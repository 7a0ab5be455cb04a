"""Serving by Docker Compose: the API's containers behind HAProxy, with MLflow, Prometheus and Grafana beside them."""

from __future__ import annotations

from plantops.deploy.compose.backend import Compose, available, connect

__all__ = ["Compose", "available", "connect"]

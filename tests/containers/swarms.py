"""A swarm of this engine alone, left at the end, and a project whose API serves in it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import pytest

from api_client import HOST, until
from containers.conftest import forget_images, forget_stack, own_config
from containers.engine import docker, need_engine, need_image
from plantops.config import Config, GrafanaConfig, PrometheusConfig
from plantops.deploy.swarm import Swarm


@contextmanager
def swarm(address: str = HOST) -> Iterator[None]:
    """This engine in a swarm of its own; it leaves, whatever happens. A swarm that is there is somebody's: skipped.

    One at a time: other processes of these tests wait for theirs.
    """
    need_engine()
    need_image("haproxy:2.8.10")
    with Path(gettempdir(), "plantops-test-swarm.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "inactive":
            pytest.skip("this engine is in a swarm already")
        docker("swarm", "init", "--advertise-addr", address, "--listen-addr", f"{address}:2377")
        try:
            yield
        finally:
            docker("swarm", "leave", "--force")


@contextmanager
def serving(root: Path, **deploy: object) -> Iterator[Swarm]:
    """The swarm backend of a project of the test's own; nothing of it is left."""
    backend = Swarm(configured(own_config(root), **deploy))
    try:
        yield backend
    finally:
        forget(backend)


def configured(config: Config, **deploy: object) -> Config:
    """The same project, served in a swarm."""
    changed = replace(config.deploy, **{"backend": "swarm", "watch_seconds": 2, **deploy})  # type: ignore[arg-type]
    return replace(config, deploy=changed, prometheus=PrometheusConfig(False), grafana=GrafanaConfig(False))


def forget(backend: Swarm) -> None:
    """Remove service, containers, network and images."""
    name = backend._stack.name
    docker("service", "rm", backend._stack.service, check=False)
    until(lambda: not docker("ps", "-aq", "--filter", f"name={name}_"), 90, "the end of the tasks")
    forget_stack(name)
    forget_images(backend._config.docker.image)


def tasks(backend: Swarm) -> list[str]:
    """The containers of the service that run on this engine."""
    return docker("ps", "-q", "--no-trunc", "--filter", f"name={backend._stack.service}.").split()

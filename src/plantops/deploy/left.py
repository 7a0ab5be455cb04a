"""What a project leaves in a Docker engine: containers that stand, volumes, images of its releases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from plantops.config import Config
from plantops.deploy import image
from plantops.deploy.compose import engine
from plantops.deploy.compose.stack import API, BESIDE, GATEWAY, Stack
from plantops.deploy.sdk import speaking
from plantops.deploy.swarm.stack import SwarmStack

if TYPE_CHECKING:
    from docker import DockerClient

_PROJECT, _RELEASE = "com.docker.compose.project", "org.plantops.release"


@dataclass(frozen=True)
class Left:
    """A container, volume or image, and how it goes."""

    kind: str
    name: str
    remove: Callable[[], None]


def find(client: DockerClient, config: Config, releases: Collection[str]) -> Iterator[Left]:
    """What is this project's alone. Raises SetupError where another project has the name, StepFailed."""
    for stack in (Stack(config), SwarmStack(config)):
        yield from _stacks(client, config, stack.name)
    with speaking():
        images = client.api.images(name=config.docker.image)
    for tag in sorted(tag for one in images for tag in _tags(one, releases)):
        yield Left("image", tag, partial(image.remove, client, tag))


def _stacks(client: DockerClient, config: Config, name: str) -> Iterator[Left]:
    """Containers, networks and volumes of a compose project."""
    engine.check(client, config.root, name)
    for service, apart in product((API, GATEWAY, *BESIDE), (False, True)):
        for one in engine.containers(client, config.root, name, service, apart):
            yield Left("container", f"{service} {one.id[:12]}", partial(engine.remove, client, one, 0))
    with speaking():
        volumes = client.volumes.list(filters={"label": f"{_PROJECT}={name}"})
        networks = client.networks.list(filters={"label": f"{_PROJECT}={name}"})
    for one in networks:
        yield Left("network", one.name, partial(_gone, one))
    for one in volumes:
        yield Left("volume", one.name, partial(_gone, one))


def _tags(one: dict[str, Any], releases: Collection[str]) -> list[str]:
    """An image has the label of its release; others' images of the same name are of other releases."""
    return list(one["RepoTags"] or []) if (one["Labels"] or {}).get(_RELEASE) in releases else []


def _gone(one: Any) -> None:
    from docker.errors import NotFound

    with speaking():
        try:
            one.remove()
        except NotFound:
            return

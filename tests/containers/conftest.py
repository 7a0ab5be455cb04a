"""One engine, one workshop and two releases' images for all tests of the image; nothing of it is left."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bundle_factory import make_release
from containers.engine import need_engine
from containers.images import Workshop, configured, keep_private, make_root
from deploy.load import MODELS

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The engine's client; skipped plainly where no engine answers."""
    need_engine()
    import docker

    client = docker.from_env(timeout=120)
    yield client
    client.close()


@pytest.fixture(scope="session")
def workshop(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A project to build in. Its images go when the tests are over."""
    name = f"plantops-test-{uuid.uuid4().hex[:8]}"
    yield Workshop(engine, configured(make_root(tmp_path_factory.mktemp("workshop")), name))
    for one in engine.images.list(name=name):
        for tag in one.tags:
            if tag.startswith(f"{name}:"):
                engine.images.remove(tag, force=True)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two releases with distinguishable answers, and private things in their folders."""
    place = tmp_path_factory.mktemp("releases")
    return {name: keep_private(make_release(place / name, model)) for name, model in MODELS.items()}


@pytest.fixture(scope="session")
def built(workshop: Workshop, folders: dict[str, Path]) -> dict[str, str]:
    """The tags of their images."""
    return {name: workshop.build(folder) for name, folder in folders.items()}

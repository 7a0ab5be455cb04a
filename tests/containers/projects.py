"""Projects with cheap stages that serve by the Docker stack, what a user sees of them, and their end."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from api_client import free_port, until
from conftest import plantops, sh
from containers.engine import docker
from plantops import deploy
from plantops.config import load
from plantops.shelf import Shelf
from plantops.store import Store
from runs import cheap
from runs.cheap import answering, edit

API = "plant-disease-api"


@dataclass(frozen=True)
class FirstRun:
    """What the first run in a project said, and the release that answered after it."""

    folder: Path
    said: str
    release: str


def make(folder: Path) -> Path:
    """A project for the Docker stack: the API and HAProxy alone; committed, nothing run yet."""
    folder = cheap.make(folder)
    config = folder / "config.yaml"
    edit(config, "backend: local", "backend: compose")
    edit(config, "  mlflow: true ", "  mlflow: false")
    edit(config, "  enabled: true", "  enabled: false")
    sh("git", "commit", "-qam", "Serve by Docker", cwd=folder)
    return folder


def copy(ready: Path, folder: Path) -> Path:
    """A copy of a project that nothing was run in, with a name, an image and ports of its own."""
    sh("cp", "-a", ready, folder, cwd=ready)
    config, own = folder / "config.yaml", f"plantops-test-{uuid.uuid4().hex[:8]}"
    text = re.sub(r"^(project|  image): [\w-]+", rf"\1: {own}", config.read_text(), flags=re.MULTILINE)
    config.write_text(re.sub(r"port: \d+", lambda _: f"port: {free_port()}", text))
    sh("git", "commit", "-qam", "Take another name", cwd=folder)
    return folder


def reseed(folder: Path) -> None:
    """A change that makes another model."""
    text = (folder / "params.yaml").read_text()
    seed = re.search(r"^seed: (\d+)", text, re.MULTILINE)
    assert seed
    edit(folder / "params.yaml", seed.group(), f"seed: {int(seed[1]) + 1}")


def name(folder: Path) -> str:
    """What the project's stack and image are called."""
    return load(folder).project


def containers(folder: Path, service: str = API, show: str = "{{.State}} {{.Image}}") -> list[str]:
    """A line for each container of a service, newest first, stopped ones included."""
    labels = {"com.docker.compose.project": name(folder), "com.docker.compose.service": service}
    filters = [word for key, value in labels.items() for word in ("--filter", f"label={key}={value}")]
    return docker("ps", "-a", "--no-trunc", *filters, "--format", show).splitlines()


def ids(folder: Path, service: str = API) -> list[str]:
    """The ids of the service's containers."""
    return containers(folder, service, "{{.ID}}")


def everything(folder: Path) -> list[str]:
    """Whatever carries the project's name in the engine: containers, networks."""
    own = ("--filter", f"label=com.docker.compose.project={name(folder)}")
    return docker("ps", "-aq", *own).split() + docker("network", "ls", "-q", *own).split()


def latest(folder: Path) -> set[str]:
    """The releases whose image `:latest` is."""
    found = docker("image", "inspect", f"{name(folder)}:latest", "--format", '{{join .RepoTags " "}}').split()
    return {one.rpartition(":")[2] for one in found} - {"latest"}


def in_service(folder: Path) -> str:
    """The release that the store says is in service."""
    with Store(folder / ".plantops", readonly=True) as store:
        current = store.in_service()
    return current.id if current else ""


def whole(folder: Path) -> str:
    """Store, API, production, docker/.env, `:latest` and HAProxy agree, by one container; returns the release."""
    release, shelf = in_service(folder), Shelf(folder / "models")
    assert release
    assert answering(folder) == release == shelf.produced()
    assert containers(folder) == [f"running {name(folder)}:{release}"]
    assert f"PLANTOPS_IMAGE='{name(folder)}:{release}'\n" in (folder / "docker/.env").read_text()
    assert latest(folder) == {release}
    backend = deploy.get(load(folder))
    until(lambda: backend.agrees(shelf.release(release)), what="the backend's agreement")
    return release


def remove(folder: Path) -> None:
    """Stop whatever serves, and remove containers, volumes and images."""
    own = name(folder)
    plantops("down", cwd=folder, check=False)
    docker("compose", "-p", own, "down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)
    for one in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", own).split():
        docker("image", "rm", "-f", one, check=False)

"""The Docker engine through its SDK: is it there, which containers serve the API, and what they said last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plantops import process
from plantops.deploy.address import Address
from plantops.deploy.sdk import speaking
from plantops.errors import SetupError

if TYPE_CHECKING:
    from docker import DockerClient

_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_DEFINITION = "com.docker.compose.config-hash"
_PLACE = "com.docker.compose.project.working_dir"
_MIN_FREE_GB = 1.0
_ROOTLESS = "this engine is rootless, which was not tried: docker context use default, or deploy.backend: local"


@dataclass(frozen=True)
class Container:
    """A container.

    ``image``: what it was started by; ``image_id``: what that was then. ``definition``: its service's digest.
    ``inside``: its address on the stack's network; ``door``: where its port 8000 is on the host.
    """

    id: str
    image: str
    image_id: str
    definition: str
    running: bool
    restarts: int
    inside: str
    door: Address


def client() -> DockerClient:
    """The engine that DOCKER_HOST or the default socket names. Raises SetupError with what helps."""
    import docker
    from docker.errors import DockerException

    if shutil.which("docker", path=process.environment()["PATH"]) is None:
        raise SetupError("Docker is not installed, and deploy.backend needs it", "docs.docker.com/engine/install")
    try:
        found = docker.from_env(timeout=120)
        found.ping()
    except (DockerException, OSError) as error:
        said = str(error)
        if "Permission" in said or "permission" in said:
            raise SetupError(
                "no permission on the Docker engine's socket", "sudo usermod -aG docker $USER, then log in again"
            ) from None
        raise SetupError(
            f"the Docker engine does not answer: {said.splitlines()[0][:200]}", "sudo systemctl start docker"
        ) from None
    return found


def check_compose(root: Path) -> None:
    """Raise SetupError when Compose is missing."""
    if not process.capture(["docker", "compose", "version", "--short"], root).ok:
        raise SetupError("Docker's Compose plugin (v2) is missing", "docs.docker.com/compose/install/linux")


def check(found: DockerClient, root: Path, name: str) -> None:
    """Raise SetupError when Compose is missing, the disk is full, or another project has our name."""
    check_compose(root)
    with speaking():
        place = Path(found.info().get("DockerRootDir", "/var/lib/docker"))
        there = found.containers.list(all=True, filters={"label": f"{_PROJECT}={name}"}, ignore_removed=True)
    if place.is_dir():
        free = shutil.disk_usage(place).free / 1e9
        if free < _MIN_FREE_GB:
            raise SetupError(f"{free:.1f} GB free in {place}, where Docker keeps its images", "docker system df")
    for one in there:
        if not _ours(one, root):
            raise SetupError(
                f"a compose project named {name} runs from {one.labels[_PLACE]} already",
                "give this one another project: in config.yaml",
            )


def rootless(info: Mapping[str, Any]) -> bool:
    """Whether the engine of this `docker info` runs without root: its users are not ours."""
    return any("name=rootless" in str(one) for one in info.get("SecurityOptions") or [])


def hint(found: DockerClient, otherwise: str) -> str:
    """What helps when a container did not come up."""
    with speaking():
        return _ROOTLESS if rootless(found.info()) else otherwise


def containers(found: DockerClient, root: Path, name: str, service: str, apart: bool = False) -> list[Container]:
    """The containers of a service of the project at ``root``, oldest first, stopped ones included.

    ``apart``: those that `docker compose run` made. Not those of another project that has the same name.
    """
    labels = {"label": [f"{_PROJECT}={name}", f"{_SERVICE}={service}", f"com.docker.compose.oneoff={apart}"]}
    with speaking():
        listed = found.containers.list(all=True, filters=labels, ignore_removed=True)
    return [_container(one) for one in sorted(listed, key=lambda one: one.attrs["Created"]) if _ours(one, root)]


def container(found: DockerClient, name: str) -> Container | None:
    """The container with that id; None when it is gone."""
    from docker.errors import NotFound

    with speaking():
        try:
            return _container(found.containers.get(name))
        except NotFound:
            return None


def network(found: DockerClient, name: str) -> bool:
    """Whether there is a network of that name."""
    with speaking():
        return name in [one.name for one in found.networks.list(names=[name])]


def last_lines(found: DockerClient, container: Container, count: int = 15) -> list[str]:
    """What a container said last."""
    with speaking():
        text: bytes = found.containers.get(container.id).logs(tail=count)
    return text.decode(errors="replace").splitlines()


def remove(found: DockerClient, container: Container, patience: int) -> None:
    """Remove a container, which has ``patience`` seconds to answer what it has; gone already is as good."""
    from docker.errors import NotFound

    with speaking():
        try:
            one = found.containers.get(container.id)
            if patience:
                one.stop(timeout=patience)
            one.remove(force=True)
        except NotFound:
            return


def _ours(one: Any, root: Path) -> bool:
    ours = (root / "docker").resolve()
    return Path(one.labels.get(_PLACE, ours)).resolve() == ours


def _container(one: Any) -> Container:
    networks = one.attrs["NetworkSettings"]["Networks"].values()
    inside = next((net["IPAddress"] for net in networks if net.get("IPAddress")), "")
    published = (one.attrs["NetworkSettings"]["Ports"] or {}).get("8000/tcp") or [{}]
    door = Address(published[0].get("HostIp") or "127.0.0.1", int(published[0].get("HostPort") or 0))
    return Container(
        one.id, one.attrs["Config"]["Image"], one.attrs["Image"], one.labels.get(_DEFINITION, ""),
        one.status == "running", one.attrs["RestartCount"], inside, door,
    )  # fmt: skip

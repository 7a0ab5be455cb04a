"""The swarm that this engine is in: whether services can be started from here, and on how many nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plantops.config import Config
from plantops.deploy import registry
from plantops.deploy.sdk import speaking
from plantops.errors import SetupError

if TYPE_CHECKING:
    from docker import DockerClient


def check(client: DockerClient, config: Config) -> None:
    """Raise SetupError where this engine manages no swarm, or other nodes could not run the API."""
    _check_manager(client)
    if not home(client):
        count = len(able(client))
        who = f"the swarm has {count} nodes" if count > 1 else "the API would run on another node"
        if not config.docker.registry:
            said = f"{who}, and docker.registry names no registry to get the image from"
            raise SetupError(said, "set docker.registry in config.yaml (docs/scale.md)")
        if config.serve.keep or config.serve.replay:
            said = f"serve.keep and serve.replay keep photos in this project's folder, and {who}"
            raise SetupError(said, "turn both off in config.yaml, or have this node alone take tasks")
    if config.docker.registry:
        registry.check(client, config)


def able(client: DockerClient) -> list[str]:
    """The ids of the nodes that take tasks."""
    with speaking():
        found = client.nodes.list()
    return [
        one.id for one in found
        if one.attrs["Spec"]["Availability"] == "active" and one.attrs["Status"]["State"] == "ready"
    ]  # fmt: skip


def home(client: DockerClient) -> str:
    """The id of this node, where it is the only one that takes tasks; empty where there are more."""
    with speaking():
        ours = str(client.info()["Swarm"]["NodeID"])
    return ours if able(client) in ([ours], []) else ""


def _check_manager(client: DockerClient) -> None:
    with speaking():
        swarm = client.info()["Swarm"]
    state = swarm.get("LocalNodeState", "inactive")
    if state == "locked":
        raise SetupError("this engine's swarm is locked", "docker swarm unlock")
    if state != "active":
        said = f"this engine is in no swarm (it says {state}), and deploy.backend is swarm"
        raise SetupError(said, "docker swarm init --advertise-addr 127.0.0.1 (an address of it that other nodes reach)")
    if not swarm.get("ControlAvailable"):
        why = f": {swarm['Error']}" if swarm.get("Error") else ""
        raise SetupError(f"this engine cannot manage its swarm{why}", "docker node promote NAME, on a manager")

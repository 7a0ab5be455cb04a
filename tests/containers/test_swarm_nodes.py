"""Two engines in two network namespaces of one kernel, one swarm: what a second node needs, what its death costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from api_client import free_port, until
from containers.engine import docker, need_engine, run
from containers.registry import need_registry, registry
from containers.swarms import serving, swarm, tasks
from containers.test_swarm import load_on, more, serve
from plantops.config import ServeConfig
from plantops.deploy.swarm import Swarm
from plantops.errors import SetupError

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
SPACE, NEAR, FAR = "plantops-node", "pltnear", "pltfar"
HERE, THERE = "10.213.7.1", "10.213.7.2"
INSIDE = ("nsenter", f"--net=/run/netns/{SPACE}")  # not `ip netns exec`: that hides the cgroups


@dataclass
class Node:
    """An engine in a network namespace of its own."""

    child: subprocess.Popen[bytes]
    socket: Path

    def docker(self, *words: str, check: bool = True) -> str:
        """What `docker WORDS` prints there."""
        return run("-H", f"unix://{self.socket}", *words, check=check).stdout.strip()

    @staticmethod
    def die() -> None:
        """No packet of it comes any more, not even one that ends a connection: as when somebody pulls the plug."""
        ip("link", "delete", NEAR)


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A second engine, reached over a pair of network devices."""
    need_engine()
    need_registry()
    if os.getuid() or not shutil.which("ip"):
        pytest.skip("no network namespaces here: that takes root and iproute2")
    place = tmp_path_factory.mktemp("node")
    ip("netns", "delete", SPACE, check=False)
    ip("netns", "add", SPACE)
    ip("link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", SPACE)
    ip("addr", "add", f"{HERE}/24", "dev", NEAR)
    ip("link", "set", NEAR, "up")
    for words in (("addr", "add", f"{THERE}/24", "dev", FAR), ("link", "set", FAR, "up"), ("link", "set", "lo", "up")):
        ip("-n", SPACE, *words)
    argv = [
        *INSIDE, "dockerd", "--data-root", place / "data", "--exec-root", place / "exec",
        "--pidfile", place / "pid", "-H", f"unix://{place}/docker.sock",
    ]  # fmt: skip
    with (place / "log").open("w") as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    node = Node(child, place / "docker.sock")
    try:
        words = ("version", "-f", "{{.Server.Version}}")
        until(lambda: node.docker(*words, check=False), 60, "the second engine's answer")
        yield node
    finally:
        left = node.docker("ps", "-aq", check=False).split() if child.poll() is None else []
        if left:
            node.docker("rm", "-f", *left, check=False)
        child.terminate()
        child.wait(60)
        ip("link", "delete", NEAR, check=False)
        ip("netns", "delete", SPACE, check=False)


@pytest.fixture
def two_nodes(other: Node, tmp_path: Path) -> Iterator[Swarm]:
    """A project that is served on both; each node's 127.0.0.1:PORT is a registry, of one folder."""
    port = free_port()
    with (
        registry(tmp_path / "registry", port=port) as host,
        registry(tmp_path / "registry", port=port, around=INSIDE),
        swarm(HERE),
    ):
        other.docker("swarm", "join", "--token", docker("swarm", "join-token", "-q", "worker"), f"{HERE}:2377")
        until(lambda: docker("node", "ls", "--format", "{{.Status}}").split() == ["Ready"] * 2, 60, "two nodes")
        try:
            with serving(tmp_path / "project") as backend:
                config = backend._config
                yield Swarm(replace(config, docker=replace(config.docker, registry=f"{host}/team")))
        finally:
            other.docker("swarm", "leave", "--force", check=False)


def there(other: Node, stack: Swarm) -> list[str]:
    """The service's containers on the other node."""
    return other.docker("ps", "-q", "--filter", f"name={stack._stack.service}.").split()


def test_two_nodes_serve_and_the_death_of_one_is_outlived(
    two_nodes: Swarm, other: Node, releases: dict[str, Path]
) -> None:
    stack = two_nodes
    bare = Swarm(replace(stack._config, docker=replace(stack._config.docker, registry=None)))
    with pytest.raises(SetupError, match=r"the swarm has 2 nodes, and docker\.registry names no registry"):
        bare.preflight()
    with pytest.raises(SetupError, match=r"serve\.keep and serve\.replay"):
        Swarm(replace(stack._config, serve=ServeConfig(keep=True))).preflight()
    stack.preflight()

    serve(stack, releases["one"])
    assert (len(tasks(stack)), len(there(other, stack))) == (1, 1)
    shown = "{{.Spec.TaskTemplate.ContainerSpec.Image}}"
    assert "@sha256:" in docker("service", "inspect", "-f", shown, stack._stack.service)
    with load_on(stack) as load:
        before = load.answers.copy()
        serve(stack, releases["two"])
        until(lambda: more(load, before, "two") or load.failures, what="the new release's answers")
    print(f"update on two nodes: {load.total} requests, {len(load.failures)} failed")
    assert load.failures == []

    with load_on(stack, each=2) as load:
        until(lambda: load.total > 100 or load.failures, what="answers of both nodes")
        before, began = load.total, time.monotonic()
        other.die()
        until(lambda: load.total > before + 200, 120, "answers without the dead node")
        until(lambda: len(tasks(stack)) == 2, 120, "the dead node's replica on this one")
        print(f"replaced {time.monotonic() - began:.1f} s after the node's death")
    print(f"a node's death: {load.total} requests, {len(load.failures)} failed: {load.failures}")
    assert len(load.failures) <= 8  # one request of each client: Load's clients give up on their first failure
    until(lambda: stack.agrees(releases["two"]), 60, "the backend's agreement")

"""The kubernetes backend with pods that are containers: of the image that was pushed, restricted as it says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from containers.conftest import forget_images, own_config
from containers.engine import docker, need_engine
from containers.registry import registry
from deploy.cluster import NAMESPACE
from deploy.kubelet import Node, Pod, kubeconfig
from plantops.clusterconfig import KubernetesConfig
from plantops.config import Config
from plantops.deploy.kubernetes import Kubernetes

pytestmark = pytest.mark.ci


class Engine(Node):
    """Pulls images and runs containers; of a pod's security the part that an engine knows."""

    def has(self, image: str) -> bool:
        return subprocess.run(["docker", "pull", "-q", image], capture_output=True, check=False).returncode == 0

    def argv(self, pod: Pod) -> list[str]:
        user, own = pod.spec["securityContext"], pod.container["securityContext"]
        assert (user["runAsNonRoot"], own["readOnlyRootFilesystem"]) == (True, True)
        flags = ["--read-only", f"--user={user['runAsUser']}:{user['runAsGroup']}", "--tmpfs=/tmp"]
        flags += [f"--cap-drop={one}" for one in own["capabilities"]["drop"]]
        flags += ["--security-opt=no-new-privileges", f"--memory={pod.container['resources']['limits']['memory'][:-1]}"]
        flags += [word for one in pod.variables for word in ("-e", one)]
        # On the host's network, so that each has an address of its own; what is given last holds.
        run = ["docker", "run", "--rm", f"--name={pod.name}", "--network=host", *flags, pod.container["image"]]
        return [*run, *pod.container.get("args", []), "--host", pod.address]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Engine]:
    need_engine()
    with Engine(tmp_path / "node", {}) as one:
        yield one
    for name in one.pods:  # ending `docker run` ends no container
        docker("rm", "-f", name, check=False)
    assert one.failure is None


@pytest.fixture
def config(tmp_path: Path, node: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """A project whose registry is a real one."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, node.api)))
    made = own_config(tmp_path / "project")
    scaler = made.root / "docker/kubernetes/autoscaler.yaml"
    scaler.write_text(scaler.read_text().replace("minReplicas: 2", "minReplicas: 1"))
    with registry(tmp_path / "registry") as host:
        yield replace(
            made,
            deploy=replace(made.deploy, backend="kubernetes", start_timeout_s=120),
            docker=replace(made.docker, registry=f"{host}/team"),
            kubernetes=KubernetesConfig("small", NAMESPACE),
        )
    forget_images(f"{host}/team/{made.docker.image}")
    forget_images(made.docker.image)


def test_a_release_is_built_pushed_pulled_by_its_digest_and_served(
    config: Config, node: Engine, releases: dict[str, Path]
) -> None:
    backend = Kubernetes(config)
    backend.preflight()
    said = [backend.build(releases[name], lambda _: None) for name in ("one", "two")]
    reference = said[0].rpartition("pushed as ")[2]
    assert reference.startswith(f"{config.docker.registry}/{config.docker.image}@sha256:")
    forget_images(f"{config.docker.registry}/{config.docker.image}")  # what serves is what the registry has
    for name in ("one", "two"):
        trial = backend.start(releases[name])
        assert backend.try_golden(trial) < 1e-4
        backend.switch(trial)
        backend.watch(1)
        backend.settle()
        now = backend.serving()
        assert now
        assert (now.release, backend.labelled(), backend.agrees(releases[name])) == (name, name, True)
    after = Kubernetes(config)
    after.up(releases["one"])  # nothing is built, nothing is pushed
    assert after.agrees(releases["one"])

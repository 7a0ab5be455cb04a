"""The kubernetes backend with pods that are containers: of the image that was pushed, restricted as it says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import plantops, sh
from containers.conftest import forget_images, own_config
from containers.engine import docker, need_engine
from containers.projects import copy, reseed
from containers.registry import registry
from deploy.cluster import NAMESPACE
from deploy.kubelet import Node, Pod, Way, kubeconfig
from plantops.config import Config, load
from plantops.deploy.kubernetes import Kubernetes
from plantops.sections import KubernetesConfig
from runs.cheap import edit, state

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


def test_a_run_a_rollback_and_the_end_as_typed(
    ready_for_docker: Path, tmp_path: Path, node: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project whose backend is a cluster: every command that asks what serves."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, node.api)))
    folder = copy(ready_for_docker, tmp_path / "project")
    name = load(folder).project
    with registry(tmp_path / "registry") as host, Way(node.api, f"{name}-api") as way:
        edit(folder / "config.yaml", "backend: compose", "backend: kubernetes")
        edit(folder / "config.yaml", "registry: null", f"registry: {host}/team")
        edit(folder / "config.yaml", 'context: ""', "context: small")
        edit(folder / "config.yaml", "namespace: default", f"namespace: {NAMESPACE}")
        edit(folder / "config.yaml", 'url: ""', f"url: http://localhost:{way.port}")
        edit(folder / "docker/kubernetes/autoscaler.yaml", "minReplicas: 2", "minReplicas: 1")
        sh("git", "commit", "-qam", "Serve from the cluster", cwd=folder)
        first = _released(folder)
        reseed(folder)
        sh("git", "commit", "-qam", "Another model", cwd=folder)
        second = _released(folder)
        assert first != second
        plantops("rollback", cwd=folder)
        assert state(folder)["answering"]["release"] == first
        said = plantops("verify", cwd=folder).stdout
        assert f"the image that serves is labelled {first}" in said
        assert plantops("predict", *map(str, sorted(folder.glob("data/raw/*/*/*.jpg"))[:3]), cwd=folder).stdout
        assert f"context small, namespace {NAMESPACE}" in plantops("doctor", cwd=folder).stdout
        assert f"healthy: {first}" in plantops("logs", "plant-disease-api", cwd=folder).stdout
        assert f"stopped the API in namespace {NAMESPACE} (release {first})" in plantops("down", cwd=folder).stdout
        forget_images(f"{host}/team/{name}")
    forget_images(name)


def _released(folder: Path) -> str:
    """Runs; the release that serves then."""
    plantops("run", cwd=folder)
    now = state(folder)
    assert (now["answering"]["status"], now["answering"]["release"]) == ("healthy", now["in_service"]["id"])
    return str(now["in_service"]["id"])

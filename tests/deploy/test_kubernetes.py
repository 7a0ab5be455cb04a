"""The kubernetes backend against a small API server whose pods are real workers: every request is a real one."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api_client import get, until
from conftest import ROOT, sh
from deploy.cluster import NAMESPACE
from deploy.kubelet import Node, Way, kubeconfig
from deploy.load import Load, of_tiny_models
from plantops import process
from plantops.behaviour import Figures
from plantops.config import ApiConfig, Config, DeployConfig, DockerConfig, ServeConfig
from plantops.deploy import probe
from plantops.deploy.kubernetes import Kubernetes
from plantops.deploy.kubernetes.pushed import Image, Pushed
from plantops.errors import SetupError, StepFailed
from plantops.keys import hash_of
from plantops.sections import KubernetesConfig

pytestmark = pytest.mark.ci

REGISTRY = "registry.example.org/team"
REFERENCES = {name: f"{REGISTRY}/leaves@sha256:{digit * 64}" for name, digit in (("one", "1"), ("two", "2"))}


@pytest.fixture
def node(tmp_path: Path, releases: dict[str, Path]) -> Iterator[Node]:
    """A cluster that has both images."""
    with Node(tmp_path / "node", {REFERENCES[name]: releases[name] for name in REFERENCES}) as one:
        yield one
    assert one.failure is None


@pytest.fixture
def config(tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A project whose images are pushed, one pod each, and a kubeconfig that leads to the node."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, node.api)))
    root = tmp_path / ("a-project-in-a-deep-folder-" * 5)
    shutil.copytree(ROOT / "docker" / "kubernetes", root / "docker" / "kubernetes")
    edit(root, "autoscaler.yaml", "minReplicas: 2", "minReplicas: 1")
    made = Config(
        root=root, file=root / "config.yaml", project="Leaves of 2026",
        deploy=DeployConfig(backend="kubernetes", start_timeout_s=90), serve=ServeConfig(threads=1),
        docker=DockerConfig(registry=REGISTRY), kubernetes=KubernetesConfig("small", NAMESPACE),
    )  # fmt: skip
    pushed = Pushed(made.state / "kubernetes" / "images.json", REGISTRY)
    for name, reference in REFERENCES.items():
        pushed.add(name, Image(reference, f"code of {name}"))
    return made


@pytest.fixture
def backend(config: Config) -> Kubernetes:
    return Kubernetes(config)


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / "docker" / "kubernetes" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def exchange(backend: Kubernetes, release: Path) -> None:
    trial = backend.start(release)
    assert backend.try_golden(trial) < 1e-4
    backend.switch(trial)
    backend.settle()


def starts(node: Node) -> list[str]:
    """The releases that stand, oldest first."""
    return [one["metadata"]["labels"]["org.plantops.release"] for one in node.objects.all("apps/v1", "deployments")]


def answers(backend: Kubernetes) -> str | None:
    now = backend.serving()
    assert now
    return now.release


def test_a_first_release_is_tried_and_then_serves(backend: Kubernetes, node: Node, releases: dict[str, Path]) -> None:
    assert backend.serving() is None
    trial = backend.start(releases["one"])
    assert backend.try_golden(trial) < 1e-4
    assert node.objects.all("v1", "services", "app.kubernetes.io/instance=leaves-of-2026-api") != []
    assert backend.serving() is None  # nobody is led to it yet
    backend.switch(trial)
    assert not backend.agrees(releases["one"])  # it may still go back
    assert backend.settle() == []
    now = backend.serving()
    assert now
    assert (now.release, now.status, now.url) == ("one", "healthy", f"http://leaves-of-2026-api.{NAMESPACE}:8000")
    assert (backend.labelled(), backend.serving_code(), backend.built()) == ("one", "code of one", {"one", "two"})
    assert backend.agrees(releases["one"])
    assert not backend.agrees(releases["two"])
    assert "model_info" in backend.metrics()


def test_a_release_changes_under_load(
    backend: Kubernetes, config: Config, node: Node, releases: dict[str, Path]
) -> None:
    edit(config.root, "autoscaler.yaml", "minReplicas: 1", "minReplicas: 2")
    exchange(backend, releases["one"])
    with Way(node.api, "leaves-of-2026-api") as way, Load(way.port, of_tiny_models) as load:
        until(lambda: load.failures or len(load.seen("fresh")), 30, "an answer")
        exchange(backend, releases["two"])
        load.answers.clear()
        until(lambda: load.failures or all("two" in load.seen(kind) for kind in ("fresh", "busy", "idle")), 60, "two")
    assert load.failures == []
    answered = sum(count for (_, release), count in load.answers.items() if release == "two")
    assert Figures.of(backend.metrics()).photos >= answered  # of both pods
    assert starts(node) == ["two"]
    until(lambda: len(node.running()) == 2, 30, "the old pods ending")


def test_going_back_is_the_same_patch(backend: Kubernetes, node: Node, releases: dict[str, Path]) -> None:
    exchange(backend, releases["one"])
    old = set(node.running())
    trial = backend.start(releases["two"])
    backend.switch(trial)
    assert answers(backend) == "two"
    node.objects.said.clear()
    backend.back()
    assert answers(backend) == "one"
    assert ("PATCH", "services/leaves-of-2026-api") in node.objects.said
    assert not [one for one in node.objects.said if one[0] == "PATCH" and "deployments" in one[1]]
    assert starts(node) == ["one"]
    assert old <= set(node.running())  # the very pods that served before
    assert backend.agrees(releases["one"])


def test_wrong_golden_answers_get_no_traffic(backend: Kubernetes, node: Node, releases: dict[str, Path]) -> None:
    exchange(backend, releases["one"])
    node.images[REFERENCES["two"]] = releases["one"]  # the image holds another model than the release
    trial = backend.start(releases["two"])
    with pytest.raises(StepFailed, match=r"golden photo .* away from the checkpoint"):
        backend.try_golden(trial)
    backend.abandon(trial)
    assert (answers(backend), starts(node)) == ("one", ["one"])


def test_an_image_that_no_node_gets_is_told_and_leaves_nothing(
    backend: Kubernetes, node: Node, releases: dict[str, Path]
) -> None:
    exchange(backend, releases["one"])
    del node.images[REFERENCES["two"]]
    with pytest.raises(StepFailed, match="does not start: ImagePullBackOff: its image cannot be had") as caught:
        backend.start(releases["two"])
    assert REFERENCES["two"] in caught.value.message
    assert (answers(backend), starts(node)) == ("one", ["one"])


def test_a_pod_that_ends_again_and_again_is_told_by_its_last_words(
    backend: Kubernetes, config: Config, node: Node, releases: dict[str, Path]
) -> None:
    edit(config.root, "deployment.yaml", "        - name: api\n", "        - name: api\n          args: [--nonsense]\n")
    with pytest.raises(
        StepFailed,
        match=r"(?s)does not start: .*(CrashLoopBackOff|it ended 2 times).*unrecognized arguments: --nonsense",
    ):
        backend.start(releases["one"])
    assert starts(node) == []
    assert node.objects.all("networking.k8s.io/v1", "networkpolicies") == []  # where nothing served, nothing stays


def test_a_quota_is_told(backend: Kubernetes, node: Node, releases: dict[str, Path]) -> None:
    exchange(backend, releases["one"])
    node.quota = 1
    with pytest.raises(StepFailed, match=r"makes no pod of leaves-of-2026-api-.*: .*exceeded quota: small"):
        backend.start(releases["two"])
    assert (answers(backend), starts(node)) == ("one", ["one"])


def test_pods_that_are_not_ready_in_time(config: Config, node: Node, releases: dict[str, Path]) -> None:
    node.full = True
    backend = Kubernetes(replace(config, deploy=replace(config.deploy, start_timeout_s=1)))
    said = (
        r"(?s)0 of 1 pods of leaves-of-2026-api-.* were ready within 1 s.*: Pending.*no node takes it: Insufficient cpu"
    )
    with pytest.raises(StepFailed, match=said):
        backend.start(releases["one"])
    assert starts(node) == []


@pytest.mark.parametrize("switched", [False, True])
def test_what_a_killed_run_left_is_put_right(
    switched: bool, backend: Kubernetes, config: Config, node: Node, releases: dict[str, Path]
) -> None:
    exchange(backend, releases["one"])
    old = set(node.running())
    trial = backend.start(releases["two"])
    if switched:
        backend.switch(trial)
    after = Kubernetes(config)  # of another process: it knows nothing
    assert not after.agrees(releases["one"])
    after.up(releases["one"])
    assert after.agrees(releases["one"])
    assert (answers(after), starts(node)) == ("one", ["one"])
    assert old <= set(node.running())


def test_a_pod_that_dies_under_watch(backend: Kubernetes, node: Node, releases: dict[str, Path]) -> None:
    exchange(backend, releases["one"])
    backend.watch(0.5)
    (pid,) = node.running()
    looked = threading.Event()
    killer = threading.Thread(target=lambda: looked.wait(30) and os.kill(pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(StepFailed, match=r"died under watch; it said last:|answers as None"):
        backend.watch(20, looked.set)
    killer.join()


def test_keys_are_asked_for_and_the_tower_has_one(config: Config, node: Node, releases: dict[str, Path]) -> None:
    backend = Kubernetes(replace(config, api=ApiConfig(keys=(hash_of("somebody's"),))))
    exchange(backend, releases["one"])
    with Way(node.api, "leaves-of-2026-api") as way:
        assert get(way.port, "/classes").status == 401
        assert probe.ask(probe.Address(port=way.port, key="somebody's"), "/classes").status == 200


def test_settings_that_changed_are_brought_into_service(
    backend: Kubernetes, config: Config, node: Node, releases: dict[str, Path]
) -> None:
    exchange(backend, releases["one"])
    after = Kubernetes(replace(config, api=ApiConfig(keys=(hash_of("somebody's"),))))
    assert not after.agrees(releases["one"])
    after.up(releases["one"])
    assert after.agrees(releases["one"])
    with Way(node.api, "leaves-of-2026-api") as way:
        assert get(way.port, "/classes").status == 401
    edit(config.root, "deployment.yaml", "memory: 2Gi", "memory: 3Gi")
    assert not Kubernetes(after._config).agrees(releases["one"])


def test_names_of_the_service_are_answered(backend: Kubernetes, node: Node, releases: dict[str, Path]) -> None:
    exchange(backend, releases["one"])
    with Way(node.api, "leaves-of-2026-api") as way:
        for name, status in ((f"leaves-of-2026-api.{NAMESPACE}.svc.cluster.local", 200), ("evil.example.org", 421)):
            assert probe.ask(probe.Address(port=way.port, name=name), "/health").status == status


def test_a_public_url_is_what_proves_the_release(config: Config, node: Node, releases: dict[str, Path]) -> None:
    with Way(node.api, "leaves-of-2026-api") as way:
        url = f"http://localhost:{way.port}"
        backend = Kubernetes(replace(config, kubernetes=replace(config.kubernetes, url=url)))
        exchange(backend, releases["one"])
        assert backend.url == url
        assert answers(backend) == "one"


def test_kubectl_applies_what_is_written_down(
    backend: Kubernetes, config: Config, node: Node, releases: dict[str, Path]
) -> None:
    exchange(backend, releases["one"])

    def specs() -> dict[str, object]:
        held = [("apps/v1", "deployments"), ("v1", "services"), ("autoscaling/v2", "horizontalpodautoscalers")]
        return {
            f"{kind}/{one['metadata']['name']}": one["spec"]
            for api, kind in held
            for one in node.objects.all(api, kind)
        }

    before = specs()
    by_hand = ("apply", "--server-side", "--force-conflicts", "--validate=false", "-k", ".plantops/kubernetes")
    said = sh("kubectl", "--context=small", *by_hand, cwd=config.root).stdout
    assert "deployment.apps/leaves-of-2026-api-" in said
    assert "horizontalpodautoscaler.autoscaling/leaves-of-2026-api serverside-applied" in said
    assert specs() == before
    backend.up(releases["two"])
    written = json.loads((config.state / "kubernetes" / "release.json").read_text())["items"]
    assert written[0]["metadata"]["labels"]["org.plantops.release"] == "two"


def test_logs_of_every_pod(backend: Kubernetes, config: Config, node: Node, releases: dict[str, Path]) -> None:
    exchange(backend, releases["one"])
    said = sh(*backend.logs_argv("plant-disease-api", follow=False), cwd=config.root).stdout
    assert "healthy: one" in said
    with pytest.raises(SetupError, match="there is no service grafana in the cluster"):
        backend.logs_argv("grafana", follow=False)


def test_down_leaves_nothing(backend: Kubernetes, node: Node, releases: dict[str, Path]) -> None:
    assert backend.down() == []
    exchange(backend, releases["one"])
    assert backend.down() == [f"the API in namespace {NAMESPACE} (release one)"]
    assert backend.serving() is None
    until(lambda: not node.running(), 60, "the pods ending")
    kinds = (("apps/v1", "deployments"), ("v1", "services"), ("policy/v1", "poddisruptionbudgets"))
    left = [kind for api, kind in kinds if node.objects.all(api, kind)]
    assert left == []


def test_what_of_the_cluster_is_missing_is_said(
    config: Config, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Kubernetes(config).access().endswith(f"cluster v1.37.0 of context small, namespace {NAMESPACE}")

    def refusal(**changes: str) -> SetupError:
        with pytest.raises(SetupError) as caught:
            Kubernetes(replace(config, kubernetes=replace(config.kubernetes, **changes))).access()
        return caught.value

    assert "kubernetes.context is not set" in refusal(context="").message
    unnamed = Kubernetes(replace(config, kubernetes=replace(config.kubernetes, context="")))
    with pytest.raises(SetupError, match=r"kubernetes\.context is not set"):
        unnamed.down()  # nor is anything done to the current one
    assert "none-such" in refusal(context="none-such").message
    assert refusal(namespace="elsewhere").hint == "kubectl create namespace elsewhere"
    for changes, says in (
        ({"docker": DockerConfig()}, "docker.registry names no registry"),
        ({"serve": ServeConfig(keep=True)}, "serve.keep and serve.replay keep photos"),
    ):
        with pytest.raises(SetupError, match=says):
            Kubernetes(replace(config, **changes)).preflight()  # type: ignore[arg-type]
    node.api.denied.add(("patch", "services"))
    node.api.denied.add(("patch", "horizontalpodautoscalers"))  # which the switch takes, too
    said = refusal().message
    assert "you may not do this in namespace leaves: patch services, patch horizontalpodautoscalers.autoscaling" in said
    node.api.denied.clear()
    for labels in ({}, {"app.kubernetes.io/managed-by": "Helm"}):
        meta = {"name": "leaves-of-2026-api", "labels": labels}
        node.objects.put("v1", "services", {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {}})
        assert "holds a Service leaves-of-2026-api that is not plantops'" in refusal().message
        assert Kubernetes(config).down() == []
    assert node.objects.all("v1", "services") != []
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, node.api, token="wrong-token")))
    wrong = refusal()
    assert "401" in wrong.message
    assert "wrong-token" not in wrong.message + wrong.hint
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, node.api, port=1)))
    assert "context small: the cluster cannot be reached: dial tcp 127.0.0.1:1" in refusal().message


def test_kubectl_ends_with_the_backend_that_started_it(backend: Kubernetes, config: Config) -> None:
    """Watch makes a new one every time it looks."""
    gc.collect()
    gc.disable()  # none may wait for the collector of circles
    try:
        for _ in range(3):
            assert Kubernetes(config).serving() is None
        until(lambda: not process.working_in(config.state / "kubernetes", "kubectl"), what="kubectl ending")
    finally:
        gc.enable()
    assert list((config.state / "kubernetes").glob("*.sock")) == []


def test_nothing_listens_for_others_and_kubectl_ends_with_us(config: Config, node: Node) -> None:
    script = (
        "import sys, time; from pathlib import Path; from plantops.sections import KubernetesConfig\n"
        "from plantops.deploy.kubernetes.kubectl import Kubectl\n"
        "here = Path(sys.argv[1])\n"
        "held = Kubectl(here, KubernetesConfig('small', 'leaves'), here / 'doors')\n"
        "print(held.door(), flush=True)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(config.root)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    door = Path(child.stdout.readline().strip())
    assert door.parent.stat().st_mode & 0o777 == 0o700
    assert process.working_in(config.root / "doors", "kubectl") != []
    child.kill()
    child.wait()
    until(lambda: not process.working_in(config.root / "doors", "kubectl"), what="kubectl ending")
    until(lambda: not door.exists(), what="its socket going")

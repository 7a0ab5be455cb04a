"""What is applied to a cluster: by the published schemas, by kubectl's own Kustomize, by what each object is for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from conftest import ROOT
from plantops.deploy.kubernetes.kubectl import Kubectl, Object
from plantops.deploy.kubernetes.manifests import Manifests, Start, app_of
from plantops.errors import SetupError
from plantops.sections import KubernetesConfig

SHIPPED = ROOT / "docker" / "kubernetes"
START = Start("3f9c2a", "abc1234-0123456789ab", "registry.example.org/team/leaves@sha256:" + "1" * 64, "c0de")
SETTINGS = {"PLANTOPS_SERVE_THREADS": "2", "PLANTOPS_SERVE_KEYS": ""}
OLDEST, NEWEST = "1.25", "1.37"


@pytest.fixture
def base(tmp_path: Path) -> list[Object]:
    """The shipped folder, as kubectl renders it."""
    return Kubectl(tmp_path, KubernetesConfig(), tmp_path).render(SHIPPED)


@pytest.fixture
def manifests(base: list[Object]) -> Manifests:
    return Manifests("leaves-api", base)


def kinds(objects: list[Object]) -> list[str]:
    return [one["kind"] for one in objects]


def pod(deployment: Object) -> dict[str, Any]:
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", [OLDEST, "1.31", NEWEST])
def test_what_ships_and_what_is_made_of_it_is_valid(version: str, base: list[Object], manifests: Manifests) -> None:
    for one in (*base, *manifests.release(START, 3, SETTINGS), *manifests.front(START.id)):
        assert kubernetes_validate.validate(one, version, strict=True) == version


def test_the_schemas_refuse_an_unknown_field(manifests: Manifests) -> None:
    deployment = manifests.release(START, 1, SETTINGS)[0]
    pod(deployment)["containers"][0]["readOnly"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnly"):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


def test_a_pod_may_do_nothing_but_answer(manifests: Manifests) -> None:
    deployment = manifests.release(START, 1, SETTINGS)[0]
    spec, container = pod(deployment), pod(deployment)["containers"][0]
    assert (spec["securityContext"]["runAsNonRoot"], spec["automountServiceAccountToken"]) == (True, False)
    assert spec["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["resources"]["limits"].keys() == {"memory"}
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/health/ready", "readiness": "/health/ready", "liveness": "/health/live"}
    network = next(one for one in manifests.front(START.id) if one["kind"] == "NetworkPolicy")
    assert network["spec"]["egress"] == []
    assert network["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8000}]}]


def test_a_start_has_its_own_deployment_and_service(manifests: Manifests) -> None:
    deployment, trial = manifests.release(START, 3, SETTINGS)
    selector = {"app.kubernetes.io/instance": "leaves-api", "org.plantops.start": START.id}
    assert deployment["metadata"]["name"] == trial["metadata"]["name"] == f"leaves-api-{START.id}"
    assert deployment["spec"]["selector"] == {"matchLabels": selector}
    assert trial["spec"]["selector"] == selector
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert (deployment["spec"]["replicas"], pod(deployment)["containers"][0]["image"]) == (3, START.image)
    named = {one["name"]: one["value"] for one in pod(deployment)["containers"][0]["env"]}
    assert named == SETTINGS


def test_what_stands_in_front_leads_to_one_start(manifests: Manifests) -> None:
    front = manifests.front(START.id)
    assert kinds(front)[0] == "Service"  # the switch itself
    found = {one["kind"]: one for one in front}
    assert {one["metadata"]["name"] for one in front} == {"leaves-api"}
    selector = manifests.selector(START.id)
    assert found["Service"]["spec"]["selector"] == selector
    assert found["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": selector}
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == f"leaves-api-{START.id}"
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/instance": "leaves-api"}
    other = manifests.front("000000")[0]
    assert other["spec"]["selector"] != found["Service"]["spec"]["selector"]  # the base was not written into


def test_what_a_user_adds_is_applied_under_its_own_name_and_volumes_stay(tmp_path: Path) -> None:
    folder = tmp_path / "kubernetes"
    shutil.copytree(SHIPPED, folder)
    file = folder / "kustomization.yaml"
    file.write_text(file.read_text() + "  - more.yaml\n")
    (folder / "more.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine}\ndata: {key: value}\n---\n"
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: kept}\n"
        "spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}\n"
    )
    manifests = Manifests("leaves-api", Kubectl(tmp_path, KubernetesConfig(), tmp_path).render(folder))
    front = {one["kind"]: one for one in manifests.front(START.id)}
    assert front["ConfigMap"]["metadata"]["name"] == "mine"
    assert front["ConfigMap"]["data"] == {"key": "value"}
    assert "app.kubernetes.io/managed-by" in front["ConfigMap"]["metadata"]["labels"]
    gone = [kind for _, kind, _ in manifests.passing]
    assert "ConfigMap" in gone
    assert "PersistentVolumeClaim" not in gone


@pytest.mark.parametrize(
    ("project", "app"),
    [("Leaves of 2026", "leaves-of-2026-api"), ("2026 leaves", "p-2026-leaves-api"), ("葉", "plantops-api")],
)
def test_what_a_project_is_called_in_the_cluster(project: str, app: str) -> None:
    assert app_of(project) == app


def test_the_pods_that_a_release_begins_with(base: list[Object]) -> None:
    assert (Manifests("a", base).fewest, Manifests("a", base).scaled) == (2, True)
    alone = [one for one in base if one["kind"] != "HorizontalPodAutoscaler"]
    next(one for one in alone if one["kind"] == "Deployment")["spec"]["replicas"] = 5
    assert (Manifests("a", alone).fewest, Manifests("a", alone).scaled) == (5, False)


def test_a_folder_that_cannot_be_filled_in_is_refused(tmp_path: Path, base: list[Object]) -> None:
    kubectl = Kubectl(tmp_path, KubernetesConfig(), tmp_path)
    with pytest.raises(SetupError, match=r"kustomization.yaml is missing"):
        kubectl.render(tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [none.yaml]\n")
    with pytest.raises(SetupError, match=r"none\.yaml"):
        kubectl.render(tmp_path)
    with pytest.raises(SetupError, match="holds 0 objects Deployment"):
        Manifests("a", [one for one in base if one["kind"] != "Deployment"])
    with pytest.raises(SetupError, match="holds no Service"):
        Manifests("a", [one for one in base if one["kind"] != "Service"])

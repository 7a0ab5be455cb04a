"""What is applied: the objects of docker/kubernetes with one start of a release in them. Values in, values out."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plantops.deploy.kubernetes.api import SERVICE
from plantops.deploy.kubernetes.kubectl import Object
from plantops.errors import SetupError

RELEASE, START, CODE = "org.plantops.release", "org.plantops.start", "org.plantops.serving-code"
FORM = "org.plantops.form"
INSTANCE, MANAGED = "app.kubernetes.io/instance", "app.kubernetes.io/managed-by"
OURS = "plantops"  # the value of MANAGED: Helm and others write their own name there
CONTAINER = "api"


@dataclass(frozen=True)
class Start:
    """One start of a release, told from others by ``id``: the ``image`` by digest, the digest of the ``code`` in it."""

    id: str
    release: str
    image: str
    code: str


class Manifests:
    """The objects of one project, called ``app``; ``base``: as docker/kubernetes renders.

    Raises SetupError where that lacks what is to be filled in.
    """

    def __init__(self, app: str, base: Sequence[Object]) -> None:
        self.app = app
        self._deployment = _only(base, "Deployment")
        self._rest = [one for one in base if one is not self._deployment]
        self._base_name = self._deployment["metadata"]["name"]
        containers = self._deployment["spec"]["template"]["spec"]["containers"]
        if CONTAINER not in [one["name"] for one in containers]:
            raise SetupError(f"docker/kubernetes: its Deployment has no container {CONTAINER}", "plantops upgrade")
        self._service = next((one for one in self._rest if self._is_ours(one, "Service")), None)
        if self._service is None:
            raise SetupError(f"docker/kubernetes: it holds no Service {self._base_name}", "plantops upgrade")

    @property
    def all(self) -> dict[str, str]:
        """The labels that all objects have."""
        return {INSTANCE: self.app, MANAGED: OURS}

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """apiVersion and kind of all that is applied."""
        return list(dict.fromkeys((one["apiVersion"], one["kind"]) for one in (self._deployment, *self._rest)))

    @property
    def port(self) -> int:
        """Of the Service."""
        assert self._service
        return int(self._service["spec"]["ports"][0]["port"])

    @property
    def inside(self) -> int:
        """The port of a pod."""
        containers = self._deployment["spec"]["template"]["spec"]["containers"]
        return int(next(one["ports"][0]["containerPort"] for one in containers if one["name"] == CONTAINER))

    @property
    def fewest(self) -> int:
        """Pods that a release begins with."""
        scaler = next((one for one in self._rest if self._is_ours(one, "HorizontalPodAutoscaler")), None)
        if scaler:
            return int(scaler["spec"].get("minReplicas", 1))
        return int(self._deployment["spec"].get("replicas", 1))

    @property
    def scaled(self) -> bool:
        """Whether an autoscaler decides how many pods there are."""
        return any(self._is_ours(one, "HorizontalPodAutoscaler") for one in self._rest)

    @property
    def passing(self) -> list[tuple[str, str, str]]:
        """apiVersion, kind and name of all in front of the pods that may go with them: volumes stay."""
        gone = (one for one in self._rest if one["kind"] != "PersistentVolumeClaim")
        return [(one["apiVersion"], one["kind"], self._named(one)) for one in gone]

    def name(self, start: str) -> str:
        """Of the Deployment and the Service of one start."""
        return f"{self.app}-{start}"

    def selector(self, start: str) -> dict[str, str]:
        """The labels that the pods of one start have, and no others."""
        return {INSTANCE: self.app, START: start}

    def form(self, settings: Mapping[str, str]) -> str:
        """Digest of docker/kubernetes and the settings: a start of another form is to be started anew."""
        held = json.dumps([self._deployment, self._rest, dict(settings)], sort_keys=True)
        return hashlib.sha256(held.encode()).hexdigest()[:16]

    def release(self, start: Start, pods: int, settings: Mapping[str, str]) -> list[Object]:
        """A release without traffic: its Deployment, and a Service to try it by."""
        labels = {**self.all, START: start.id, RELEASE: start.release}
        made = copy.deepcopy(self._deployment)
        self._label(made, labels, self.name(start.id))
        made["metadata"].setdefault("annotations", {}).update({CODE: start.code, FORM: self.form(settings)})
        spec, template = made["spec"], made["spec"]["template"]
        spec["replicas"] = pods
        spec["selector"] = {"matchLabels": self.selector(start.id)}
        template["metadata"].setdefault("labels", {}).update(labels)
        container = next(one for one in template["spec"]["containers"] if one["name"] == CONTAINER)
        container["image"] = start.image
        own = [one for one in container.get("env", []) if one["name"] not in settings]
        container["env"] = [*own, *({"name": name, "value": value} for name, value in settings.items())]
        return [made, self._trial(start.id, labels)]

    def front(self, start: str) -> list[Object]:
        """What stands in front of the pods, the Service first: all of it leads to one start."""
        made = copy.deepcopy(sorted(self._rest, key=lambda one: not self._is_ours(one, "Service")))
        selector = self.selector(start)
        for one in made:
            ours = one["metadata"]["name"] == self._base_name
            self._label(one, self.all, self._named(one))
            if not ours:
                continue
            spec = one.get("spec", {})
            match one["kind"]:
                case "Service":
                    spec["selector"] = selector
                case "HorizontalPodAutoscaler":
                    spec["scaleTargetRef"]["name"] = self.name(start)
                case "PodDisruptionBudget":
                    spec["selector"] = {"matchLabels": selector}
                case "NetworkPolicy":
                    spec["podSelector"] = {"matchLabels": {INSTANCE: self.app}}
        return made

    def fences(self) -> list[Object]:
        """The part of it that holds for pods without traffic, too."""
        return [one for one in self.front("") if one["kind"] == "NetworkPolicy"]

    def _trial(self, start: str, labels: Mapping[str, str]) -> Object:
        assert self._service
        ports = [{key: one[key] for key in one if key != "nodePort"} for one in self._service["spec"]["ports"]]
        return {
            "apiVersion": SERVICE[0],
            "kind": SERVICE[1],
            "metadata": {"name": self.name(start), "labels": dict(labels)},
            "spec": {"selector": self.selector(start), "ports": ports},
        }

    def _label(self, one: Object, labels: Mapping[str, str], name: str) -> None:
        one["metadata"]["name"] = name
        one["metadata"].setdefault("labels", {}).update(labels)
        one["metadata"].pop("namespace", None)

    def _named(self, one: Object) -> str:
        name: str = one["metadata"]["name"]
        return self.app if name == self._base_name else name

    def _is_ours(self, one: Object, kind: str) -> bool:
        return bool(one["kind"] == kind and one["metadata"]["name"] == self._base_name)


def app_of(project: str) -> str:
    """What a project's objects are called: a name of a Service begins with a letter (RFC 1035)."""
    name = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-")[:40] or "plantops"
    return f"{'' if name[0].isalpha() else 'p-'}{name}-api"


def _only(base: Sequence[Object], kind: str) -> Object:
    found = [one for one in base if one["kind"] == kind]
    if len(found) != 1:
        raise SetupError(f"docker/kubernetes holds {len(found)} objects {kind}; one is filled in", "plantops upgrade")
    return found[0]


def image_of(deployment: Object) -> str:
    """What the pods of a Deployment run."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next((str(one["image"]) for one in containers if one["name"] == CONTAINER), "")

"""The API server, for one namespace: objects as plain values. (kubernetes.io/docs/reference/using-api)"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from plantops.deploy.address import Address
from plantops.deploy.kubernetes.kubectl import Kubectl, Object
from plantops.deploy.probe import Connection
from plantops.errors import StepFailed

Kind = tuple[str, str]  # apiVersion, kind
DEPLOYMENT: Kind = ("apps/v1", "Deployment")
SERVICE: Kind = ("v1", "Service")
POD: Kind = ("v1", "Pod")
SLICE: Kind = ("discovery.k8s.io/v1", "EndpointSlice")
_REVIEW: Kind = ("authorization.k8s.io/v1", "SelfSubjectAccessReview")
MANAGER = "plantops"
_JSON, _APPLY = "application/json", "application/apply-patch+yaml"
_PATIENCE_S = 30.0


class Forbidden(StepFailed):
    """The cluster knows us, and does not let us."""


class NotThere(StepFailed):
    """There is no such object."""


@dataclass(frozen=True)
class _Plural:
    """A kind as paths name it."""

    name: str
    namespaced: bool


class Cluster:
    """What one namespace holds, asked and told through `kubectl proxy`."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._plurals: dict[Kind, _Plural] = {}

    def get(self, kind: Kind, name: str) -> Object | None:
        """An object; None when there is none of that name."""
        try:
            found: Object = self._ask("GET", self._path(kind, name))
        except NotThere:
            return None
        return found

    def find(self, kind: Kind, labels: Mapping[str, str]) -> list[Object]:
        """The objects with these labels, oldest first."""
        selector = urlencode({"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())})
        found: list[Object] = self._ask("GET", f"{self._path(kind)}?{selector}")["items"]
        return sorted(found, key=lambda one: (one["metadata"].get("creationTimestamp", ""), one["metadata"]["name"]))

    def apply(self, one: Object) -> Object:
        """Make it so, as `kubectl apply --server-side --force-conflicts` does. Raises StepFailed when it is refused."""
        how = urlencode({"fieldManager": MANAGER, "force": "true"})
        path = self._path((one["apiVersion"], one["kind"]), one["metadata"]["name"])
        made: Object = self._ask("PATCH", f"{path}?{how}", one, _APPLY)
        return made

    def delete(self, kind: Kind, name: str) -> bool:
        """Remove it and what it owns, in the background; whether it was there."""
        try:
            self._ask("DELETE", self._path(kind, name), {"propagationPolicy": "Background"})
        except NotThere:
            return False
        return True

    def last_lines(self, pod: str, before: bool = False, count: int = 15) -> list[str]:
        """What a pod said last; ``before``: before it was started again. Empty where it said nothing yet."""
        how = urlencode({"tailLines": count, "container": "api", **({"previous": "true"} if before else {})})
        try:
            text = self._send("GET", f"{self._path(POD, pod)}/log?{how}")
        except StepFailed:  # it has not begun, or its node is gone: what went wrong is said by the caller
            return []
        return text.decode(errors="replace").splitlines()

    def plural(self, kind: Kind) -> str:
        """A kind as `may` takes it. Raises StepFailed where the cluster has none that is of a namespace."""
        group = kind[0].rpartition("/")[0]
        return f"{self._known(kind).name}{group and f'.{group}'}"

    def may(self, verb: str, kind: str) -> bool:
        """Whether we may do that here; ``kind`` in the plural, with its group: `deployments.apps`, `pods/log`."""
        named, _, group = kind.partition(".")
        resource, _, inner = named.partition("/")
        what = {"namespace": self._namespace, "verb": verb, "group": group, "resource": resource, "subresource": inner}
        asked = {"apiVersion": _REVIEW[0], "kind": _REVIEW[1], "spec": {"resourceAttributes": what}}
        answer = self._ask("POST", f"/apis/{_REVIEW[0]}/selfsubjectaccessreviews", asked)
        return bool(answer["status"]["allowed"])

    def lacks_namespace(self) -> bool:
        """Whether there is none of that name; False where we may not know."""
        try:
            self._ask("GET", f"/api/v1/namespaces/{self._namespace}")
        except NotThere:
            return True
        except Forbidden:
            return False
        return False

    def version(self) -> str:
        """Of the API server."""
        return str(self._ask("GET", "/version")["gitVersion"])

    def through(self, kind: str, name: str, port: int, key: str = "") -> Address:
        """Where a Service (`services`) or a pod (`pods`) answers: the API server passes requests on."""
        base = f"/api/v1/namespaces/{self._namespace}/{kind}/{name}:{port}/proxy"
        called = f"{kind}/{name} of namespace {self._namespace}"
        return Address(socket=self._kubectl.door(), key=key, base=base, called=called)

    def _path(self, kind: Kind, name: str = "") -> str:
        tail = f"/{quote(name)}" if name else ""
        return f"{_root(kind[0])}/namespaces/{self._namespace}/{self._known(kind).name}{tail}"

    def _known(self, kind: Kind) -> _Plural:
        plural = self._plurals.get(kind) or self._plurals.setdefault(kind, self._discover(kind))
        if not plural.namespaced:
            raise StepFailed(
                f"docker/kubernetes holds a {kind[1]}, which is of no namespace", "kubectl apply it by hand, once"
            )
        return plural

    def _discover(self, kind: Kind) -> _Plural:
        try:
            known = self._ask("GET", _root(kind[0]))["resources"]
        except NotThere:
            known = []
        for one in known:
            if one["kind"] == kind[1] and "/" not in one["name"]:
                return _Plural(one["name"], one["namespaced"])
        raise StepFailed(f"this cluster knows no {kind[1]} of {kind[0]}", "kubectl api-resources")

    def _ask(self, method: str, path: str, body: Any = None, kind: str = _JSON) -> Any:
        return json.loads(self._send(method, path, body, kind))

    def _send(self, method: str, path: str, body: Any = None, kind: str = _JSON) -> bytes:
        """Raises NotThere, or StepFailed with what the API server says."""
        connection = Connection(Address(socket=self._kubectl.door()), _PATIENCE_S)
        sent = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, sent, {"Content-Type": kind, "Host": "localhost"})
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = f"no answer from the cluster: {type(error).__name__}: {error}"
            raise StepFailed(why, "plantops doctor") from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise _refusal(answer.status, said, f"{method} {path.partition('?')[0]}")
        return said


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _refusal(status: int, body: bytes, asked: str) -> StepFailed:
    """What the API server says in a `Status`. What is none, kubectl says in its place."""
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        said = body.decode(errors="replace").strip()[:300]
        return StepFailed(f"the cluster cannot be reached: {said}", "plantops doctor")
    message = f"the cluster answered {status} to {asked}: {said}"
    if status == 404:
        return NotThere(message, "kubectl api-resources")
    if status == 403:
        return Forbidden(message, "kubectl auth can-i --list")
    return StepFailed(message, "plantops doctor")

"""A small API server: keeps objects and answers as the real one does, as far as plantops and kubectl ask it.

Every object is checked against the published schemas. Not here: watches, admission, who owns which field of an apply.
"""

from __future__ import annotations

import copy
import http.client
import itertools
import json
import random
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Object = dict[str, Any]
NAMESPACE, TOKEN, VERSION = "leaves", "token-of-the-kubeconfig", "1.37"
KINDS = {
    ("v1", "pods"): "Pod",
    ("v1", "services"): "Service",
    ("apps/v1", "deployments"): "Deployment",
    ("autoscaling/v2", "horizontalpodautoscalers"): "HorizontalPodAutoscaler",
    ("policy/v1", "poddisruptionbudgets"): "PodDisruptionBudget",
    ("networking.k8s.io/v1", "networkpolicies"): "NetworkPolicy",
    ("networking.k8s.io/v1", "ingresses"): "Ingress",
    ("discovery.k8s.io/v1", "endpointslices"): "EndpointSlice",
}
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "authorization"}


class Refusal(Exception):
    """A `Status` of failure."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


def merged(old: Any, new: Any) -> Any:
    """RFC 7386, but that null in ``new`` is a value of its own."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return copy.deepcopy(new)
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def without(value: Any, gone: Any, kept: Any) -> Any:
    """What an apply no longer names is removed, where the apply before named it."""
    if not (isinstance(value, dict) and isinstance(gone, dict) and isinstance(kept, dict)):
        return value
    return {
        key: without(one, gone.get(key), kept.get(key)) for key, one in value.items() if key in kept or key not in gone
    }


def certificate(place: Path) -> tuple[Path, Path]:
    """One for 127.0.0.1 that vouches for itself; and with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "small cluster")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    place.mkdir(parents=True, exist_ok=True)
    (place / "authority.pem").write_bytes(public)
    (place / "chain.pem").write_bytes(private + public)
    return place / "authority.pem", place / "chain.pem"


class Objects:
    """What the server holds."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._held: dict[tuple[str, str, str], Object] = {}
        self._applied: dict[tuple[str, str, str], Object] = {}
        self._versions = itertools.count(1)
        self.said: list[tuple[str, str]] = []  # method and path of each change

    def get(self, api: str, plural: str, name: str) -> Object:
        with self.lock:
            try:
                return copy.deepcopy(self._held[api, plural, name])
            except KeyError:
                raise Refusal(404, "NotFound", f'{plural} "{name}" not found') from None

    def all(self, api: str, plural: str, selector: str = "") -> list[Object]:
        wanted = dict(one.split("=", 1) for one in selector.split(",") if one)
        with self.lock:
            return [
                copy.deepcopy(one)
                for key, one in self._held.items()
                if key[:2] == (api, plural) and wanted.items() <= one["metadata"].get("labels", {}).items()
            ]

    def put(self, api: str, plural: str, one: Object, status: Object | None = None) -> Object:
        """Create or replace it. The server's own fields are the server's; ``status`` is the controllers'."""
        with self.lock:
            key = (api, plural, one["metadata"]["name"])
            old = self._held.get(key)
            held = copy.deepcopy(one)
            meta = held["metadata"]
            before = old["metadata"] if old else {}
            meta["namespace"] = NAMESPACE
            meta["uid"] = before.get("uid", str(uuid.uuid4()))
            meta["creationTimestamp"] = before.get("creationTimestamp", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
            meta["resourceVersion"] = str(next(self._versions))
            changed = old is None or old.get("spec") != held.get("spec")
            meta["generation"] = before.get("generation", 0) + changed
            held["status"] = status if status is not None else (old or {}).get("status", {})
            if status is None:  # a client's: the controllers' own are right by themselves
                _check(held)
            self._held[key] = held
            return copy.deepcopy(held)

    def apply(self, api: str, plural: str, name: str, body: Object) -> tuple[Object, bool]:
        """Server-side apply of one manager; whether it is new."""
        with self.lock:
            key = (api, plural, name)
            old = self._held.get(key)
            left = without(old, self._applied.get(key, {}), body) if old else {}
            made = self.put(api, plural, merged(left, body))
            self._applied[key] = copy.deepcopy(body)
            return made, old is None

    def remove(self, api: str, plural: str, name: str) -> Object:
        with self.lock:
            gone = self.get(api, plural, name)
            del self._held[api, plural, name]
            self._applied.pop((api, plural, name), None)
            return gone


def _check(one: Object) -> None:
    """Against the published schema, in which no field is unknown."""
    try:
        kubernetes_validate.validate({key: one[key] for key in one if key != "status"}, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Refusal(422, "Invalid", f"{one['kind']} is invalid: {error.message}") from None


class ApiServer:
    """Serves ``objects`` by TLS: without it kubectl shows no credentials.

    ``log``: what a pod said (name, before its last start); ``denied``: what nobody may do.
    """

    def __init__(self, objects: Objects, log: Callable[[str, bool], str], place: Path) -> None:
        self.objects = objects
        self.log = log
        self.denied: set[tuple[str, str]] = set()
        server = self
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_": server}))
        self._http.daemon_threads = True
        self.authority, chain = certificate(place)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def ends(self, service: str) -> list[tuple[str, int]]:
        """Where the ready pods of a Service answer."""
        found = self.objects.all("discovery.k8s.io/v1", "endpointslices", f"kubernetes.io/service-name={service}")
        return [
            (end["addresses"][0], one["ports"][0]["port"])
            for one in found
            for end in one["endpoints"]
            if end["conditions"]["ready"]
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_: ApiServer

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refusal(401, "Unauthorized", "Unauthorized")
            self._route([one for one in parts.path.split("/") if one], parts.query)
        except Refusal as no:
            status = {"kind": "Status", "status": "Failure", "message": str(no), "reason": no.reason}
            self._say({**status, "code": no.code}, no.code)

    def _route(self, path: list[str], query: str) -> None:
        match path:
            case ["version"]:
                self._say({"gitVersion": f"v{VERSION}.0", "major": "1", "minor": VERSION.partition(".")[2]})
            case ["api"]:
                self._say({"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                self._say({"kind": "APIGroupList", "apiVersion": "v1", "groups": list(_groups())})
            case ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]:
                self._review()
            case ["api", "v1", "namespaces", name] if name != NAMESPACE:
                raise Refusal(404, "NotFound", f'namespaces "{name}" not found')
            case ["api", "v1", "namespaces", name]:
                self._say({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
            case ["api", version, *rest]:
                self._resource(version, rest, query)
            case ["apis", group, version, *rest]:
                self._resource(f"{group}/{version}", rest, query)
            case _:
                raise Refusal(404, "NotFound", "the server could not find the requested resource")

    def _resource(self, api: str, rest: list[str], query: str) -> None:
        match rest:
            case []:
                self._say({"kind": "APIResourceList", "groupVersion": api, "resources": list(_resources(api))})
            case ["namespaces", namespace, plural, *more] if namespace == NAMESPACE and (api, plural) in KINDS:
                self._inside(api, plural, more, query)
            case _:
                raise Refusal(404, "NotFound", "the server could not find the requested resource")

    def _inside(self, api: str, plural: str, more: list[str], query: str) -> None:
        objects = self.server_.objects
        if self.command != "GET" and "proxy" not in more:
            objects.said.append((self.command, "/".join([plural, *more])))
        match (self.command, more):
            case ("GET", []):
                items = objects.all(api, plural, self.query.get("labelSelector", ""))
                self._say({"kind": f"{KINDS[api, plural]}List", "apiVersion": api, "metadata": {}, "items": items})
            case ("POST", []):
                self._say(objects.put(api, plural, json.loads(self.body)), 201)
            case ("GET", [name]):
                self._say(objects.get(api, plural, name))
            case ("DELETE", [name]):
                self._say(objects.remove(api, plural, name))
            case ("PUT", [name]):
                self._replace(api, plural, name)
            case ("PATCH", [name]):
                self._patch(api, plural, name)
            case ("GET", [name, "log"]):
                objects.get(api, plural, name)
                lines = self.server_.log(name, self.query.get("previous") == "true").splitlines()
                self._raw("\n".join(lines[-int(self.query.get("tailLines", 10**6)) :]).encode(), "text/plain")
            case (_, [named, "proxy", *inside]):
                self._proxy(plural, named, "/".join(inside), query)
            case _:
                raise Refusal(405, "MethodNotAllowed", "the server does not allow this method")

    def _replace(self, api: str, plural: str, name: str) -> None:
        objects, body = self.server_.objects, json.loads(self.body)
        with objects.lock:
            version = objects.get(api, plural, name)["metadata"]["resourceVersion"]
            if body["metadata"].get("resourceVersion", version) != version:
                raise Refusal(409, "Conflict", f"{name}: the object has been modified")
            self._say(objects.put(api, plural, body))

    def _patch(self, api: str, plural: str, name: str) -> None:
        objects, body, kind = self.server_.objects, json.loads(self.body), self.headers["Content-Type"]
        if kind == "application/apply-patch+yaml":
            if "fieldManager" not in self.query:
                raise Refusal(400, "BadRequest", "fieldManager is required for apply patch")
            if (body["apiVersion"], body["kind"], body["metadata"]["name"]) != (api, KINDS[api, plural], name):
                raise Refusal(400, "BadRequest", "the body is of another object than the path")
            made, new = objects.apply(api, plural, name, body)
            self._say(made, 201 if new else 200)
        elif kind in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            with objects.lock:
                self._say(objects.put(api, plural, merged(objects.get(api, plural, name), body)))
        else:
            raise Refusal(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")

    def _review(self) -> None:
        review = json.loads(self.body)
        kubernetes_validate.validate(review, VERSION, strict=True)
        asked = review["spec"]["resourceAttributes"]
        inner = f"/{asked['subresource']}" if asked["subresource"] else ""
        what = (asked["verb"], f"{asked['resource']}{inner}")
        self._say({**review, "status": {"allowed": what not in self.server_.denied}}, 201)

    def _proxy(self, plural: str, named: str, path: str, query: str) -> None:
        """Pass a request on, as the API server does: with the Host that it was asked by, without its credentials."""
        name, _, port = named.partition(":")
        if plural == "services":
            self.server_.objects.get("v1", "services", name)
            ends = self.server_.ends(name)
            if not ends:
                raise Refusal(503, "ServiceUnavailable", f'no endpoints available for service "{named}"')
            host, number = random.choice(ends)
        else:
            host = self.server_.objects.get("v1", "pods", name)["status"].get("podIP", "")
            number = int(port)
        connection = http.client.HTTPConnection(host, number, timeout=60)
        kept = {key: value for key, value in self.headers.items() if key.lower() not in _HOP_BY_HOP}
        try:
            connection.request(self.command, f"/{path}{f'?{query}' if query else ''}", self.body or None, kept)
            answer = connection.getresponse()
            self._raw(answer.read(), answer.headers["Content-Type"], answer.status, dict(answer.headers.items()))
        except OSError as error:
            raise Refusal(503, "ServiceUnavailable", f"error trying to reach service: {error}") from None
        finally:
            connection.close()

    def _say(self, value: Object, status: int = 200) -> None:
        self._raw(json.dumps(value).encode(), "application/json", status)

    def _raw(self, body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        own = {"content-length", "content-type", "date", "server", *_HOP_BY_HOP}
        self.send_response(status)
        for key, value in (headers or {}).items():
            if key.lower() not in own:
                self.send_header(key, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _groups() -> Iterator[Object]:
    for api in dict.fromkeys(api for api, _ in KINDS if "/" in api):
        group, _, version = api.partition("/")
        known = {"groupVersion": api, "version": version}
        yield {"name": group, "versions": [known], "preferredVersion": known}


def _resources(api: str) -> Iterator[Object]:
    verbs = ["create", "delete", "get", "list", "patch", "update"]
    for (of, plural), kind in KINDS.items():
        if of == api:
            yield {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
    if api == "v1":
        yield {"name": "nodes", "singularName": "node", "namespaced": False, "kind": "Node", "verbs": verbs}
        yield {"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]}

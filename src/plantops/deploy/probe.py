"""Asking a running API the questions that matter: is it healthy, who is it, does it answer the golden photos."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from plantops.bundle import GOLDEN_TOLERANCE, BadBundle, Bundle, worst_difference
from plantops.deploy import unix
from plantops.deploy.address import Address
from plantops.deploy.protocol import Serving, Trial
from plantops.errors import StepFailed

KEY_HEADER = "X-API-Key"
RELEASE_HEADER = "X-Plantops-Release"
PROBE_HEADER = "X-Plantops-Probe"  # these photos are no traffic: they are not counted
_EVERY_CLASS = 1000
_POLL_S = 0.02
_QUICK_S = 5.0
_WATCH_EVERY_S = 0.2
_NO_PHOTO = (400, 413, 422)  # what the API says of an upload that it does not take
_BUGS = re.compile(r'^api_requests_total\{[^}]*status="500"\} (\S+)', re.MULTILINE)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    release: str | None
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as JSON; a body that is none becomes its text under ``detail``."""
        try:
            value = json.loads(self.body)
        except ValueError:
            value = self.text
        return value if isinstance(value, dict) else {"detail": value}

    @property
    def text(self) -> str:
        """The body for a person, shortened."""
        return self.body.decode(errors="replace")[:500]


class Declined(StepFailed):
    """The API answers, and does not take this upload for a photo."""


class Connection(http.client.HTTPConnection):
    """To whatever an address is."""

    def __init__(self, address: Address, timeout: float) -> None:
        super().__init__("localhost" if address.socket else address.host, address.port or None, timeout=timeout)
        self.address = address

    def connect(self) -> None:
        """Open the socket."""
        if self.address.socket:
            self.sock: socket.socket = unix.connect(self.address.socket, self.timeout)
        else:
            super().connect()
            if self.address.tls:
                self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.address.host)


def ask(
    address: Address,
    path: str,
    body: bytes | None = None,
    kind: str = "",
    timeout: float = _QUICK_S,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Reply:
    """GET, or POST ``body`` of content type ``kind``, with ``more`` headers. Raises StepFailed without an answer."""
    connection = Connection(address, timeout)
    headers = {"Connection": "close", "Host": address.name, **({"Content-Type": kind} if kind else {}), **more}
    if address.key:
        headers[KEY_HEADER] = address.key  # not Authorization: what stands between may want that for itself
    try:
        connection.request("GET" if body is None else "POST", address.base + path, body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.headers.get(RELEASE_HEADER), response.read())
    except (OSError, http.client.HTTPException) as error:
        raise StepFailed(f"no answer from {address.url}{path}: {type(error).__name__}: {error}") from None
    finally:
        connection.close()


def health(address: Address) -> Reply:
    """What `/health` says. Raises StepFailed when it says nothing."""
    return ask(address, "/health")


def answers(address: Address) -> bool:
    """Whether `/health` says 200."""
    try:
        return health(address).status == 200
    except StepFailed:
        return False


def reachable(page: Address) -> bool:
    """Whether a page answers at all."""
    try:
        return ask(page, "/").status < 500
    except StepFailed:
        return False


def wait_healthy(address: Address, timeout: float, alive: Callable[[], None]) -> dict[str, Any]:
    """Ask `/health` until it says 200; returns its JSON.

    ``alive`` is called between questions and may raise. Raises StepFailed with the last answer when it says
    ``failed``, or nothing better within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    last = "no answer"
    while time.monotonic() < deadline:
        alive()
        try:
            reply = health(address)
        except StepFailed as error:
            last = error.message
        else:
            if reply.status == 200:
                return reply.json()
            last = f"{reply.status} {reply.text}"
            if reply.json().get("status") == "failed":
                raise StepFailed(f"the new API says it failed: {reply.json().get('reason')}")
        time.sleep(_POLL_S)
    raise StepFailed(f"the new API was not healthy within {timeout:g} s; last answer of /health: {last}")


def prove(public: Address, trial: Trial) -> None:
    """Raise StepFailed unless the public port is answered by this trial."""
    reply = health(public)
    said = reply.json()
    if reply.status != 200 or (said.get("release"), said.get("since")) != (trial.release, trial.since):
        raise StepFailed(
            f"after the switch {public.url}/health answers {reply.status} as release {said.get('release')}, healthy "
            f"since {said.get('since')}; expected release {trial.release}, healthy since {trial.since}"
        )


def serving(public: Address) -> Serving:
    """What answers on the public port, as it says itself; ``starting`` when nothing does."""
    try:
        said = health(public).json()
    except StepFailed as error:
        return silent(public, error.message)
    return Serving(
        said.get("release"), said.get("digest"), str(said.get("status")), said.get("reason") or said.get("detail"),
        str(said.get("since")), int(said.get("pid", 0)), public.url, said.get("sample_data"),
        None if said.get("drift") is None else tuple(said["drift"]),
    )  # fmt: skip


def silent(public: Address, why: str) -> Serving:
    """What is there and does not answer yet."""
    return Serving(None, None, "starting", why, "", 0, public.url, None)


def watch(
    public: Address,
    seconds: float,
    alive: Callable[[], None] = lambda: None,
    look: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Ask `/health` over and over, count answers of 500, and notice an API that had to be started again.

    Raises StepFailed as soon as something is wrong; ``alive`` is called between questions and may raise. ``look`` gives
    release, since and bugs where more than what answers on the public port is to be looked at.
    """
    look = look or partial(_watched, public)
    alive()
    first = look()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(_WATCH_EVERY_S, seconds))
        alive()
        seen = look()
        if (seen["release"], seen["since"]) != (first["release"], first["since"]):
            raise StepFailed(f"the API changed under watch: {first} became {seen}")
        if seen["bugs"] > first["bugs"]:
            raise StepFailed(f"the API answered {seen['bugs'] - first['bugs']} requests with status 500")


def _watched(public: Address) -> dict[str, Any]:
    reply = health(public)
    if reply.status != 200:
        raise StepFailed(f"{public.url}/health answers {reply.status}: {reply.text}")
    said = reply.json()
    counted = bugs(ask(public, "/metrics").body.decode())
    return {"release": said["release"], "since": said["since"], "bugs": counted}


def bugs(metrics: str) -> int:
    """How many requests were answered with status 500, by what `/metrics` says."""
    return sum(int(float(count)) for count in _BUGS.findall(metrics))


def metrics(public: Address) -> str:
    """What `/metrics` says. Raises StepFailed when it says nothing."""
    reply = ask(public, "/metrics")
    if reply.status != 200:
        raise StepFailed(f"{public.url}/metrics answers {reply.status}: {reply.text}")
    return reply.body.decode()


def predict(address: Address, photo: bytes, timeout: float = 30) -> dict[str, float]:
    """Probability by class name, for every class. Raises StepFailed on any answer but 200, Declined where
    it is the photo's."""
    body, kind = form("file", "golden.jpg", photo)
    reply = ask(address, f"/predict?top={_EVERY_CLASS}", body, kind, timeout, {PROBE_HEADER: "1"})
    if reply.status != 200:
        error = Declined if reply.status in _NO_PHOTO else StepFailed
        raise error(f"{address.url}/predict answered {reply.status}: {reply.text}")
    return {one["class"]: one["confidence"] for one in reply.json()["top5_predictions"]}


def golden(address: Address, folder: Path) -> float:
    """Ask every golden photo of the bundle in ``folder``; returns the largest difference in probability.

    Raises StepFailed when one is larger than GOLDEN_TOLERANCE.
    """
    try:
        photos = Bundle.load(folder).golden()
    except BadBundle as error:
        raise StepFailed(f"the bundle in {folder} is not whole: {error}") from None
    worst = 0.0
    for one in photos:
        difference = worst_difference(one, predict(address, one.file.read_bytes()))
        if not difference <= GOLDEN_TOLERANCE:
            raise StepFailed(
                f"golden photo {one.file.name}: {address.url} answers {difference:.6f} away from the checkpoint "
                f"(at most {GOLDEN_TOLERANCE} is allowed)"
            )
        worst = max(worst, difference)
    return worst


def form(field: str, filename: str, data: bytes) -> tuple[bytes, str]:
    """A multipart body with one file, and its content type (RFC 7578)."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n\r\n'
    return head.encode() + data + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"

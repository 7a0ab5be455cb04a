"""Asking a running API the questions that matter: is it healthy, who is it, does it answer the golden photos."""

from __future__ import annotations

import http.client
import json
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops.deploy import unix
from plantops.errors import StepFailed

RELEASE_HEADER = "X-Plantops-Release"
_EVERY_CLASS = 1000
_POLL_S = 0.02
_QUICK_S = 5.0


@dataclass(frozen=True)
class Address:
    """Where an API answers: a TCP host and port, or a unix socket."""

    host: str = "127.0.0.1"
    port: int = 0
    socket: Path | None = None

    @property
    def url(self) -> str:
        """For a person."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.socket}" if self.socket else f"http://{host}:{self.port}"


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


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: Address, timeout: float) -> None:
        super().__init__("localhost" if address.socket else address.host, address.port or None, timeout=timeout)
        self.address = address

    def connect(self) -> None:
        """Open the socket."""
        if self.address.socket:
            self.sock: socket.socket = unix.connect(self.address.socket, self.timeout)
        else:
            super().connect()


def ask(address: Address, path: str, body: bytes | None = None, kind: str = "", timeout: float = _QUICK_S) -> Reply:
    """GET, or POST ``body`` of content type ``kind``. Raises StepFailed when there is no answer."""
    connection = _Connection(address, timeout)
    headers = {"Connection": "close", **({"Content-Type": kind} if kind else {})}
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.headers.get(RELEASE_HEADER), response.read())
    except (OSError, http.client.HTTPException) as error:
        raise StepFailed(f"no answer from {address.url}{path}: {type(error).__name__}: {error}") from None
    finally:
        connection.close()


def health(address: Address) -> Reply:
    """What `/health` says. Raises StepFailed when it says nothing."""
    return ask(address, "/health")


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


def predict(address: Address, photo: bytes, timeout: float = 30) -> dict[str, float]:
    """Probability by class name, for every class. Raises StepFailed on any answer but 200."""
    body, kind = form("file", "golden.jpg", photo)
    reply = ask(address, f"/predict?top={_EVERY_CLASS}", body, kind, timeout)
    if reply.status != 200:
        raise StepFailed(f"{address.url}/predict answered {reply.status}: {reply.text}")
    return {one["class"]: one["confidence"] for one in reply.json()["top5_predictions"]}


def golden(address: Address, folder: Path) -> float:
    """Ask every golden photo of the bundle in ``folder``; returns the largest difference in probability.

    Raises StepFailed when one is larger than GOLDEN_TOLERANCE.
    """
    from plantops.bundle import GOLDEN_TOLERANCE, BadBundle, Bundle, worst_difference  # numpy: not for `check`

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

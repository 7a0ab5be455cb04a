"""The outermost layer: names, counts and notes every request, and closes connections whose body nobody read without
cutting them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plantops.serve.access import AccessLog
from plantops.serve.metrics import Metrics

LINGER_S = 5.0
REQUEST_ID = b"x-request-id"
PROBE = b"x-plantops-probe"  # plantops itself asks, with golden photos and with kept ones: they are no traffic
# With every answer, also those that never reach the app.
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CSP = b"content-security-policy"
_NOTHING = (_CSP, b"default-src 'none'; frame-ancestors 'none'")
_PAGE = (_CSP, b"object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'")
_SAFE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

current_id: contextvars.ContextVar[str] = contextvars.ContextVar("request id", default="-")


class NameRequest(logging.Filter):
    """Gives every log line the request that it is about, as ``request_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let all through."""
        record.request_id = current_id.get()
        return True


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, metrics: Metrics, access: AccessLog | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        self.metrics.active.inc()
        try:
            await self.app(scope, exchange.receive, exchange.send)
        finally:
            took = (exchange.answered or time.perf_counter()) - exchange.began
            self.metrics.active.dec()
            if exchange.counts:
                self.metrics.answered(scope["method"], scope["path"], exchange.status, took)
            if self.access:
                self.access.add(scope, exchange.status, took, exchange.sent)


class _Exchange:
    """One request and its answer.

    An answer given before the body was read (413, 503, 404) must not be followed by a plain close: what the client
    still sends would be met by a reset, which can destroy the answer on its way. So the answer goes out at once with
    ``Connection: close``, the rest of the body is thrown away for a few seconds, and then the connection ends
    (RFC 9112, section 9.6).
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self._receive, self._send = receive, send
        self._unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        self._waits = b"expect" in headers
        self.counts = PROBE not in headers
        self._closes = False
        self._id = _name(scope, headers.get(REQUEST_ID, b""))
        self.began, self.answered = time.perf_counter(), 0.0
        self.status = 500
        self.sent = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._waits = False
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._closes = self._unread
            message = {**message, "headers": self._headers(message)}
        else:
            self.sent += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.answered = time.perf_counter()  # what is thrown away after it takes none of the answer's time
                if self._closes:
                    await self._send({**message, "more_body": True})
                    await self._linger()
                    message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        given = list(message.get("headers", ()))
        names = dict(given)
        if _CSP not in names:
            given.append(_PAGE if names.get(b"content-type", b"").startswith(b"text/html") else _NOTHING)
        if REQUEST_ID not in names:
            given.append((REQUEST_ID, self._id))
        if self._closes:
            given.append((b"connection", b"close"))
        return given

    async def _linger(self) -> None:
        if self._waits:
            return  # the client asked before sending (Expect: 100-continue), and will not send now
        try:
            async with asyncio.timeout(LINGER_S):
                while self._unread:
                    await self.receive()
        except TimeoutError:
            return


def new_id() -> bytes:
    """A name for a request that brought none. No secret, so not from the kernel: asking it lets go of Python's lock."""
    return b"%016x" % random.getrandbits(64)


def _name(scope: Scope, given: bytes) -> bytes:
    """The request's id: the client's own where it is one that can be logged and name a file, else a new one.

    The app finds it in the header and as ``request.state.request_id``.
    """
    if _SAFE_ID.fullmatch(given):
        name = given
    else:
        name = new_id()
        scope["headers"] = [*(one for one in scope["headers"] if one[0] != REQUEST_ID), (REQUEST_ID, name)]
    scope["state"]["request_id"] = name.decode()
    current_id.set(name.decode())
    return name

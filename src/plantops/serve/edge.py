"""The outermost layer: counts every request, and closes connections whose body nobody read without cutting them."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plantops.serve.metrics import Metrics

LINGER_S = 5.0


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        began = time.perf_counter()
        self.metrics.active.inc()
        try:
            await self.app(scope, exchange.receive, exchange.send)
        finally:
            self.metrics.active.dec()
            self.metrics.answered(scope["method"], scope["path"], exchange.status, time.perf_counter() - began)


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
        self._closes = False
        self.status = 500

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
            if self._closes:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        elif self._closes and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        if self._waits:
            return  # the client asked before sending (Expect: 100-continue), and will not send now
        try:
            async with asyncio.timeout(LINGER_S):
                while self._unread:
                    await self.receive()
        except TimeoutError:
            return

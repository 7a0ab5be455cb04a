"""Accepting connections, and ending without cutting one.

uvicorn's HTTP protocol on a listener of our own: its server can neither pause accepting nor end without closing
connections that were accepted and not yet read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from plantops.serve.edge import LINGER_S, REQUEST_ID, SECURITY, new_id

log = logging.getLogger(__name__)
_BURST = 128
_STOP_GRACE_S = 1.0
_POLL_S = 0.02
_MOST_AHEAD = 32  # questions asked before the first is answered
_CLOSE = (b"connection", b"close")
HEADER_LIMIT = 65_536
MOST_CONNECTIONS = 8192  # measured: 6 kB for one that is idle, 18 for one with an upload begun


class Joining:
    """A transport that sends an answer's header together with its body, which uvicorn writes one after the other: each
    write wakes whoever reads. What is followed by nothing goes at the end of the loop's turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            self._held += data
            self._flush()
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with the bounds that it lacks: deadlines for the first byte, for a request's header and for
    taking an answer, and a limit on what is held of a header (or of a trailer) before it is whole."""

    header_deadline_s = 30.0
    resting: dict[Connection, None]  # those of the server that are idle, for longest first
    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _pending = 0  # bytes since the parser last had something whole: a header, a piece of a body, a request
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, Joining(transport, self.loop)))
        self.resting[self] = None
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self.idle and self._deadline is None:
            self._deadline = self.loop.call_later(self.header_deadline_s, self.timeout_keep_alive_handler)
        while data and not self._refused and not self.transport.is_closing():
            piece = data[: HEADER_LIMIT - self._pending]
            data = data[len(piece) :]
            self._pending += len(piece)
            super().data_received(piece)
            if self._pending >= HEADER_LIMIT:
                self._refuse(431, f"the request's header is larger than {HEADER_LIMIT // 1024} KiB")

    def on_headers_complete(self) -> None:
        self._pending = 0
        self._disarm()
        if self.parser.should_upgrade() and _announces_a_body(self.headers):
            # The parser would take the body for what the other protocol says, or for the next request.
            self._refuse(400, "no body may come with an offer to upgrade the connection (with curl: --http1.1)")
            return
        self.resting.pop(self, None)
        if len(self.pipeline) >= _MOST_AHEAD:
            self.transport.abort()  # uvicorn would keep all that comes: 30 MB for each 256 KiB of questions
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending = 0
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.idle:
            self.resting[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(self.header_deadline_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking:
            self._taking.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.resting.pop(self, None)
        super().connection_lost(exc)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a server need not take up what is offered (RFC 9110, section 7.8)."""

    def send_400_response(self, msg: str) -> None:
        if self.idle or (self.cycle.more_body and not self.cycle.response_started):
            self._answer(400, msg.rstrip(".").lower())
        self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        """Say why, and then what still comes is thrown away for a few seconds: see `edge.py`."""
        self._refused = True
        if not self.idle:
            self.transport.close()
            return
        self._answer(status, detail)
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _answer(self, status: int, detail: str) -> None:
        """To what never became a request."""
        body = json.dumps({"detail": detail}).encode()
        own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (REQUEST_ID, new_id())]
        kept = [one for one in self.server_state.default_headers if one != _CLOSE]
        lines = [b"%s: %s\r\n" % header for header in (*kept, *own, _CLOSE)]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))

    def _disarm(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None


def _announces_a_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


class Server:
    """Serves ``app`` on any number of listening sockets, with ``most`` connections. Make it inside a running loop."""

    def __init__(
        self, app: ASGIApp, keep_alive_s: float, request_timeout_s: float, most: int = MOST_CONNECTIONS
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._config = Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
        )
        self._config.load()
        self._config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]
        self._header_deadline_s = request_timeout_s
        self._patience_s = request_timeout_s + 5
        self._limit_s = keep_alive_s + 2 * request_timeout_s + 30
        self._state = ServerState()
        self._listeners: set[socket.socket] = set()
        self._arriving: set[asyncio.Future[Any]] = set()
        self._resting: dict[Connection, None] = {}
        self._most = most
        self._closing = False
        self.release: str | None = None
        self._tick()

    @property
    def connections(self) -> int:
        """Open connections, the ones just accepted included."""
        return len(self._state.connections) + len(self._arriving)

    def accept(self, listener: socket.socket) -> None:
        """Take connections from ``listener`` from now on, and keep them alive after an answer."""
        listener.setblocking(False)
        self._listeners.add(listener)
        self._loop.add_reader(listener.fileno(), self._take, listener)
        self.close_after_answers(False)

    def pause(self, listener: socket.socket) -> None:
        """Take no more connections from ``listener``; whoever else holds it may. It stays open."""
        self._listeners.discard(listener)
        self._loop.remove_reader(listener.fileno())

    def close_after_answers(self, closing: bool) -> None:
        """Whether every answer, those being worked on included, says ``Connection: close`` and does so."""
        self._closing = closing
        self._headers()

    async def drain(self) -> None:
        """Return when no connection is left: each was answered once more, or fell silent for the keep-alive time."""
        self.close_after_answers(True)
        if not await self._until(lambda: self.connections == 0, self._limit_s):
            self._abort()

    async def stop(self) -> None:
        """End soon: answer what is being asked, close what is idle after a moment, then everything."""
        for listener in list(self._listeners):
            self._take(listener)
            self.pause(listener)
            listener.close()
        self.close_after_answers(True)
        await self._until(lambda: self.connections == 0, _STOP_GRACE_S)
        for connection in list(self._resting):
            connection.shutdown()
        if not await self._until(lambda: self.connections == 0, self._patience_s):
            self._abort()

    def _take(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                arrived, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of file descriptors, mostly: those that wait in the queue are taken when some are free again.
                log.error("cannot accept: %s", error)
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(0.5, self._again, listener)
                return
            if self.connections >= self._most and not self._make_room():
                arrived.close()
                continue
            arrived.setblocking(False)
            if arrived.family != socket.AF_UNIX:
                # Header and body are two writes; without this the second waits 40 ms for the client's delayed ACK.
                arrived.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._connection, arrived))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    def _make_room(self) -> bool:
        """Close what has been idle for longest, which its client has to expect (RFC 9112, section 9.5)."""
        oldest = next(iter(self._resting), None)
        if oldest is None:
            return False
        del self._resting[oldest]
        oldest.shutdown()
        return True

    def _again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._take, listener)

    def _connection(self) -> asyncio.Protocol:
        connection = Connection(self._config, self._state, {}, self._loop)
        connection.header_deadline_s = self._header_deadline_s
        connection.resting = self._resting
        return connection

    def _tick(self) -> None:
        self._headers()
        self._loop.call_later(1.0, self._tick)

    def _headers(self) -> None:
        # In place: answers being worked on hold this very list.
        self._state.default_headers[:] = [
            (b"date", formatdate(time.time(), usegmt=True).encode()),
            *SECURITY,
            *([(b"x-plantops-release", self.release.encode())] if self.release else []),
            *([_CLOSE] if self._closing else []),
        ]

    async def _until(self, met: Callable[[], bool], seconds: float) -> bool:
        deadline = self._loop.time() + seconds
        while not met():
            if self._loop.time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def _abort(self) -> None:
        log.error("%d connections had to be cut", self.connections)
        for connection in list(self._state.connections):
            connection.transport.abort()  # type: ignore[union-attr]

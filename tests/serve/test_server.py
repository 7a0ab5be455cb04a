"""Accepting connections: so many at once, and what has been idle for longest makes room."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from api_client import HOST
from plantops.serve.server import Server

MOST = 3
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class App:
    """Answers `/` at once, and everything else when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/":
            self.asked += 1
            await self.go_on.wait()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


def served(work: Callable[[App, Callable[[], Awaitable[Pair]]], Awaitable[None]]) -> None:
    async def run() -> None:
        app, listener = App(), socket.create_server((HOST, 0))
        server = Server(app, keep_alive_s=60, request_timeout_s=30, most=MOST)
        server.accept(listener)
        clients: list[Pair] = []

        async def connect() -> Pair:
            clients.append(await asyncio.open_connection(HOST, listener.getsockname()[1]))
            return clients[-1]

        async with asyncio.timeout(20):
            await work(app, connect)
            for _, writer in clients:
                writer.close()
            await server.stop()

    asyncio.run(run())


async def ask(pair: Pair, path: str = "/") -> bytes:
    pair[1].write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return await answer(pair)


async def answer(pair: Pair) -> bytes:
    try:
        return (await pair[0].readuntil(b"\r\n\r\nok"))[:15]
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def test_the_connection_that_was_idle_for_longest_makes_room() -> None:
    async def work(_: App, connect: Callable[[], Awaitable[Pair]]) -> None:
        first, second, third = [await connect() for _ in range(MOST)]
        for one in (first, second, third, first):
            assert await ask(one) == b"HTTP/1.1 200 OK"
        fourth = await connect()
        assert await ask(fourth) == b"HTTP/1.1 200 OK"
        assert await second[0].read() == b""
        for one in (first, third, fourth):
            assert await ask(one) == b"HTTP/1.1 200 OK"

    served(work)


def test_none_is_cut_while_it_is_answered() -> None:
    async def work(app: App, connect: Callable[[], Awaitable[Pair]]) -> None:
        busy = [await connect() for _ in range(MOST)]
        waiting = [asyncio.ensure_future(ask(one, "/slow")) for one in busy]
        while app.asked < MOST:
            await asyncio.sleep(0.01)
        assert await ask(await connect()) == b""
        app.go_on.set()
        assert await asyncio.gather(*waiting) == [b"HTTP/1.1 200 OK"] * MOST
        assert await ask(busy[0]) == b"HTTP/1.1 200 OK"

    served(work)

"""The worker's end of the channel to its supervisor: one word a line in, one JSON document a line out.

``accept``  take connections from the public socket
``pause``   take no more of them, close each connection after its next answer, but stay
``end``     the same, and end when no connection is left
``breathe`` answer as soon as a thread for photos is free: the sign of life of one that does not hang
``stop``    end soon; the channel's end means the same, so a worker never outlives its supervisor for long
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from plantops.serve.server import Server
from plantops.serve.service import Service


class Control:
    """Obeys the supervisor until there is nothing left to serve."""

    def __init__(self, server: Server, public: socket.socket) -> None:
        self._server = server
        self._public = public
        self._done = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._breath: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, channel: socket.socket, loading: asyncio.Task[None], service: Service) -> None:
        """Return when the worker may end; ``loading`` is awaited to report how it went."""
        reader, self._writer = await asyncio.open_connection(sock=channel)
        loading.add_done_callback(lambda _: self.say(event="loaded", status=service.status, reason=service.reason))
        obeying = asyncio.create_task(self._obey(reader, service))
        done = asyncio.create_task(self._done.wait())
        await asyncio.wait([obeying, done], return_when=asyncio.FIRST_COMPLETED)
        obeying.cancel()
        done.cancel()

    def say(self, **values: Any) -> None:
        """Tell the supervisor something."""
        assert self._writer is not None
        self._writer.write(json.dumps(values).encode() + b"\n")

    async def _obey(self, reader: asyncio.StreamReader, service: Service) -> None:
        while line := await reader.readline():
            word = line.decode().strip()
            if word == "stop":
                return
            if word == "breathe":
                self._breath = asyncio.create_task(self._breathe(service))
                continue
            if word == "accept":
                self._server.accept(self._public)
            elif word in ("pause", "end"):
                self._server.pause(self._public)
                self._server.close_after_answers(True)
            if word == "end" and self._ending is None:
                self._ending = asyncio.create_task(self._drain())
            self.say(did=word, connections=self._server.connections)

    async def _breathe(self, service: Service) -> None:
        await service.breathe()
        self.say(did="breathe")

    async def _drain(self) -> None:
        await self._server.drain()
        self._done.set()

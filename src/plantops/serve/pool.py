"""The processes that look at photos, as the one that answers HTTP knows them. A photo goes to one that is free."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from plantops.bundle import Bundle, Manifest
from plantops.photo import NotAPhoto
from plantops.serve.doubts import Doubts
from plantops.serve.identity import Identity
from plantops.serve.looked import Looked, Served
from plantops.serve.room import Grants
from plantops.serve.settings import Settings

log = logging.getLogger(__name__)
_AGAIN_S = 0.5
_SMALL = 65_536  # bytes of a photo that are sent together with the question


class NotServed(Exception):
    """The bundle cannot be served; the text says why."""


class Gone(Exception):
    """The process ended while it looked at a photo."""


class Pool:
    """``settings.workers`` processes. Make it, and use it, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._free: list[_Looker] = []
        self._turns: deque[asyncio.Future[_Looker]] = deque()
        self.room = Grants(settings.max_decoding_bytes - settings.workers * settings.unasked_bytes)
        self._channel: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.ended = asyncio.Event()
        self._adding: set[asyncio.Task[None]] = set()

    async def start(self, bundle: Path) -> Served:
        """Load the bundle and prove it. Raises NotServed, BadBundle, OSError."""
        self._channel, theirs = socket.socketpair()
        limits = ("--max-pixels", str(self._settings.max_pixels), "--unasked", str(self._settings.unasked_bytes))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "plantops.serve.looker", "--bundle", str(bundle), "--fd", str(theirs.fileno()),
            *limits, pass_fds=[theirs.fileno()], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=self._channel.dup(), limit=1 << 24)
        line = await reader.readline()
        told: dict[str, Any] = json.loads(line) if line else {"failed": f"the process that loads {bundle} ended"}
        if "failed" in told:
            writer.close()
            raise NotServed(told["failed"])
        self._watching = asyncio.create_task(self._watch(reader, writer))
        for _ in range(self._settings.workers):
            await self._add()
        found = Bundle(bundle, Manifest.from_dict(told["manifest"]))
        usual = Doubts.load(found, has_embedding=True).usual
        return Served(found, Identity(**told["identity"]), told["golden_difference"], usual)

    async def look(self, photo: bytes | memoryview, top: int, explain: bool) -> Looked:
        """What the model says. Raises NotAPhoto, or Gone. Cancelled, it ends the process that is at work for it."""
        looker = await self._next()
        while not looker.alive:  # since it got its turn
            looker = await self._next()
        question = json.dumps({"photo": len(photo), "top": top, "explain": explain}).encode() + b"\n"
        answer = looker.ask(question, photo)
        try:
            told = await answer
        except asyncio.CancelledError:
            if answer.cancelled():  # else it answered in time, and may look at another photo by now
                looker.end()
            raise
        if "error" in told:
            raise NotAPhoto(told["error"])
        return Looked.from_dict(told)

    async def breathe(self) -> None:
        """Return when one is free: never, while all of them hang."""
        self.freed(await self._next())

    def close(self) -> None:
        """End them all."""
        self.ended.set()
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()  # and the kernel those that were forked from it
        if self._channel:
            self._channel.close()

    async def _next(self) -> _Looker:
        """One that is free, in the order in which they were asked for (asyncio's queue lets newcomers in between)."""
        if self._free:
            return self._free.pop()
        turn: asyncio.Future[_Looker] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.freed(turn.result())
            raise

    async def _add(self) -> None:
        """Have one more. Raises OSError: the one that forks is gone, or there are no more file descriptors."""
        assert self._channel
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._channel, [b"+"], [theirs.fileno()])
            await asyncio.get_running_loop().create_connection(lambda: _Looker(self), sock=ours)
        except OSError:
            ours.close()
            raise

    async def _replace(self) -> None:
        """Have another instead of one that ended, as soon as that can be done."""
        while not self.ended.is_set():
            try:
                await self._add()
                return
            except ConnectionError:  # the one that forks is gone, and `_watch` says so
                return
            except OSError as error:
                log.error("no process in place of one that ended, the next try is in %g s: %s", _AGAIN_S, error)
                await asyncio.sleep(_AGAIN_S)

    def freed(self, looker: _Looker) -> None:
        """It waits for a photo. The last is taken first, so that no more are at work than need be."""
        if not looker.alive:  # it ended while it had somebody's turn
            return
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(looker)
                return
        self._free.append(looker)

    def lost(self, looker: _Looker) -> None:
        """It has ended: have another."""
        if looker in self._free:
            self._free.remove(looker)
        if not self.ended.is_set():
            adding = asyncio.ensure_future(self._replace())
            self._adding.add(adding)  # the loop itself holds tasks weakly
            adding.add_done_callback(self._adding.discard)

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        self.ended.set()
        writer.close()


class _Looker(asyncio.Protocol):
    """One process, by its socket. It is free from its first word on, and after each answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._pid: int | None = None
        self._said = b""
        self._held = 0
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self.alive = True

    def ask(self, question: bytes, photo: bytes | memoryview) -> asyncio.Future[dict[str, Any]]:
        """Its answer to one photo, in time."""
        self._answer = asyncio.get_running_loop().create_future()
        if len(photo) <= _SMALL:
            self._transport.write(question + photo)
        else:
            self._transport.write(question)
            self._transport.write(photo)
        return self._answer

    def end(self) -> None:
        """Whatever it does. It gets no other photo, also where its answer is on its way."""
        if self.alive and self._pid:
            self.alive = False
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._said += data
        if not self._said.endswith(b"\n"):
            return
        told, self._said = from_json(self._said), b""
        if "room" in told:
            self._pool.room.ask(told["room"], lambda: self._granted(told["room"]))
            return
        self._pid = told.get("pid", self._pid)
        # Before its answer is looked at, so that it is not idle meanwhile.
        self._give_back()
        self._pool.freed(self)
        if self._answer and not self._answer.done():
            self._answer.set_result(told)

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._give_back()
        if self._answer and not self._answer.done():
            log.error("process %s ended while it looked at a photo", self._pid)
            self._answer.set_exception(Gone())
        self._pool.lost(self)

    def _granted(self, amount: int) -> None:
        self._held = amount
        if self.alive:
            self._transport.write(b"\n")
        else:
            self._give_back()

    def _give_back(self) -> None:
        held, self._held = self._held, 0
        self._pool.room.give_back(held)

"""The processes that look at photos, as the one that answers HTTP knows them. A photo goes to one that is free.

While many wait, one process gets a few small ones at once: one pass of the model over four takes less than four passes.
Where it ends over them, each is asked about again, alone. A large one is put into memory that the process shares: a
socket takes it in pieces, and the process would wait for each.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from mmap import MADV_REMOVE, mmap
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from plantops.bundle import Bundle, Manifest
from plantops.photo import NotAPhoto
from plantops.serve.doubts import Doubts
from plantops.serve.identity import Identity
from plantops.serve.looked import SMALL, Looked, Served
from plantops.serve.room import Grants
from plantops.serve.settings import Settings

log = logging.getLogger(__name__)
_AGAIN_S = 0.5
_HELD = 4 << 20  # bytes of memory for large photos that stay with a process


class NotServed(Exception):
    """The bundle cannot be served; the text says why."""


class Gone(Exception):
    """The process ended while it looked at a photo."""


@dataclass(eq=False, slots=True)
class _Asked:
    """A photo that somebody waits for. ``at``: the process that looks at it."""

    photo: bytes | memoryview
    top: int
    explain: bool
    answer: asyncio.Future[dict[str, Any]]
    alone: bool
    at: _Looker | None = None


class Pool:
    """``settings.workers`` processes. Make it, and use it, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._workers = settings, settings.workers
        self._free: list[_Looker] = []
        self._waiting: deque[_Asked] = deque()
        self._breaths: list[asyncio.Future[None]] = []
        self._together = 1
        self.room = Grants(settings.max_decoding_bytes - self._workers * settings.unasked_bytes)
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
        self._together = told["together"]
        self._watching = asyncio.create_task(self._watch(reader, writer))
        for _ in range(self._workers):
            await self._add()
        found = Bundle(bundle, Manifest.from_dict(told["manifest"]))
        usual = Doubts.load(found, has_embedding=True).usual
        return Served(found, Identity(**told["identity"]), told["golden_difference"], self._together, usual)

    async def look(self, photo: bytes | memoryview, top: int, explain: bool) -> Looked:
        """What the model says. Raises NotAPhoto, or Gone. Cancelled, it ends a process that is at work for it alone."""
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        asked = _Asked(photo, top, explain, answer, explain or len(photo) > SMALL)
        self._waiting.append(asked)
        self._hand_out()
        try:
            told = await answer
        except asyncio.CancelledError:
            if asked.at:
                asked.at.given_up()
            raise
        if "error" in told:
            raise NotAPhoto(told["error"])
        return Looked.from_dict(told)

    async def breathe(self) -> None:
        """Return when one is free: never, while all of them hang."""
        if not self._free:
            self._breaths.append(asyncio.get_running_loop().create_future())
            await self._breaths[-1]

    def close(self) -> None:
        """End them all."""
        self.ended.set()
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()  # and the kernel those that were forked from it
        if self._channel:
            self._channel.close()

    def _hand_out(self) -> None:
        """Have those that are free look at what waits. The last is taken first: no more are at work than need be."""
        while self._waiting and self._free:
            if not self._free[-1].ready:
                self._free.pop()
            elif work := self._next():
                self._free.pop().ask(work)

    def _next(self) -> list[_Asked]:
        """What is to be looked at next, in order: a few together only while there are as many for every process."""
        waiting, taken = self._waiting, list[_Asked]()
        most = min(self._together, len(waiting) // self._workers)
        while waiting and (not taken or (len(taken) < most and not taken[0].alone and not waiting[0].alone)):
            one = waiting.popleft()
            if not one.answer.done():  # else nobody waits for it any more
                taken.append(one)
        return taken

    async def _add(self) -> None:
        """Have one more. Raises OSError: the one that forks is gone, or there are no more file descriptors."""
        assert self._channel
        ours, theirs = socket.socketpair()
        try:
            # More than `max_bytes`: a photo may have what the form around it does not need.
            with theirs, _memory(self._settings.body_limit(1)) as (fd, shared):
                socket.send_fds(self._channel, [b"+"], [theirs.fileno(), fd])
            await asyncio.get_running_loop().create_connection(lambda: _Looker(self, shared), sock=ours)
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
        """It waits for photos."""
        if not looker.ready:
            return
        self._free.append(looker)
        while self._breaths:
            if not (breath := self._breaths.pop()).done():
                breath.set_result(None)
        self._hand_out()

    def again(self, work: list[_Asked]) -> None:
        """One process ended over all of these, and one of them may have been why."""
        for one in reversed(work):
            one.alone, one.at = True, None
            self._waiting.appendleft(one)
        self._hand_out()

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


@contextmanager
def _memory(size: int) -> Iterator[tuple[int, mmap]]:
    """So many bytes that two processes can have: a file descriptor, and ours. Pages that nobody wrote take nothing."""
    fd = os.memfd_create("photo", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)  # under us, it would end this process
        yield fd, mmap(fd, size)
    finally:
        os.close(fd)


class _Looker(asyncio.Protocol):
    """One process, by its socket. It is free from its first word on, and after each answer."""

    def __init__(self, pool: Pool, shared: mmap) -> None:
        self._pool, self._shared = pool, shared
        self._pid: int | None = None
        self._said = b""
        self._held = 0
        self._work: list[_Asked] = []
        self.alive = True

    @property
    def ready(self) -> bool:
        """Whether it can be asked: it has not ended, and is not about to."""
        return self.alive and not self._transport.is_closing()

    def ask(self, work: list[_Asked]) -> None:
        """Look at these, in time."""
        self._work = work
        for one in work:
            one.at = self
        photos, tops = [one.photo for one in work], [one.top for one in work]
        sizes = [len(one) for one in photos]
        if sizes[0] > SMALL:
            self._shared[: sizes[0]] = photos.pop()
        question = json.dumps({"photos": sizes, "tops": tops, "explain": work[0].explain}).encode()
        self._transport.write(b"".join([question, b"\n", *photos]))

    def given_up(self) -> None:
        """Somebody waits no longer. Where nobody does, nothing is to be finished."""
        if self._work and all(one.answer.done() for one in self._work):
            self.end()

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
        # What it held for the photo before: before its answer is looked at, so that it is not idle meanwhile.
        self._give_back()
        if "room" in told:
            self._pool.room.ask(told["room"], lambda: self._granted(told["room"]))
            return
        self._pid = told.get("pid", self._pid)
        work, self._work = self._work, []
        if work and len(work[0].photo) > _HELD:
            with suppress(OSError):  # a kernel that cannot: it stays, and is written over
                self._shared.madvise(MADV_REMOVE, _HELD)
        self._pool.freed(self)
        for one, looked in zip(work, told.get("looked", []), strict=True):
            if not one.answer.done():
                one.answer.set_result(looked)

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._give_back()
        self._shared.close()  # now, and not when Python comes to look for what nobody needs
        work, self._work = self._work, []
        wanted = [one for one in work if not one.answer.done()]
        if len(work) > 1:
            self._pool.again(wanted)
        elif wanted:
            log.error("process %s ended while it looked at a photo", self._pid)
            wanted[0].answer.set_exception(Gone())
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

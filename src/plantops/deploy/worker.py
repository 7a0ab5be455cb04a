"""The supervisor's end of one worker: its process, its channel, the last it said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops.deploy import unix

_ANSWER_S = 5.0
_STOP_S = 3.0
_TAIL = 30
_SIGN = "breathe"
_LOG_LIMIT = 1_000_000
_ACCESS_LIMIT = 20_000_000


@dataclass(frozen=True)
class Order:
    """What to run: the bundle's folder, and flags for ``python -m plantops.serve``."""

    bundle: str
    flags: tuple[str, ...]


class WorkerGone(Exception):
    """The worker did not do what it was told; the text says why."""


class Log:
    """A file for what the workers say, with a bound: the older half is kept as ``<name>.1``.

    What a full disk does not take is lost: nobody would read the worker's pipe any more, and it would hang in it.
    """

    def __init__(self, path: Path, limit: int = _LOG_LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._file = path.open("ab", buffering=0)

    def write(self, text: bytes) -> None:
        """Append."""
        with contextlib.suppress(OSError):
            if self._file.tell() > self._limit:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                full, self._file = self._file, self._path.open("ab", buffering=0)
                full.close()
            self._file.write(text)


class Logs:
    """What the workers say, and who asked them."""

    def __init__(self, folder: Path) -> None:
        self.said = Log(folder / "worker.log")
        self.access = Log(folder / "access.log", _ACCESS_LIMIT)


class Worker:
    """A running ``python -m plantops.serve``. Make one with :meth:`start`."""

    def __init__(self, number: int, order: Order, path: Path, process: asyncio.subprocess.Process) -> None:
        self.number = number
        self.order = order
        self.path = path
        self.process = process
        self.status = "starting"
        self.reason: str | None = None
        self.restarts = 0
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.began = time.monotonic()
        self.loaded = asyncio.Event()
        self.ended = asyncio.Event()
        self._sign = asyncio.Event()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    async def start(cls, number: int, order: Order, folder: Path, public: socket.socket, logs: Logs) -> Worker:
        """Start it; it loads its bundle and waits to be told to accept."""
        path = folder / f"worker-{number}.sock"
        private = unix.listen(path)
        ours, theirs = socket.socketpair()
        fds = {"public": public.fileno(), "private": private.fileno(), "control": theirs.fileno()}
        flags = [word for name, fd in fds.items() for word in (f"--{name}-fd", str(fd))]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "plantops.serve", "--bundle", order.bundle, *order.flags, *flags,
            pass_fds=list(fds.values()), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        private.close()
        theirs.close()
        worker = cls(number, order, path, process)
        reader, worker._writer = await asyncio.open_connection(sock=ours)
        doing = (worker._listen(reader), worker._keep(logs.said), worker._note(logs.access))
        worker._tasks = [asyncio.create_task(one) for one in doing]
        return worker

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.returncode is None

    async def tell(self, word: str) -> dict[str, Any]:
        """Say ``word`` and return the answer. Raises WorkerGone."""
        if not self.alive or self._writer is None:
            raise WorkerGone(f"worker {self.number} has ended ({self.process.returncode})")
        self._writer.write(word.encode() + b"\n")
        try:
            async with asyncio.timeout(_ANSWER_S):
                while (answer := await self._answers.get())["did"] != word:
                    continue  # an answer that came too late for whoever asked
                return answer
        except TimeoutError:
            raise WorkerGone(f"worker {self.number} did not answer `{word}` within {_ANSWER_S:g} s") from None

    async def breathes(self, seconds: float) -> bool:
        """Ask for a sign of life; whether it came within so many seconds. One that has ended does not hang."""
        self._sign.clear()
        if self.alive and self._writer is not None:
            self._writer.write(_SIGN.encode() + b"\n")
            waits = [asyncio.create_task(self._sign.wait()), asyncio.create_task(self.ended.wait())]
            done, late = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for wait in late:
                wait.cancel()
            return bool(done)
        return True

    async def wait_loaded(self) -> str:
        """``healthy``, ``failed`` or ``ended``, as soon as it is known."""
        waits = [asyncio.create_task(self.loaded.wait()), asyncio.create_task(self.ended.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self.status

    async def stop(self, patience: float = _STOP_S) -> None:
        """Make it end soon: it answers what it is being asked, for at most ``patience`` seconds."""
        if self.alive and self._writer is not None:
            with contextlib.suppress(ConnectionError):
                self._writer.write(b"stop\n")
        if not await self._gone(patience):
            self._signal(signal.SIGKILL)
            await self._gone(_STOP_S)

    async def wait(self) -> int:
        """Return its exit status once it has ended and all it said is written down."""
        status = await self.process.wait()
        # A grandchild could hold the pipe open; what the worker itself said is there at once.
        await asyncio.wait(self._tasks, timeout=1)
        for task in self._tasks:
            task.cancel()
        if self._writer:
            self._writer.close()
        self.path.unlink(missing_ok=True)
        self.status = "ended"
        self.ended.set()
        return status

    def describe(self) -> dict[str, Any]:
        """For the supervisor's status."""
        return {
            "number": self.number,
            "pid": self.process.pid,
            "bundle": self.order.bundle,
            "status": self.status,
            "reason": self.reason,
            "restarts": self.restarts,
            "exit": self.process.returncode,
            "socket": str(self.path),
            "tail": list(self.tail),
        }

    def _signal(self, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signum) if self.alive else None

    async def _gone(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        return self.ended.is_set()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = json.loads(line)
                if message.get("did") == _SIGN:
                    self._sign.set()  # not among the answers: an order may be waiting for its own
                elif "did" in message:
                    self._answers.put_nowait(message)
                else:
                    self.status, self.reason = message["status"], message["reason"]
                    self.loaded.set()

    async def _note(self, access: Log) -> None:
        assert self.process.stdout is not None
        while chunk := await self.process.stdout.read(65536):
            access.write(chunk)

    async def _keep(self, log: Log) -> None:
        assert self.process.stderr is not None
        while chunk := await self.process.stderr.read(65536):
            log.write(chunk)
            self.tail.extend(chunk.decode(errors="replace").splitlines())

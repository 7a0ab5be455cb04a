"""The workers that a supervisor keeps, and the orders that change their roles. One that dies or hangs is replaced.

*serving* has the traffic; *standing* had it and may get it back; *trial* has none yet; *draining* ones answer what
they have and end. Whoever starts or switches must settle (or go back): when that process dies before, everything
returns to as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from plantops.deploy.worker import Logs, Order, Worker, WorkerGone

PROTOCOL = 1
BACKLOG = 4096
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_SETTLED_S = 60.0
_MOST_DRAINING = 6
_STOP_S = 120.0
_PULSE_S = 5.0
_SILENT_S = 15.0


class Crew:
    """Lives in one event loop; ``_lock`` keeps the orders one after the other."""

    def __init__(self, folder: Path, public: socket.socket, address: tuple[str, int]) -> None:
        self.folder = folder
        self.address = address
        self.public = public
        self.stopping = asyncio.Event()
        self._logs = Logs(folder)
        self._lock = asyncio.Lock()
        self._numbers = 0
        self._serving: Worker | None = None
        self._standing: Worker | None = None
        self._trial: Worker | None = None
        self._draining: list[Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._caller: int | None = None
        self._unsettled = False

    async def answer(self, request: dict[str, Any], caller: int) -> dict[str, Any]:
        """Carry out one request of process ``caller``; ``{"error": text}`` when it could not be done."""
        verbs: dict[str, Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]] = {
            "status": self._status,
            "start": self._start,
            "switch": self._switch,
            "back": self._back,
            "settle": self._settle,
            "abandon": self._abandon,
            "stop": self._stop,
        }
        verb = verbs.get(request.get("do", ""))
        if verb is None:
            return {"error": f"unknown request {request.get('do')!r}"}
        if verb == self._status:
            return await verb(request)
        async with self._lock:
            try:
                if verb in (self._start, self._switch):
                    self._watch_caller(caller)
                return await verb(request)
            except (WorkerGone, OSError) as error:
                return {"error": str(error)}

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        roles = {"serving": self._serving, "standing": self._standing, "trial": self._trial}
        return {
            "pid": os.getpid(),
            "protocol": PROTOCOL,
            "address": self.address,
            "draining": len(self._draining),
            **{role: worker and worker.describe() for role, worker in roles.items()},
        }

    async def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._trial:
            await self._trial.stop()  # left by a caller that died
        self._trial = await self._spawn(Order(request["bundle"], tuple(request["flags"])))
        return self._trial.describe()

    async def _switch(self, request: dict[str, Any]) -> dict[str, Any]:
        trial = self._trial
        if trial is None or trial.number != request["number"] or trial.status != "healthy":
            return {"error": f"worker {request['number']} is no healthy trial"}
        if self._serving is None:
            self.public.listen(BACKLOG)
        await trial.tell("accept")
        await self._let_go(self._standing)
        self._standing, self._serving, self._trial = self._serving, trial, None
        self._unsettled = True
        await self._hush(self._standing, "pause")
        return {}

    async def _back(self, request: dict[str, Any]) -> dict[str, Any]:
        old = self._standing
        if old is None:
            return {"none": True}
        if await old.wait_loaded() != "healthy":
            return {"error": f"the old worker cannot take over: {old.status}, {old.reason}"}
        await old.tell("accept")
        new, self._serving, self._standing = self._serving, old, None
        self._settled()
        await self._let_go(new)
        return {}

    async def _settle(self, request: dict[str, Any]) -> dict[str, Any]:
        old, self._standing = self._standing, None
        self._settled()
        await self._let_go(old)
        return {}

    async def _abandon(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._trial and self._trial.number == request["number"]:
            trial, self._trial = self._trial, None
            await trial.stop()
        return {}

    async def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        self.stopping.set()
        return {}

    async def end(self) -> None:
        """Stop every worker: each answers what it is being asked."""
        async with self._lock:
            workers = [self._serving, self._standing, self._trial, *self._draining]
            self._serving = self._standing = self._trial = None
        await asyncio.gather(*(worker.stop(_STOP_S) for worker in workers if worker))
        self.public.close()

    def end_if_unused(self) -> None:
        """End when there is nothing to keep: whoever started us died before giving an order."""
        if not (self._serving or self._trial):
            self.stopping.set()

    def _watch_caller(self, pid: int) -> None:
        """Undo what the process began when it dies before it settles."""
        self._forget_caller()
        self._caller = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._caller, self._caller_died)

    def _forget_caller(self) -> None:
        if self._caller is not None:
            asyncio.get_running_loop().remove_reader(self._caller)
            os.close(self._caller)
            self._caller = None

    def _settled(self) -> None:
        self._unsettled = False
        self._forget_caller()

    def _caller_died(self) -> None:
        self._forget_caller()
        if self._trial or self._unsettled or self._serving is None:
            self._say("whoever was deploying died: back to what served before")
            self._in_background(self._undo())

    async def _undo(self) -> None:
        async with self._lock:
            if self._trial:
                trial, self._trial = self._trial, None
                await trial.stop()
            if self._unsettled and (await self._back({})).get("error"):
                return  # the old one does not start: the new one is better than nothing
            if self._unsettled or self._serving is None:
                self.stopping.set()

    async def _spawn(self, order: Order) -> Worker:
        self._numbers += 1
        worker = await Worker.start(self._numbers, order, self.folder, self.public, self._logs)
        self._in_background(self._mind(worker))
        self._in_background(self._feel_pulse(worker))
        return worker

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _let_go(self, worker: Worker | None) -> None:
        """Let a worker answer what it has and end by itself."""
        if worker is None or not worker.alive:
            return
        self._draining.append(worker)
        await self._hush(worker, "end")
        if len(self._draining) > _MOST_DRAINING:
            self._in_background(self._draining[0].stop(_STOP_S))

    async def _hush(self, worker: Worker | None, word: str) -> None:
        """Make a worker take no more connections, come what may."""
        if worker is None or not worker.alive:
            return
        try:
            await worker.tell(word)
        except WorkerGone as error:
            self._say(f"{error}: killed")
            await worker.stop(0)

    async def _mind(self, worker: Worker) -> None:
        """Wait for a worker's end; start it again when it had a role."""
        status = await worker.wait()
        if worker in self._draining:
            self._draining.remove(worker)
        pause = _FIRST_PAUSE_S * 2 ** min(worker.restarts, 10)
        if time.monotonic() - worker.began > _SETTLED_S:
            pause, worker.restarts = _FIRST_PAUSE_S, 0
        if self._role(worker):
            self._say(f"worker {worker.number} ({worker.order.bundle}) ended with status {status}: starting it again")
            await asyncio.sleep(min(pause, _LONGEST_PAUSE_S))
            await self._bring_back(worker)

    async def _bring_back(self, dead: Worker) -> None:
        """Start it again, however long the machine has no process or no file left for that."""
        while self._role(dead) and not self.stopping.is_set():
            try:
                await self._revive(dead)
            except OSError as error:
                self._say(f"worker {dead.number} cannot be started: {error}")
                await asyncio.sleep(_LONGEST_PAUSE_S)

    async def _revive(self, dead: Worker) -> None:
        async with self._lock:
            role = self._role(dead)
            if not role or self.stopping.is_set():
                return
            fresh = await self._spawn(dead.order)
            fresh.restarts = dead.restarts + 1
            setattr(self, role, fresh)
        status = await fresh.wait_loaded()
        async with self._lock:
            if fresh is self._serving and status != "ended":
                # One that failed accepts too: its callers hear why (503), rather than nothing.
                await self._accept(fresh)
        if status == "failed":
            await asyncio.sleep(_LONGEST_PAUSE_S)
            if self._role(fresh):
                await fresh.stop()

    async def _feel_pulse(self, worker: Worker) -> None:
        """Ask a worker for a sign of life now and then; replace one that hangs."""
        while worker.alive and not self.stopping.is_set():
            await asyncio.sleep(_PULSE_S)
            if self._role(worker) and not await worker.breathes(_SILENT_S):
                self._say(f"worker {worker.number} gives no sign of life since {_SILENT_S:g} s: replacing it")
                await self._replace(worker)

    async def _replace(self, hung: Worker) -> None:
        """New before old: connections wait in the kernel's queue, and one that was only slow answers what it has."""
        async with self._lock:
            if not self._role(hung) or self.stopping.is_set():
                return
            fresh = await self._spawn(hung.order)
        healthy = await fresh.wait_loaded() == "healthy"
        async with self._lock:
            role = self._role(hung)
            if not (role and healthy):
                await fresh.stop()
                return
            setattr(self, role, fresh)
            if role == "_serving":
                await self._accept(fresh)
            await self._let_go(hung)

    async def _accept(self, worker: Worker) -> None:
        try:
            await worker.tell("accept")
        except WorkerGone as error:
            self._say(str(error))
            await worker.stop(0)

    def _role(self, worker: Worker) -> str:
        """The attribute that holds the worker, if it is one to keep going."""
        for name in ("_serving", "_standing"):
            if getattr(self, name) is worker:
                return name
        return ""

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk has no room for it; what is said of goes on
            print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)

"""The tiny process that owns the listening socket, outlives the command line, and keeps workers going.

``python -m plantops.deploy.supervisor FOLDER HOST PORT``. It answers on ``FOLDER/control.sock``, one JSON document a
line: ``status``, ``start``, ``switch``, ``back``, ``settle``, ``abandon``, ``stop``. Workers get its listening
socket, so a connection waits in the kernel's queue, and is not refused, while no worker is accepting.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path

from plantops.deploy import unix
from plantops.deploy.crew import Crew

_FIRST_ORDER_S = 30.0


def main(argv: list[str]) -> int:
    """Run until told to stop; status 1 when another supervisor holds the folder, 2 when the port is taken."""
    folder, host, port = Path(argv[0]), argv[1], int(argv[2])
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another supervisor runs here", flush=True)
        return 1
    try:
        public = bind(host, port)
    except OSError as error:
        print(f"cannot listen on {host}:{port}: {error}", flush=True)
        return 2
    asyncio.run(_run(Crew(folder, public, (host, port))))
    return 0


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: while nothing serves, connections are refused. Raises OSError."""
    public = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    public.bind((host, port))
    public.setblocking(False)
    return public


async def _run(crew: Crew) -> None:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, crew.stopping.set)
    loop.call_later(_FIRST_ORDER_S, crew.end_if_unused)
    path = crew.folder / "control.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            pid, uid, _gid = _peer(writer)
            if uid == os.getuid():
                answer = await crew.answer(json.loads(await reader.readline()), pid)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()

    async with await asyncio.start_unix_server(serve, sock=unix.listen(path)):
        await crew.stopping.wait()
        path.unlink(missing_ok=True)
        await crew.end()


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int, int]:
    """Process, user and group id of who is at the other end of a unix socket."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("3i", credentials)
    return pid, uid, gid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

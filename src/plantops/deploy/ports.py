"""Who listens on a TCP port (Linux: /proc)."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"


@dataclass(frozen=True)
class Holder:
    """A process with a listening socket; ``pid`` is None when it belongs to somebody else."""

    pid: int | None
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.pid else self.command


def free() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


def holder(port: int) -> Holder | None:
    """The process that listens on ``port``, on any address; None when nobody does."""
    sockets = _listening(port)
    if not sockets:
        return None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and sockets & _sockets(entry):
            return Holder(int(entry.name), _command(entry))
    return Holder(None, "a program of another user")


def exposed(port: int) -> bool:
    """Whether somebody listens on ``port`` for other machines, too."""
    return any(not _is_loopback(address) for _, address in _listeners(port))


def obstacle(host: str, port: int) -> str | None:
    """Why we could not listen there now, naming who does; None when we could."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            trial.listen(1)
        except OSError as error:
            who = holder(port) if error.errno == errno.EADDRINUSE else None
            return f"port {port} is taken by {who}" if who else f"cannot listen on {host}:{port}: {error.strerror}"
    return None


def _listening(port: int) -> set[str]:
    return {name for name, _ in _listeners(port)}


def _listeners(port: int) -> list[tuple[str, str]]:
    """Of each listening socket: its name as a link in /proc, and its address in hexadecimal, as the kernel has it."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # no IPv6 on this machine
        for fields in map(str.split, lines):
            address, _, number = fields[1].rpartition(":")
            if fields[3] == _LISTEN and int(number, 16) == port:
                found.append((f"socket:[{fields[9]}]", address))
    return found


def _is_loopback(address: str) -> bool:
    """127.0.0.0/8, also inside IPv6, and ::1. Each word of the address is in the machine's own order."""
    words = [int(address[place : place + 8], 16).to_bytes(4, sys.byteorder) for place in range(0, len(address), 8)]
    return ipaddress.ip_address(b"".join(words)).is_loopback or (
        len(words) > 1 and words[:3] == [bytes(4), bytes(4), b"\0\0\xff\xff"] and words[3][0] == 127
    )


def _sockets(process: Path) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # it ended, or is not ours
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(os.readlink(fd))
    return found


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "ended meanwhile"
    return shlex.join(word.decode(errors="replace") for word in words)[:120]

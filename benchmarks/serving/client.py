"""A load client: so many connections, each asking again as soon as it is answered. Prints one JSON document.

    python client.py PORT PATH CONCURRENCY SECONDS BODIES

BODIES is a folder: ``type`` holds the content type, every other file a whole body. Requests are put together before the
clock starts, and answers are only looked at for their status, so that the client takes little of the server's cores:
``share`` says how much of one core.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import sys
import time
from pathlib import Path

_AT_ONCE = 1 << 16


class Asker:
    """One connection. It asks at once."""

    def __init__(self, port: int, requests: list[bytes], start: int) -> None:
        self.line = socket.create_connection(("127.0.0.1", port))
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.line.setblocking(False)
        self.requests, self.turn = requests, start
        self.ask()

    def ask(self) -> None:
        """Send the next request, as far as the connection takes it."""
        self.turn += 1
        self.began, self.answer = time.perf_counter(), b""
        self.left = memoryview(self.requests[self.turn % len(self.requests)])
        self.send()

    def send(self) -> None:
        """Send what is left of it."""
        try:
            while self.left:
                self.left = self.left[self.line.send(self.left) :]
        except (BlockingIOError, ConnectionError):  # of the second, `read` tells
            return

    def read(self) -> int | None:
        """The status, once an answer is whole; 0 of a connection that was cut. Else nothing more has come yet."""
        while (status := self._status()) is None:
            try:
                came = self.line.recv(_AT_ONCE)
            except BlockingIOError:
                return None
            except ConnectionError:
                return 0
            if not came:
                return 0
            self.answer += came
        return status

    def _status(self) -> int | None:
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if not found:
            return None
        lengths = [int(one[15:]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:")]
        whole = len(body) >= lengths[0] if lengths else body.endswith(b"0\r\n\r\n")
        return int(self.answer[9:12]) if whole else None


def load(port: int, requests: list[bytes], concurrency: int, seconds: float) -> list[tuple[float, int]]:
    """Every request's seconds and status."""
    seen, until, step = list[tuple[float, int]](), time.perf_counter() + seconds, max(1, len(requests) // concurrency)
    askers = {one.line.fileno(): one for one in (Asker(port, requests, n * step) for n in range(concurrency))}
    ready = select.epoll()
    for number in askers:
        ready.register(number, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    while askers:
        for number, what in ready.poll():
            one = askers[number]
            one.send()
            if not what & ~select.EPOLLOUT or (status := one.read()) is None:
                continue
            now = time.perf_counter()
            seen.append((now - one.began, status))
            if status and now < until:
                one.ask()
            else:
                askers.pop(number).line.close()
    return seen


def main() -> None:
    """See the top."""
    port, path, concurrency, seconds, folder = sys.argv[1:]
    kind = (Path(folder) / "type").read_text()
    bodies = [one.read_bytes() for one in sorted(Path(folder).iterdir()) if one.name != "type"]
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    seen = load(int(port), requests, int(concurrency), float(seconds))
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    times = sorted(spent for spent, status in seen if status == 200)
    told = {
        "answers": len(times),
        "failed": len(seen) - len(times),
        "per_s": len(times) / took,
        "p50_ms": 1e3 * times[len(times) // 2] if times else None,
        "p99_ms": 1e3 * times[min(len(times) - 1, int(len(times) * 0.99))] if times else None,
        "share": (after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime) / took,
        "pid": os.getpid(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

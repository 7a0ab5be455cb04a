"""A load client: so many connections, each asking again as soon as it is answered. Prints one JSON document.

    python client.py PORT PATH CONCURRENCY SECONDS BODIES

BODIES is a folder: ``type`` holds the content type, every other file a whole body. Requests are put together before the
clock starts, and answers are only looked at for their status, so that the client takes little of the server's cores:
``share`` says how much of one core.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path


class Asker(asyncio.Protocol):
    """One connection."""

    def __init__(self, requests: list[bytes], start: int, until: float, seen: list[tuple[float, int]]) -> None:
        self.requests, self.turn, self.until, self.seen = requests, start, until, seen
        self.done = asyncio.get_running_loop().create_future()
        self.data = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask for the first time."""
        self.transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Note an answer that is whole, and ask again."""
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        lengths = [int(one[15:]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:")]
        whole = len(body) >= lengths[0] if lengths else body.endswith(b"0\r\n\r\n")
        if whole:
            now = time.perf_counter()
            self.seen.append((now - self.began, int(self.data[9:12])))
            self.data = b""
            if now < self.until:
                self._ask()
            else:
                self.transport.close()
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that was cut is a failed request."""
        if not self.done.done():
            self.seen.append((time.perf_counter() - self.began, 0))
            self.done.set_result(None)

    def _ask(self) -> None:
        self.turn += 1
        self.began = time.perf_counter()
        self.transport.write(self.requests[self.turn % len(self.requests)])


async def load(port: int, requests: list[bytes], concurrency: int, seconds: float) -> list[tuple[float, int]]:
    """Every request's seconds and status."""
    seen: list[tuple[float, int]] = []
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    step = max(1, len(requests) // concurrency)
    pairs = [
        await loop.create_connection(lambda n=n: Asker(requests, n * step, until, seen), "127.0.0.1", port)
        for n in range(concurrency)
    ]
    await asyncio.gather(*(asker.done for _, asker in pairs))
    return seen


def main() -> None:
    """See the top."""
    port, path, concurrency, seconds, folder = sys.argv[1:]
    kind = (Path(folder) / "type").read_text()
    bodies = [one.read_bytes() for one in sorted(Path(folder).iterdir()) if one.name != "type"]
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    seen = asyncio.run(load(int(port), requests, int(concurrency), float(seconds)))
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

"""One JSON line for each request, on standard output: who asked what, how it went. Nothing of what a photo shows.

Questions of machines that went well (`/health`, `/metrics`) are left out: they come several times a second.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

QUIET = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
_LONGEST = 200
_MOST = 20_000
_TOGETHER_S = 0.1
_encode = json.JSONEncoder(separators=(",", ":")).encode


class AccessLog:
    """Lines wait for a thread of their own: whoever reads them slowly holds up no request, and loses the oldest."""

    def __init__(self, out: Any = None) -> None:
        self._out = out or sys.stdout
        self._lines: deque[str] = deque(maxlen=_MOST)
        self._written = threading.Lock()
        self._there = threading.Event()
        threading.Thread(target=self._write, name="access log", daemon=True).start()

    def add(self, scope: Scope, status: int, seconds: float, sent: int) -> None:
        """Note one request."""
        if status < 400 and scope["path"] in QUIET:
            return
        self._lines.append(_encode(_facts(scope, status, seconds, sent)))
        self._there.set()

    def flush(self) -> None:
        """Write what waits."""
        with self._written:
            lines = []
            while self._lines:
                lines.append(self._lines.popleft() + "\n")
            self._out.write("".join(lines))
            self._out.flush()

    def _write(self) -> None:
        pause = threading.Event()
        while self._there.wait():
            pause.wait(_TOGETHER_S)  # one write for many requests
            self._there.clear()
            self.flush()


def _facts(scope: Scope, status: int, seconds: float, sent: int) -> dict[str, object]:
    headers, state = Headers(raw=scope["headers"]), scope["state"]
    facts = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": state["request_id"],
        "method": scope["method"],
        "path": scope["path"][:_LONGEST],
        "status": status,
        "ms": round(1e3 * seconds, 1),
        "bytes_in": headers.get("content-length"),
        "bytes_out": sent,
        "client": scope["client"][0] if scope["client"] else None,
        "forwarded_for": headers.get("x-forwarded-for", "")[:_LONGEST] or None,
        "key": state.get("key"),
    }
    return {name: value for name, value in facts.items() if value is not None}

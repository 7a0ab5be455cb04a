"""A plain HTTP client for tests: one request, no retries."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BOUNDARY = "testboundary"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def form(*files: tuple[str, str, bytes]) -> bytes:
    """A multipart body of (field, filename, data)."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n'
    parts = [(head % (field, name)).encode("utf-8", "surrogateescape") + data for field, name, data in files]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 30,
) -> Answer:
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        return read(connection)
    finally:
        connection.close()


def read(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def get(port: int, path: str, timeout: float = 30) -> Answer:
    return request(port, "GET", path, timeout=timeout)


def predict(port: int, data: bytes, query: str = "") -> Answer:
    return post(port, f"/predict{query}", form(("file", "leaf.jpg", data)))


def post(port: int, path: str, body: bytes) -> Answer:
    return request(port, "POST", path, body, {"Content-Type": KIND})


def probabilities(answer: Answer) -> dict[str, float]:
    return {one["class"]: one["confidence"] for one in answer.json["top5_predictions"]}


def until(met: Callable[[], Any], seconds: float = 20, what: str = "it") -> Any:
    """Poll until ``met`` gives something true; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := met():
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def refused(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) != 0

"""The worker as a process by hand: how it ends, and what it says when it cannot begin."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api_client import HOST, KIND, form, get, refused, until
from bundle_factory import photo
from plantops.serve.settings import Settings, cores

pytestmark = pytest.mark.ci


def test_sigterm_finishes_an_upload_and_frees_the_port(worker: Any, release: Path) -> None:
    running = worker(release)
    until(lambda: get(running.port, "/health").status == 200)
    idle = http.client.HTTPConnection(HOST, running.port, timeout=20)
    idle.request("GET", "/health")
    assert idle.getresponse().read()
    body = form(("file", "a.jpg", photo(1)))
    with socket.create_connection((HOST, running.port), timeout=20) as client:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[:100])
        until(lambda: b"api_active_requests 2.0" in get(running.port, "/metrics").body, what="the upload beginning")
        running.process.send_signal(signal.SIGTERM)
        until(lambda: refused(running.port), what="the port being closed")
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""
        client.sendall(body[100:])
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer
    assert running.process.wait(20) == 0


def test_a_connection_accepted_and_not_yet_read_is_still_answered(worker: Any, release: Path) -> None:
    running = worker(release)
    until(lambda: get(running.port, "/health").status == 200)
    with socket.create_connection((HOST, running.port), timeout=20) as client:
        running.process.send_signal(signal.SIGTERM)
        until(lambda: refused(running.port), what="the port being closed")
        client.sendall(b"GET /classes HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK")
    assert running.process.wait(20) == 0


def test_a_port_that_is_taken_is_said(release: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = str(taken.getsockname()[1])
        argv = [sys.executable, "-m", "plantops.serve", "--bundle", str(release), "--port", port]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"cannot serve on 127.0.0.1:{port}" in done.stderr


def test_settings_bound_each_other() -> None:
    settings = Settings(max_upload_mb=2, max_batch=4, threads=3)
    assert settings.max_bytes == 2_000_000
    assert settings.body_limit(4) > 4 * settings.max_bytes
    assert settings.max_held_bytes >= settings.body_limit(4)
    assert settings.workers == 3
    assert Settings().workers == cores() >= 1

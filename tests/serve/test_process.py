"""The worker as a process by hand: how it ends, and what it says when it cannot begin."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from api_client import HOST, KIND, form, get, predict, refused, until
from bundle_factory import photo
from plantops.serve.settings import Settings, cores
from serve.by_hand import family
from serve.test_limits import wide

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


def lookers(running: Any) -> tuple[int, list[int]]:
    """The process that holds the model, and those forked from it, as soon as there are any."""
    until(lambda: len(family(running.process.pid)) > 2)
    _, holder, *forked = family(running.process.pid)
    return holder, forked


def test_a_process_that_dies_takes_one_photo_with_it_and_is_replaced(worker: Any, release: Path) -> None:
    running = worker(release, "--threads", "1", "--max-megapixels", "70")
    until(lambda: get(running.port, "/health").status == 200)
    _, (first,) = lookers(running)
    with ThreadPoolExecutor() as client:
        asked = client.submit(predict, running.port, wide(8_000, 8_000))
        until(lambda: "State:\tR" in Path(f"/proc/{first}/status").read_text(), what="the photo being looked at")
        os.kill(first, signal.SIGKILL)
        late = client.submit(predict, running.port, photo(1))
        assert asked.result().status == 503
        assert "ended, try again" in asked.result().json["detail"]
        assert late.result().status == 200
    _, (second,) = lookers(running)
    assert second != first
    assert running.terminate() == 0


def test_when_the_models_process_dies_the_worker_ends_and_says_so(worker: Any, release: Path) -> None:
    running = worker(release, "--threads", "2")
    until(lambda: get(running.port, "/health").status == 200)
    holder, forked = lookers(running)
    os.kill(holder, signal.SIGKILL)
    assert running.process.wait(10) == 1
    until(lambda: not any(Path(f"/proc/{one}").exists() for one in forked), what="those forked from it ending")


def test_none_is_left_when_the_worker_is_killed(worker: Any, release: Path) -> None:
    running = worker(release, "--threads", "2")
    until(lambda: get(running.port, "/health").status == 200)
    holder, forked = lookers(running)
    running.process.kill()
    running.process.wait(10)
    until(lambda: not any(Path(f"/proc/{one}").exists() for one in (holder, *forked)), what="them ending")


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

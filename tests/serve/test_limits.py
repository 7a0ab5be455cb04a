"""Bad input and too much of it: a clear answer, and the worker goes on."""

from __future__ import annotations

import http.client
import io
import random
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from api_client import BOUNDARY, HOST, KIND, Answer, form, get, post, predict, read, request, until
from bundle_factory import photo
from plantops.serve.settings import Settings

pytestmark = pytest.mark.ci

Start = Callable[..., "object"]


def wide(width: int, height: int) -> bytes:
    """A PNG of many pixels and few bytes."""
    out = io.BytesIO()
    Image.new("L", (width, height)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (photo(1)[:400], "damaged"),
        (b"%PDF-1.7 nothing", "not an image"),
        (wide(10_000, 7_001), "70,000,000 pixels"),
    ],
)
def test_what_is_no_photo_is_400_and_says_why(port: int, data: bytes, says: str) -> None:
    answer = predict(port, data)
    assert answer.status == 400
    assert says in answer.json["detail"]
    assert answer.headers["x-plantops-release"] == "r1"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (None, None, 422),
        (b"raw bytes", "image/jpeg", 422),
        (form(("photo", "a.jpg", photo(1))), KIND, 422),
        (form(("file", "a.jpg", b"text")).replace(b'; filename="a.jpg"', b""), KIND, 422),
        (b"no boundary in here", KIND, 400),
        (form(("file", "a.jpg", photo(1))), "multipart/form-data", 400),
        (form(("file", "a.jpg", photo(1)), ("file", "b.jpg", photo(2))), KIND, 400),
    ],
)  # fmt: skip
def test_a_wrong_form_is_refused_in_words(port: int, body: bytes | None, kind: str | None, status: int) -> None:
    answer = request(port, "POST", "/predict", body, {"Content-Type": kind} if kind else {})
    assert answer.status == status
    assert isinstance(answer.json["detail"], str)
    assert answer.json["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "ISO-8859-1", "utf-7", "undefined"])
def test_a_form_may_name_its_charset(port: int, charset: str) -> None:
    body = form(("file", "a.jpg", photo(1)))
    assert request(port, "POST", "/predict", body, {"Content-Type": f"{KIND}; charset={charset}"}).status == 200


def test_unknown_paths_and_methods_answer_in_json(port: int) -> None:
    assert get(port, "/nothing").json == {"detail": "Not Found"}
    assert request(port, "GET", "/predict").status == 405


def test_too_large_is_413_with_the_whole_body_sent(port: int) -> None:
    answer = predict(port, b"\xff" * 3_000_000)
    assert answer.status == 413
    assert "2.0 MB" in answer.json["detail"]


def test_the_largest_photo_that_a_form_may_hold_is_looked_at(port: int) -> None:
    room = Settings(max_upload_mb=2).body_limit(1) - len(form(("file", "leaf.jpg", b"")))
    whole = photo(1)
    for _ in range(3):  # more than there are processes
        answer = predict(port, whole + b"\0" * (room - len(whole)))
        assert (answer.status, answer.json.get("prediction")) == (200, predict(port, whole).json["prediction"])
    assert predict(port, whole + b"\0" * (room - len(whole) + 1)).status == 413


def test_too_large_is_413_when_the_length_is_not_announced(port: int) -> None:
    chunks = (b"\xff" * 100_000 for _ in range(40))
    head = form(("file", "a.jpg", b"")).rpartition(b"\r\n--")[0]
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    connection.request("POST", "/predict", (c for c in (head, *chunks)), {"Content-Type": KIND}, encode_chunked=True)
    assert read(connection).status == 413
    connection.close()


def test_too_large_is_413_before_a_byte_of_the_body(port: int) -> None:
    with socket.create_connection((HOST, port), timeout=20) as client:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nContent-Length: 9999999999\r\n"
        client.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


def test_expect_100_continue_is_asked_to_go_on(port: int) -> None:
    body = form(("file", "a.jpg", photo(1)))
    with socket.create_connection((HOST, port), timeout=20) as client:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nContent-Length: {len(body)}\r\n"
        client.sendall(head.encode() + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        stream = client.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 100 ")
        client.sendall(body)
        assert b"HTTP/1.1 200 OK" in stream.read()


def test_a_body_that_comes_too_slowly_is_408(hasty: int) -> None:
    with socket.create_connection((HOST, hasty), timeout=20) as client:
        client.sendall(
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nContent-Length: 500\r\n\r\n".encode()
        )
        client.sendall(b"--" + BOUNDARY.encode())
        stream = client.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 408 ")
        assert any(b"longer than 0.6 s" in stream.read1(1000) for _ in range(10))


@pytest.mark.parametrize("first", [b"", b"\r\n", b"POST /predict HTTP/1.1\r\nHost:"])
def test_a_client_that_never_asks_is_let_go(hasty: int, first: bytes) -> None:
    with socket.create_connection((HOST, hasty), timeout=20) as client:
        client.sendall(first)
        assert client.recv(100) == b""


def test_an_answer_that_takes_too_long_is_503_and_what_works_for_it_is_ended(hasty: int) -> None:
    with ThreadPoolExecutor(8) as clients:  # more than the threads can answer in time, however fast the machine is
        answers = list(clients.map(lambda data: predict(hasty, data), [wide(6_300, 6_300)] * 8))
    late = next(one for one in answers if one.status == 503)
    assert "no answer within 0.6 s" in late.json["detail"]
    assert late.headers["retry-after"] == "1"
    until(lambda: predict(hasty, photo(1)).status == 200, what="another process being there")


@pytest.fixture
def narrow(worker: Start, release: Path) -> int:
    """A worker with one thread and no queue."""
    running = worker(release, "--threads", "1", "--max-waiting", "0")
    until(lambda: get(running.port, "/health").status == 200)
    return running.port


def test_a_full_queue_is_503_while_health_still_answers(narrow: int) -> None:
    slow: list[Answer] = []
    data = wide(6_300, 6_300)

    def ask_until_let_in() -> None:
        while not slow:
            answer = predict(narrow, data)
            if answer.status != 503:
                slow.append(answer)

    thread = threading.Thread(target=ask_until_let_in)
    thread.start()
    turned_away = []
    while thread.is_alive() and not turned_away:
        answer = predict(narrow, photo(1))
        if answer.status == 503:
            turned_away.append(answer)
            assert get(narrow, "/health").status == 200
    thread.join()
    assert slow[0].status == 200
    assert turned_away[0].headers["retry-after"] == "1"
    assert "try again" in turned_away[0].json["detail"]
    assert predict(narrow, photo(1)).status == 200


def test_the_time_of_an_answer_is_without_what_is_thrown_away_after_it(port: int) -> None:
    with socket.create_connection((HOST, port), timeout=20) as client:
        client.sendall(b"POST /classes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        stream = client.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 405 ")
        began = time.monotonic()
        assert stream.read()  # until the worker waits no longer for the body
        assert time.monotonic() - began > 1
    found = re.search(rb'duration_seconds_sum\{endpoint="/classes",method="POST"\} (\S+)', get(port, "/metrics").body)
    assert found
    assert float(found[1]) < 1


def test_a_client_that_goes_away_costs_nothing(port: int) -> None:
    def gone() -> bool:
        return b'endpoint="/predict",method="POST",status="499"' in get(port, "/metrics").body

    with socket.create_connection((HOST, port), timeout=20) as client:
        client.sendall(
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nContent-Length: 5000\r\n\r\n".encode()
        )
        client.sendall(form(("file", "a.jpg", b"")))
    until(gone, what="noticing it")
    assert predict(port, photo(1)).status == 200


def test_many_slow_uploads_are_bounded_in_memory(worker: Start, release: Path) -> None:
    running = worker(release, "--max-upload-mb", "1", "--max-batch", "1")
    until(lambda: get(running.port, "/health").status == 200)
    body = form(("file", "a.jpg", b"\xff" * 900_000))
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nContent-Length: {len(body)}\r\n\r\n"
    clients = [socket.create_connection((HOST, running.port), timeout=20) for _ in range(3)]
    for client in clients:
        client.sendall(head.encode() + body[:-10])
    # Two of them fit; the third is turned away although none is complete.
    answer = until(lambda: next((a for a in map(_arrived, clients) if a), None), what="a 503")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert get(running.port, "/health").status == 200
    for client in clients:
        client.close()
    until(lambda: predict(running.port, photo(1)).status == 200, what="the memory being given back")


def _arrived(client: socket.socket) -> bytes:
    client.setblocking(False)
    try:
        return client.recv(1000)
    except BlockingIOError:
        return b""


def test_damaged_photos_never_break_the_worker(port: int) -> None:
    dice = random.Random(4)
    originals = [photo(9, kind=kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")]
    began = time.monotonic()
    seen = set()
    for _ in range(20):
        damaged = []
        for original in (*originals, *originals):
            data = bytearray(original)
            for _ in range(dice.randint(1, 12)):
                data[dice.randrange(min(len(data), 700))] = dice.randrange(256)
            damaged.append(("files", "x", bytes(data)))
        answer = post(port, "/predict_batch", form(*damaged))
        assert answer.status == 200
        seen |= {"error" if "error" in one else "answer" for one in answer.json["results"]}
    assert seen == {"error", "answer"}
    assert time.monotonic() - began < 60

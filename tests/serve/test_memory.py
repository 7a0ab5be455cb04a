"""A worker's memory stays within its bounds, whatever is sent."""

from __future__ import annotations

import io
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from api_client import HOST, KIND, form, get, post, predict, until
from bundle_factory import photo
from plantops.serve.settings import Settings
from serve.by_hand import Running

WIDTH, HEIGHT = 2_400, 2_083  # as many pixels as the worker below takes
SMALL = Settings(max_megapixels=5)
OTHERWISE = 50_000_000  # what four processes and the allocator come to keep
TRANSPARENT_BLACK = b"tRNS", b"\0\0"
TURNED = b"eXIf", b"II*\0" + struct.pack("<LHHHLHHL", 8, 1, 0x0112, 3, 1, 6, 0, 0)


def png(depth: int, colour: int, *more: tuple[bytes, bytes]) -> bytes:
    """Nothing but zeros, of that bit depth and colour type."""
    row = 1 + WIDTH * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] // 8
    head = struct.pack(">LLBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(bytes(row * HEIGHT), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data)) for kind, data in chunks
    )


def webp() -> bytes:
    """One colour, half transparent: 40 bytes, whatever size they say."""
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (1, 2, 3, 128)).save(out, "WEBP", lossless=True)
    data = bytearray(out.getvalue())
    data[21:25] = struct.pack("<L", (WIDTH - 1) | (HEIGHT - 1) << 14 | 1 << 28)  # 14 bits each, and "has alpha"
    return bytes(data)


def saved(mode: str, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (WIDTH, HEIGHT)).save(out, kind, **options)
    return out.getvalue()


def bombs() -> dict[str, bytes]:
    """As many pixels as are allowed, in few bytes, of the kinds that take most to decode."""
    return {
        "1 bit": png(1, 0, TRANSPARENT_BLACK),
        "palette": png(8, 3, (b"PLTE", bytes(6)), (b"tRNS", b"\x80\0")),
        "16 bit": png(16, 6, TURNED),
        "grey and alpha": png(8, 4),
        "webp": webp(),
        "jpeg": saved("CMYK", "JPEG", progressive=True),
        "jpeg in one scan": saved("CMYK", "JPEG"),
        "tiff": saved("RGBA", "TIFF", compression="tiff_adobe_deflate", strip_size=1 << 30),
        "gif": saved("P", "GIF", transparency=0),
    }


def memory(running: Running) -> int:
    """Bytes: the most that the process that answers HTTP ever held."""
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


@contextmanager
def most_of_all(running: Running) -> Iterator[list[int]]:
    """The most bytes that it and those that look at photos held together, as the list's only item, at the end."""
    most, over = [running.memory()], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            most[0] = max(most[0], running.memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


@pytest.fixture
def bounded(worker: Callable[..., Running], release: Path) -> Running:
    """A worker with more processes than there is room for photos of the most pixels."""
    running = worker(release, "--max-megapixels", "5", "--threads", "4")
    until(lambda: get(running.port, "/health").status == 200)
    assert predict(running.port, photo(1)).status == 200
    return running


@pytest.mark.ci
def test_pictures_made_to_take_memory_take_no_more_than_the_bound(bounded: Running) -> None:
    resting, made = bounded.memory(), bombs()
    with most_of_all(bounded) as most:
        whole = post(bounded.port, "/predict_batch", form(*(("files", name, data) for name, data in made.items())))
    assert [one.get("error") for one in whole.json["results"]] == [None] * len(made)
    cut = [("files", name, data[: 9 * len(data) // 10]) for name, data in made.items()]
    assert post(bounded.port, "/predict_batch", form(*cut)).status == 200
    assert most[0] - resting < SMALL.max_decoding_bytes + OTHERWISE == 150_000_000
    assert bounded.memory() - resting < OTHERWISE


@pytest.mark.ci
def test_remarks_in_a_picture_are_not_unpacked_without_end(bounded: Running) -> None:
    before = bounded.memory()
    remarks = [(b"zTXt", b"k%d\0\0" % number + zlib.compress(bytes(1_000_000), 9)) for number in range(64)]
    with most_of_all(bounded) as most:
        answer = predict(bounded.port, png(1, 0, *remarks))
    assert answer.status == 400
    assert "text chunks" in answer.json["detail"]
    assert most[0] - before < 30_000_000


def test_the_defaults_fit_into_the_containers_memory() -> None:
    settings, model_and_server = Settings(), 300_000_000
    uploads = settings.max_held_bytes + settings.max_bytes
    assert uploads + settings.max_decoding_bytes + model_and_server < 2 << 30


@pytest.mark.ci
def test_a_photo_is_held_once(worker: Callable[..., Running], release: Path) -> None:
    running = worker(release, "--max-upload-mb", "5")
    until(lambda: get(running.port, "/health").status == 200)
    body = form(*(("files", f"{number}", b"\xff" * 5_000_000) for number in range(16)))
    before = memory(running)
    assert post(running.port, "/predict_batch", body).json["total"] == 16
    assert memory(running) - before < len(body) + 15_000_000


ASK = b"GET /health HTTP/1.1\r\nHost: x\r\n"
SEND = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("head", "piece", "answered"),
    [
        (ASK, b"X: " + b"y" * 900 + b"\r\n", True),
        pytest.param(ASK + b"X: ", b"y" * 1_000, True, marks=pytest.mark.ci),
        pytest.param(b"GET /", b"y" * 1_000, True, marks=pytest.mark.ci),
        pytest.param(ASK + b"\r\n" + ASK, b"X: y\r\n" * 100, True, marks=pytest.mark.ci),
        pytest.param(SEND + b"0\r\n", b"X: " + b"y" * 900 + b"\r\n", False, marks=pytest.mark.ci),
    ],
    ids=["headers", "value", "url", "second request", "trailer"],
)
def test_an_endless_header_is_cut_off(bounded: Running, head: bytes, piece: bytes, answered: bool) -> None:
    before, answer = memory(bounded), b""
    with socket.create_connection((HOST, bounded.port), timeout=20) as client, suppress(OSError):
        client.sendall(head)
        for _ in range(8_000_000 // len(piece)):
            client.sendall(piece)
        answer = client.makefile("rb").read()
    assert (b"HTTP/1.1 431 Request Header Fields Too Large\r\n" in answer) is answered
    assert (b"larger than 64 KiB" in answer) is answered
    assert memory(bounded) - before < 5_000_000
    assert get(bounded.port, "/health").status == 200


@pytest.mark.parametrize(("size", "status"), [(60_000, b"200"), (66_000, b"431")])
def test_a_header_may_have_64_kib(port: int, size: int, status: bytes) -> None:
    with socket.create_connection((HOST, port), timeout=20) as client:
        client.sendall(ASK + b"Connection: close\r\nX: " + b"y" * size + b"\r\n\r\n")
        assert client.makefile("rb").readline().startswith(b"HTTP/1.1 " + status)

"""Every malformed thing is answered in JSON that says what is wrong, and what a camera may well send is taken."""

from __future__ import annotations

import http.client
import io
import socket
import time
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from api_client import BOUNDARY, HOST, KIND, Answer, form, get, post, predict, probabilities, read, request
from bundle_factory import photo

pytestmark = pytest.mark.ci

SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><rect width='9' height='9'/></svg>"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def picture(mode: str = "RGB", size: tuple[int, int] = (60, 45)) -> Image.Image:
    return Image.open(io.BytesIO(photo(3, size))).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def animated(kind: str) -> bytes:
    more = [picture().rotate(turn) for turn in (90, 180)]
    return saved(picture(), kind, save_all=True, append_images=more, duration=100)


def sixteen_bit() -> bytes:
    return saved(Image.fromarray((np.arange(60 * 45).reshape(45, 60) * 20).astype(np.uint16)), "PNG")


def transparent_palette() -> bytes:
    return saved(picture().quantize(16), "PNG", transparency=3)


def bad_crc() -> bytes:
    data = bytearray(saved(picture(), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    return bytes(data)


def huge() -> bytes:
    """A PNG header that says 20,000 x 20,000."""
    data = bytearray(saved(Image.new("1", (20, 20)), "PNG"))
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


REFUSED = {
    "truncated jpeg": (photo(1)[: len(photo(1)) // 2], "damaged"),
    "bad crc": (bad_crc(), "damaged"),
    "svg": (SVG, "not an image"),
    "heic": (HEIC, "not an image (JPEG, PNG, WebP, BMP, TIFF or GIF)"),
    "huge": (huge(), "more than 70,000,000 pixels"),
    "nothing": (b"", "empty file"),
    "text called jpg": (b"just words\n" * 40, "not an image"),
    "html before a gif": (b"<html><script>" + animated("GIF"), "not an image"),
}
TAKEN = {
    "animated gif": animated("GIF"),
    "animated webp": animated("WEBP"),
    "cmyk": saved(picture("CMYK"), "JPEG"),
    "16 bit": sixteen_bit(),
    "transparent palette": transparent_palette(),
    "one pixel": saved(Image.new("RGB", (1, 1), (9, 99, 9)), "PNG"),
    "grey": saved(picture("L"), "JPEG"),
    "jpeg that is also html": photo(1) + b"<html><script>alert(1)</script>",
    "jpeg that is also zip": photo(1) + b"PK\x05\x06" + bytes(18),
}


def problem(answer: Answer) -> str:
    """What a refusal says; it is JSON, and nothing of a trace."""
    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert b"Traceback" not in answer.body
    return str(answer.json["detail"])


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photo_is_400(port: int, name: str) -> None:
    data, says = REFUSED[name]
    answer = predict(port, data)
    assert says in problem(answer)
    assert answer.status == 400


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_camera_or_a_browser_may_send_is_answered(port: int, name: str) -> None:
    assert predict(port, TAKEN[name]).status == 200


@pytest.mark.parametrize("turn", range(2, 9))
def test_a_turned_photo_is_seen_as_a_person_sees_it(port: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    turned = saved(picture(), "PNG", exif=exif)
    upright = saved(ImageOps.exif_transpose(Image.open(io.BytesIO(turned))), "PNG")
    assert probabilities(predict(port, turned)) == probabilities(predict(port, upright))


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (form(("other", "a.jpg", photo(1))), KIND, 422),
        (form(("file", "a.jpg", photo(1)), ("file", "b.jpg", photo(2))), KIND, 400),
        (photo(1), "image/jpeg", 422),
        (b'{"file": "x"}', "application/json", 422),
        (b"file=x", "application/x-www-form-urlencoded", 422),
        (form(*((f"f{number}", "x", b"y") for number in range(300))), KIND, 400),
        (form(("file", "a.jpg", b"x")).replace(b"\r\n\r\n", b"X: y" * 9_000, 1), KIND, 400),
        (b"--", KIND, 422),
        (b"", KIND, 422),
        (form(("file", "a.jpg", photo(1)))[:-8], KIND, 422),
        (form(("file", "a.jpg", photo(1))), "multipart/form-data; boundary=" + 300 * "x", 400),
        (form(("file", "a.jpg", photo(1))), "multipart/form-data; boundary=\xe9\xff", 400),
    ],
)  # fmt: skip
def test_a_wrong_form_is_refused(port: int, body: bytes, kind: str, status: int) -> None:
    answer = request(port, "POST", "/predict", body, {"Content-Type": kind})
    assert problem(answer)
    assert answer.status == status


@pytest.mark.parametrize("name", ["a\0b.jpg", "../../etc/passwd", "é" * 500, "\udcff", 'a"; x="y'])
def test_a_files_name_is_only_said_again(port: int, name: str) -> None:
    assert predict(port, b"x").status == 400
    answer = post(port, "/predict_batch", form(("files", name, photo(1)), ("files", name, b"x")))
    assert answer.status == 200
    assert [("error" in one) for one in answer.json["results"]] == [False, True]


@pytest.mark.parametrize("query", ["?top=0", "?top=-1", "?top=x", "?top=1001", "?top=" + "9" * 400])
def test_a_wrong_number_of_classes_is_refused(port: int, query: str) -> None:
    answer = predict(port, photo(1), query)
    assert answer.status == 422
    assert "query.top" in problem(answer)


@pytest.mark.parametrize(
    "asked",
    [
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    ],
)
def test_what_is_no_http_is_400_in_json(port: int, asked: bytes) -> None:
    with socket.create_connection((HOST, port), timeout=20) as client:
        client.sendall(asked)
        client.shutdown(socket.SHUT_WR)
        answer = client.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 422 "))
    assert b"content-type: application/json" in head
    assert b"x-content-type-options: nosniff" in head
    assert body.startswith(b'{"detail":')


@pytest.mark.parametrize("offer", ["h2c", "websocket"])
def test_an_offer_to_speak_otherwise_is_passed_over(port: int, offer: str) -> None:
    """As `curl --http2` makes it."""
    body = form(("file", "a.jpg", photo(1)))
    more = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": offer, "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    for _ in range(2):
        connection.request("GET", "/classes", headers=more)
        assert read(connection).status == 200
    connection.request("POST", "/predict", body, {"Content-Type": KIND, **more})
    answer = read(connection)
    assert (answer.status, "curl: --http1.1" in problem(answer)) == (400, True)
    connection.close()


def test_a_body_is_never_taken_for_the_next_request(port: int) -> None:
    hidden = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection((HOST, port), timeout=20) as client:
        client.sendall(head % len(hidden))
        stream = client.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 400 ")
        client.sendall(hidden)
        assert b"HTTP/1.1" not in stream.read()


def test_a_chunked_body_without_end_is_408(hasty: int) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((HOST, hasty), timeout=20) as client:
        client.sendall(head.encode() + f"{len(BOUNDARY) + 2:x}\r\n--{BOUNDARY}\r\n".encode())
        assert client.makefile("rb").readline().startswith(b"HTTP/1.1 408 ")


def test_a_client_that_asks_far_ahead_is_let_go(port: int) -> None:
    with socket.create_connection((HOST, port), timeout=20) as client, suppress(ConnectionError):
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000)
        assert client.makefile("rb").read().count(b"HTTP/1.1 200") < 5_000
    assert get(port, "/health").status == 200


def test_a_client_that_takes_no_answer_is_let_go(hasty: int) -> None:
    asking = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((HOST, hasty))
        client.settimeout(20)
        began = time.monotonic()
        with pytest.raises(ConnectionError):  # noqa: PT012  reset, when the worker gives up
            while time.monotonic() - began < 20:
                client.sendall(asking)
                time.sleep(0.002)  # one after the other, as far as one can who does not look
    assert get(hasty, "/health").status == 200

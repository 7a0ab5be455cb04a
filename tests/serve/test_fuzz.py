"""Photos broken by dice, and whatever the OpenAPI document allows: no answer of 500 or more, and nothing is kept."""

from __future__ import annotations

import http.client
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from api_client import HOST, KIND, form, get, predict, read, until
from bundle_factory import photo
from serve.by_hand import Running
from serve.test_malformed import TAKEN

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
EDGES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1")
KEPT = 40_000_000  # bytes that the allocator may come to keep, however long it goes on


def damaged(dice: random.Random, originals: list[bytes]) -> bytes:
    """A photo with up to four wounds, mostly near its head, where the sizes are."""
    data = bytearray(dice.choice(originals))
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(min(len(data), dice.choice([40, 400, 4_000]))) if data else 0
        wound = dice.randrange(6)
        if wound == 0:
            data[at : at + 1] = bytes([dice.randrange(256)])
        elif wound == 1:
            data[at : at + 4] = dice.choice(EDGES)
        elif wound == 2:
            del data[at : at + dice.choice([1, 50, len(data)])]
        elif wound == 3:
            data[at:at] = dice.randbytes(dice.randint(1, 30))
        elif wound == 4:
            data[at:] = dice.choice(originals)[at:]  # the end of another, maybe of another kind
        else:
            data[at:at] = data[at : at + dice.randint(1, 200)] * dice.randint(1, 20)
    return bytes(data)


def fuzz(running: Running, count: int, seed: int, seconds: float) -> Counter[int]:
    """Send so many damaged photos, as far as the time allows; what was answered."""
    print(f"\nseed {seed}")
    dice = random.Random(seed)
    originals = [*(photo(9, kind=kind) for kind in KINDS), photo(8, turned=True), *TAKEN.values()]
    connection = http.client.HTTPConnection(HOST, running.port, timeout=30)
    seen: Counter[int] = Counter()
    began, warm = time.monotonic(), 0
    for number in range(count):
        data = damaged(dice, originals)
        connection.request("POST", "/predict", form(("file", "x", data)), {"Content-Type": KIND})
        answer = read(connection)
        assert answer.status in (200, 400), (seed, number, answer)
        assert answer.json
        seen[answer.status] += 1
        if number == min(500, count // 4):
            warm = running.memory()
        if time.monotonic() - began > seconds:
            break
    assert running.memory() - warm < KEPT, seed
    assert running.process.poll() is None
    assert predict(running.port, photo(1)).status == 200
    return seen


@pytest.fixture
def running(worker: Callable[..., Running], release: Path, tmp_path: Path) -> Running:
    flags = ("--max-megapixels", "5", "--max-upload-mb", "2", "--access-log", "0", "--kept", str(tmp_path / "kept"))
    started = worker(release, *flags)
    until(lambda: get(started.port, "/health").status == 200)
    return started


@pytest.mark.ci
def test_2000_damaged_photos(running: Running) -> None:
    seen = fuzz(running, 2_000, random.SystemRandom().randrange(1 << 32), 120)
    print(seen)
    assert sum(seen.values()) == 2_000
    assert min(seen[200], seen[400]) > 200


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_100000_damaged_photos(running: Running) -> None:
    seen = fuzz(running, 100_000, random.SystemRandom().randrange(1 << 32), 7_000)
    assert sum(seen.values()) == 100_000
    assert min(seen[200], seen[400]) > 10_000


@pytest.mark.ci
def test_whatever_the_openapi_document_allows_and_forbids(running: Running, tmp_path: Path) -> None:
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program, "schemathesis is a development dependency: scripts/setup"
    before = running.memory()
    url = f"http://{HOST}:{running.port}/openapi.json"
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    argv = [program, "run", url, "--checks", checks, "--max-examples", "60", "--phases", "examples,coverage,fuzzing"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert "Seed:" in done.stdout
    assert running.memory() - before < KEPT
    assert get(running.port, "/health").status == 200

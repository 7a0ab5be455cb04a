"""`plantops predict` by an API and by a bundle: the same answers, bit for bit, and what cannot be used is listed."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from api_client import HOST, free_port, get, predict, probabilities, until
from bundle_factory import make_bundle, make_release, photo
from conftest import plantops
from plantops.ahead import ahead
from plantops.store import Release, Store

pytestmark = pytest.mark.ci


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve photos in folders, and things that are none."""
    for number in range(12):
        path = tmp_path / "leaves" / f"f{number % 3}" / f"{number:02d} é.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number, turned=number % 2 == 0))
    (tmp_path / "leaves/f1/empty").touch()
    (tmp_path / "leaves/f1/notes.txt").write_text("left out by its ending")
    (tmp_path / "leaves/f1/.hidden.jpg").touch()
    os.mkfifo(tmp_path / "leaves/f1/pipe")
    (tmp_path / "leaves/f2/torn.jpg").write_bytes(photo(1)[:900])
    return tmp_path / "leaves"


def told(*argv: str, cwd: Path) -> list[dict[str, Any]]:
    done = plantops("predict", *argv, "--json", "--top", "1000", cwd=cwd, check=False)
    assert done.returncode == 1, done.stderr
    return list(json.loads(done.stdout)["results"])


def test_api_and_bundle_answer_bit_for_bit_alike(port: int, release: Path, folder: Path, tmp_path: Path) -> None:
    by_api = told(str(folder), "--url", f"http://{HOST}:{port}", cwd=tmp_path)
    by_bundle = told(str(folder), "--bundle", str(release), cwd=tmp_path)
    assert [one["photo"] for one in by_api] == [one["photo"] for one in by_bundle]
    assert len(by_api) == 14
    same = ("prediction", "confidence", "top5_predictions", "unsure", "unlike", "error")
    assert [[one.get(key) for key in same] for one in by_api] == [[one.get(key) for key in same] for one in by_bundle]
    first = predict(port, Path(by_api[0]["photo"]).read_bytes(), "?top=1000")
    assert probabilities(first) == {one["class"]: one["confidence"] for one in by_bundle[0]["top5_predictions"]}
    assert {Path(one["photo"]).name: one["error"].split(":")[0] for one in by_bundle if "error" in one} == {
        "empty": "empty file", "torn.jpg": "damaged image",
    }  # fmt: skip


def test_csv_has_a_row_for_each_photo(release: Path, folder: Path, tmp_path: Path) -> None:
    done = plantops("predict", str(folder), "--bundle", str(release), "--csv", cwd=tmp_path, check=False)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 14
    assert all(bool(one["prediction"]) != bool(one["error"]) for one in rows)
    assert "2 of 14 photos could not be used" in done.stderr
    assert "torn.jpg: damaged image" in done.stderr


def test_good_photos_alone_end_with_zero(release: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"odd\xff name.jpg")
    (tmp_path / name).write_bytes(photo(1))
    done = plantops("predict", name, "--bundle", str(release), cwd=tmp_path)
    assert "%" in done.stdout


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["--url", "ftp://x", "p.jpg"], 2, "no URL"),
        (["--url", "http://[::1", "p.jpg"], 2, "no URL"),
        (["--url", "http://host:80x", "p.jpg"], 2, "no URL"),
        (["--url", "http://ho st", "p.jpg"], 2, "no URL"),
        (["--url", f"http://{HOST}:{free_port()}", "p.jpg"], 1, "no answer"),
        (["--bundle", "nowhere", "p.jpg"], 1, "cannot be used"),
        (["--csv", "--json", "p.jpg"], 2, "not both"),
        (["--bundle", "b", "none"], 2, "no photos"),
        (["p.jpg"], 2, "plantops init"),
        (["away.jpg"], 2, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, argv: list[str], status: int, said: str) -> None:
    (tmp_path / "p.jpg").write_bytes(photo(1))
    (tmp_path / "none").mkdir()
    done = plantops("predict", *argv, cwd=tmp_path, check=False)
    assert done.returncode == status
    assert said in done.stderr


class Busy(BaseHTTPRequestHandler):
    """An API that is busy at first, and drops a connection."""

    protocol_version = "HTTP/1.1"
    asked = 0
    alone = threading.Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with Busy.alone:
            Busy.asked += 1
            number = Busy.asked
        if number == 3:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        good = {"prediction": "c", "confidence": 1.0, "top5_predictions": []}
        body = json.dumps({"detail": "busy"} if number < 3 else good).encode()
        self.send_response(503 if number < 3 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def test_it_waits_for_a_busy_api_and_comes_back_after_a_lost_connection(tmp_path: Path) -> None:
    server = ThreadingHTTPServer((HOST, 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    done = plantops("predict", ".", "--url", f"{HOST}:{server.server_port}", "--json", cwd=tmp_path)
    server.shutdown()
    assert [one["prediction"] for one in json.loads(done.stdout)["results"]] == ["c"] * 4
    assert Busy.asked >= 7


def test_a_projects_own_api_answers_and_else_its_release(project: Path, worker: Any) -> None:
    port = free_port()
    config = (project / "config.yaml").read_text()
    (project / "config.yaml").write_text(config.replace("port: 8000", f"port: {port}"))
    leaf = next((project / "data/raw/PlantVillage").rglob("*.jpg"))

    def asked() -> dict[str, Any]:
        done = plantops("predict", str(leaf), "--json", cwd=project)
        return dict(json.loads(done.stdout)["results"][0])

    done = plantops("predict", str(leaf), cwd=project, check=False)
    assert (done.returncode, "no release yet" in done.stderr) == (2, True)
    release = make_release(project / "models/releases/r1")
    with Store(project / ".plantops") as store:
        store.add_release(Release("r1", "2025-01-01", None, "d", True, None, None, None))
        store.put_in_service("r1", "code", "test")
    assert asked()["release"] == "r1"
    worker(release, "--port", str(port))
    until(lambda: get(port, "/health").status == 200, what="healthy")
    assert asked()["model_info"]["release"] == "r1"


def test_anothers_api_on_the_projects_port_is_not_asked(project: Path, worker: Any, release: Path) -> None:
    running = worker(release)
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    config = (project / "config.yaml").read_text()
    (project / "config.yaml").write_text(config.replace("port: 8000", f"port: {running.port}"))
    leaf = next((project / "data/raw/PlantVillage").rglob("*.jpg"))
    assert "no release yet" in plantops("predict", str(leaf), cwd=project, check=False).stderr


@pytest.mark.ci
def test_memory_does_not_grow_with_the_number_of_photos(tmp_path: Path) -> None:
    bundle, data = make_bundle(tmp_path / "b"), photo(1, (1200, 900))
    (tmp_path / "one.jpg").write_bytes(data)

    def peak(count: int) -> int:
        (tmp_path / "list").write_bytes(f"{tmp_path / 'one.jpg'}\0".encode() * count)
        argv = [
            sys.executable,
            "-m",
            "plantops.serve.batch",
            "--bundle",
            str(bundle),
            "--photos",
            str(tmp_path / "list"),
        ]
        code = f"import resource, subprocess; subprocess.run({argv!r}, check=True, stdout=subprocess.DEVNULL); "
        code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert peak(300) < peak(30) + 30_000


def test_ahead_keeps_order_and_holds_a_few() -> None:
    taken: list[int] = []

    def things() -> Any:
        for number in range(50):
            taken.append(number)
            yield number

    answers = ahead(lambda n: n * 2, things(), 2)
    assert next(answers) == 0
    assert len(taken) <= 10
    assert list(answers) == [2 * n for n in range(1, 50)]

"""Who may ask, what every answer carries, and what is noted of it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_client import KIND, Answer, form, get, predict, request, until
from bundle_factory import photo
from plantops.keys import hash_of, new_key
from plantops.serve.access import AccessLog
from plantops.serve.guard import host_allowed, origin_allowed
from serve.by_hand import Running, start

pytestmark = pytest.mark.ci

KEY, OTHER = new_key(), new_key()
SITE = "https://site.example.org"
BODY = form(("file", "leaf.jpg", photo(1)))
FLAGS = ["--keys", f"{hash_of(OTHER)},{hash_of(KEY)}", "--hosts", "leaf.example.org,*.plants.example", "--cors", SITE]


@pytest.fixture(scope="module")
def strict(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A worker that asks for keys, has names, and lets one site in."""
    running = start(release, tmp_path_factory.mktemp("strict") / "log", *FLAGS)
    until(lambda: get(running.port, "/health").status == 200)
    yield running
    running.process.kill()
    running.process.wait(10)


def ask(running: Running, path: str = "/predict", method: str = "POST", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = BODY if method == "POST" else None
    return request(running.port, method, path, body, {"Content-Type": KIND, **named})


@pytest.mark.parametrize(
    "header", [{"X_API_Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer  {OTHER}"}]
)
def test_a_key_opens(strict: Running, header: dict[str, str]) -> None:
    assert ask(strict, **header).status == 200


@pytest.mark.parametrize(
    "header",
    [{}, {"X_API_Key": KEY[:-1]}, {"X_API_Key": hash_of(KEY)}, {"Authorization": f"Basic {KEY}"}, {"X_API_Key": "é"}],
)
def test_without_a_right_key_it_is_401(strict: Running, header: dict[str, str]) -> None:
    answer = ask(strict, **header)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "a key is needed" in answer.json["detail"]
    for path in ("/classes", "/model/info", "/nothing"):
        assert ask(strict, path, "GET", **header).status == 401


def test_machines_that_watch_and_the_pages_need_no_key(strict: Running) -> None:
    for path in (
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/docs",
        "/static-offline-docs/swagger-ui.css",
    ):
        assert get(strict.port, path).status == 200, path


def test_no_key_is_written_anywhere(strict: Running) -> None:
    assert ask(strict, X_API_Key=KEY).status == 200
    until(lambda: strict.said(r'"key":"' + hash_of(KEY)[:8]), what="whose request it was")
    assert not strict.said(KEY)
    assert KEY not in Path(f"/proc/{strict.process.pid}/cmdline").read_text()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:8000", 200), ("plant-disease-api:8000", 200),
        ("leaf.example.org", 200), ("LEAF.example.org.:80", 200), ("a.plants.example", 200), ("app.localhost", 200),
        ("evil.example.org", 421), ("plants.example", 421), ("xplants.example", 421), ("127.0.0.1.evil.example", 421),
        ("leaf.example.org.evil.example", 421), ("localhost.evil.example", 421), ("evil.example#localhost", 421),
    ],
)  # fmt: skip
def test_a_name_that_may_lead_here_by_a_strangers_dns_is_not_answered(strict: Running, host: str, status: int) -> None:
    answer = ask(strict, "/health", "GET", Host=host)
    assert answer.status == status
    if status == 421:
        assert "api.hosts" in answer.json["detail"]
        assert ask(strict, Host=host, X_API_Key=KEY).status == 421


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", 200), ("https://leaf.example.org", "leaf.example.org", 200),
        (SITE, "127.0.0.1:8000", 200), ("https://leaf.example.org:443", "leaf.example.org", 200),
        ("https://evil.example", "127.0.0.1:8000", 403), ("null", "127.0.0.1:8000", 403),
        ("http://127.0.0.1:9000", "127.0.0.1:8000", 403), ("http://site.example.org", "127.0.0.1:8000", 403),
        ("http://[::1", "127.0.0.1:8000", 403), ("", "127.0.0.1:8000", 403),
    ],
)  # fmt: skip
def test_only_its_own_page_and_listed_ones_may_send(strict: Running, origin: str, host: str, status: int) -> None:
    answer = ask(strict, Origin=origin, Host=host, X_API_Key=KEY)
    assert answer.status == status
    assert answer.headers.get("access-control-allow-origin") == (SITE if origin == SITE else None)


def test_a_listed_site_is_told_what_it_may_send(strict: Running) -> None:
    wanted = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-api-key"}
    answer = ask(strict, method="OPTIONS", Origin=SITE, **wanted)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == SITE
    assert ask(strict, Origin=SITE).headers["access-control-allow-origin"] == SITE, "it may read why: 401"
    assert ask(strict, method="OPTIONS", Origin="https://evil.example", **wanted).status == 403


def test_without_cors_no_page_is_let_in(port: int) -> None:
    answer = request(port, "OPTIONS", "/predict", headers={"Origin": SITE, "Access-Control-Request-Method": "POST"})
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/health", "/metrics", "/nothing", "/docs", "/openapi.json", "/predict"])
def test_every_answer_tells_browsers_to_be_careful(port: int, path: str) -> None:
    headers = get(port, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert ("default-src 'none'" in headers["content-security-policy"]) == (path != "/docs")
    assert "server" not in headers


def test_a_request_keeps_its_name_and_gets_one_without(port: int) -> None:
    mine = request(port, "GET", "/health", headers={"X-Request-ID": "walk-17_b"})
    assert mine.headers["x-request-id"] == "walk-17_b"
    made = {get(port, "/health").headers["x-request-id"] for _ in range(20)}
    assert len(made) == 20
    for odd in ("a b", "x" * 65, "../../etc", '"}', "é"):
        name = request(port, "GET", "/health", headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert name.isalnum()


def noted(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.log.read_text().splitlines() if line.startswith("{")]


def test_each_request_is_one_json_line(worker: Callable[..., Running], release: Path) -> None:
    running = worker(release)
    until(lambda: get(running.port, "/health").status == 200)
    answer = request(running.port, "POST", "/predict", BODY, {"Content-Type": KIND, "X-Forwarded-For": "10.1.2.3"})
    get(running.port, "/nothing?secret=1")
    until(lambda: len([one for one in noted(running) if one["status"] != 503]) >= 2, what="two lines")
    first, second = [one for one in noted(running) if one["path"] != "/health"]
    assert (first["method"], first["path"], first["status"]) == ("POST", "/predict", 200)
    assert first["request_id"] == answer.headers["x-request-id"]
    assert (int(first["bytes_in"]), first["bytes_out"]) == (len(BODY), len(answer.body))
    assert (first["client"], first["forwarded_for"]) == ("127.0.0.1", "10.1.2.3")
    assert 0 < first["ms"] < 10_000
    assert (second["path"], second["status"]) == ("/nothing", 404)
    assert "leaf.jpg" not in running.log.read_text()
    assert running.terminate() == 0


def test_nothing_is_noted_when_it_is_not_wanted(worker: Callable[..., Running], release: Path) -> None:
    running = worker(release, "--access-log", "0")
    until(lambda: get(running.port, "/health").status == 200)
    assert predict(running.port, photo(1)).status == 200
    assert running.terminate() == 0
    assert noted(running) == []


def test_what_was_noted_is_written_before_the_end(worker: Callable[..., Running], release: Path) -> None:
    running = worker(release)
    until(lambda: get(running.port, "/health").status == 200)
    for _ in range(20):
        assert get(running.port, "/classes").status == 200
    assert running.terminate() == 0
    assert len([one for one in noted(running) if one["path"] == "/classes"]) == 20


class Stuck(io.StringIO):
    def write(self, text: str) -> int:
        time.sleep(0.05)
        return super().write(text)


def test_a_log_that_nobody_reads_holds_up_no_request() -> None:
    log = AccessLog(Stuck())
    scope = {"path": "/predict", "method": "POST", "headers": [], "client": None, "state": {"request_id": "x"}}
    began = time.monotonic()
    for _ in range(1000):
        log.add(scope, 200, 0.1, 10)
    assert time.monotonic() - began < 1


NAMES = st.from_regex(r"[a-z0-9-]{1,8}(\.[a-z0-9-]{1,8}){1,3}", fullmatch=True)


@given(NAMES, st.sampled_from(["", ":80", ":8000", "."]))
def test_no_name_with_a_dot_is_answered_unasked(name: str, end: str) -> None:
    ours = name.replace(".", "").isdigit() or name.endswith(".localhost")
    assert ours or not host_allowed(name + end, ())
    assert host_allowed(name + end, [name])
    assert host_allowed(name + end, ["*"])


@given(st.text(), st.text())
def test_an_origin_is_judged_whatever_it_is(origin: str, host: str) -> None:
    origin_allowed(origin, host, ())
    host_allowed(host, ())
    assert not origin_allowed("null", host, ()) or host == "null"


def test_the_key_command_makes_a_key_and_its_hash() -> None:
    from conftest import ROOT, plantops

    said = dict(line.split(":") for line in plantops("key", cwd=ROOT).stdout.splitlines())
    assert hash_of(said["key"].strip()) == said["hash"].strip()
    assert plantops("key", cwd=ROOT).stdout != plantops("key", cwd=ROOT).stdout

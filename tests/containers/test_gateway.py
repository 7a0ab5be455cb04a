"""HAProxy in front of the API: what it bears, how long it waits, and that it asks the old container again in time."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from api_client import HOST, KIND, form, free_port, get, predict, request, until
from bundle_factory import photo
from conftest import ROOT
from containers.engine import docker, need_engine, need_image, run
from plantops.config import ApiConfig, ServeConfig
from plantops.deploy.compose import Compose
from plantops.deploy.compose.gateway import Gateway
from plantops.keys import hash_of, new_key

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]
HANGING = 1200


def serve(stack: Compose, release: Path) -> list[str]:
    """Build, start, switch and settle; what settling said."""
    stack.build(release, lambda _: None)
    stack.switch(stack.start(release))
    return stack.settle()


def admin(stack: Compose) -> Gateway:
    """HAProxy's runtime API."""
    return Gateway(stack._config.state / "haproxy" / "admin.sock")


def info(stack: Compose) -> dict[str, str]:
    """What HAProxy tells of itself."""
    return dict(line.split(": ", 1) for line in admin(stack)._ask("show info").splitlines() if ": " in line)


def connections(stack: Compose) -> int:
    """How many clients HAProxy has."""
    return int(info(stack)["CurrConns"])


@contextmanager
def uploads_that_stop_half_way(port: int, count: int) -> Iterator[None]:
    """That many connections, each with a good part of a large photo sent and nothing more to come."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    head = f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {KIND}\r\nContent-Length: 3000000\r\n\r\n"
    with ExitStack() as all_of_them:
        for _ in range(count):
            one = all_of_them.enter_context(socket.create_connection((HOST, port), timeout=10))
            one.setblocking(False)
            one.send(head.encode())
            one.send(bytes(250_000))
        yield


def test_half_sent_uploads_do_not_have_it_killed(stack: Compose, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    (gateway,), (api,) = stack._containers("haproxy"), stack._containers("plant-disease-api")
    docker("pause", api.id)  # takes nothing off HAProxy, so all that it has read it holds
    with uploads_that_stop_half_way(stack.public.port, HANGING):
        until(lambda: connections(stack) >= HANGING, what="HAProxy's taking all of them")
        docker("unpause", api.id)
        began = time.monotonic()
        assert get(stack.public.port, "/health").status == 200
        assert predict(stack.public.port, photo(1)).status in (200, 503)  # 503: busy with what the others sent
        assert time.monotonic() - began < 10
    state = json.loads(docker("inspect", "--format", "{{json .State}}", gateway.id))
    assert (state["Running"], state["OOMKilled"]) == (True, False)
    assert stack._containers("haproxy") == [gateway], "neither killed nor started again"
    until(lambda: predict(stack.public.port, photo(1)).status == 200, 60, "a prediction")


def test_its_health_check_asks_the_haproxy_that_runs(stack: Compose, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    (gateway,) = stack._containers("haproxy")
    check = json.loads(docker("inspect", "--format", "{{json .Config.Healthcheck.Test}}", gateway.id))
    assert run("exec", gateway.id, *check[1:], check=False).returncode == 0
    worker = info(stack)["Pid"]
    docker("exec", gateway.id, "bash", "-c", f"kill -STOP {worker}")
    hanging = ("exec", gateway.id, "timeout", "2", *check[1:])
    try:
        assert run(*hanging, check=False).returncode != 0
    finally:
        docker("exec", gateway.id, "bash", "-c", f"kill -CONT {worker}")


def test_its_patience_is_that_of_config_yaml(stack: Compose, releases: dict[str, Path]) -> None:
    assert serve(stack, releases["one"]) == []
    patient = stack._config
    hasty = Compose(
        replace(patient, deploy=replace(patient.deploy, keep_alive_s=1.5), serve=ServeConfig(request_timeout_s=0.5))
    )
    said = serve(hasty, releases["one"])
    assert said == ["HAProxy keeps its earlier settings until plantops down, then plantops up"]
    hasty.down()
    assert serve(hasty, releases["one"]) == []
    with socket.create_connection((HOST, hasty.public.port), timeout=20) as slow:
        began = time.monotonic()
        slow.send(b"GET /health HTTP/1.1\r\nHost:")  # and never more
        assert b" 408 " in slow.recv(1000).splitlines()[0]
        assert 5 < time.monotonic() - began < 10
    idle = http.client.HTTPConnection(HOST, hasty.public.port, timeout=20)
    idle.request("GET", "/health")
    idle.getresponse().read()
    began = time.monotonic()
    assert idle.sock.recv(1) == b"", "closed"
    assert 1 < time.monotonic() - began < 5


def test_keys_names_and_ids_pass_through_it(stack: Compose, releases: dict[str, Path]) -> None:
    key = new_key()
    asks = ApiConfig(keys=(hash_of(key),), hosts=("leaf.example.org",))
    guarded = Compose(replace(stack._config, api=asks))
    assert serve(guarded, releases["one"]) == []
    guarded.watch(0.3)
    port, body = guarded.public.port, form(("file", "leaf.jpg", photo(1)))
    assert predict(port, photo(1)).status == 401
    mine = {"Content-Type": KIND, "X-API-Key": key, "Host": "leaf.example.org", "X-Request-ID": "walk-17"}
    answer = request(port, "POST", "/predict", body, mine)
    assert (answer.status, answer.headers["x-request-id"]) == (200, "walk-17")
    assert request(port, "POST", "/predict", body, {**mine, "Host": "evil.example"}).status == 421
    assert request(port, "POST", "/predict", body, {**mine, "Origin": "https://evil.example"}).status == 403
    made = get(port, "/health").headers
    assert (len(made["x-request-id"]), made["x-content-type-options"]) == (36, "nosniff")
    (api,) = guarded._containers("plant-disease-api")
    until(lambda: '"request_id":"walk-17"' in docker("logs", api.id), what="the line of the request")
    assert key not in docker("logs", api.id) + docker("inspect", api.id)


def test_a_trial_that_will_not_end_keeps_no_client_waiting(stack: Compose, releases: dict[str, Path]) -> None:
    serve(stack, releases["one"])
    stack.build(releases["two"], lambda _: None)
    trial = stack.start(releases["two"])
    stack.switch(trial)
    docker("kill", "--signal", "STOP", trial.id)  # it hangs, and does not hear that it should end
    gateway = admin(stack)
    for slot in gateway.slots():
        if slot.up:
            gateway._ask(f"set server api/{slot.name} health down")
    assert not any(slot.up for slot in gateway.slots())
    giving_up = threading.Thread(target=stack.abandon, args=(trial,))
    giving_up.start()
    try:
        until(lambda: any(slot.up for slot in gateway.slots()), 5, "the old container's traffic")
        assert get(stack.public.port, "/health").json["release"] == "one"
        assert docker("ps", "-q", "--no-trunc", "--filter", f"id={trial.id}") == trial.id
    finally:
        docker("kill", trial.id)
        giving_up.join()
    until(lambda: stack.agrees(releases["one"]), 30, "the backend's agreement")


def test_after_a_switch_an_api_that_was_away_for_long_gets_its_traffic_back(
    stack: Compose, releases: dict[str, Path]
) -> None:
    for release in releases.values():
        serve(stack, release)
    (one,) = stack._containers("plant-disease-api")
    gateway = admin(stack)
    docker("stop", one.id)
    until(lambda: not any(slot.address for slot in gateway.slots()), 40, "HAProxy's forgetting it")
    docker("start", one.id)
    until(lambda: get(stack.public.port, "/health").status == 200, 10, "an answer")
    assert stack.agrees(releases["two"])


@pytest.fixture
def alone() -> Iterator[int]:
    """The port of a HAProxy with our file and no API behind it."""
    need_engine()
    need_image("haproxy:2.8.10")
    port, name = free_port(), f"plantops-test-{uuid.uuid4().hex[:8]}"
    told = {"KEEP_ALIVE_MS": 5000, "REQUEST_MS": 500, "CLIENT_MS": 5000, "SERVER_MS": 5000}
    settings = [word for key, value in told.items() for word in ("-e", f"{key}={value}")]
    file = ROOT / "docker/haproxy/haproxy.cfg"
    places = ["-v", f"{file}:/usr/local/etc/haproxy/haproxy.cfg:ro", "--tmpfs", "/run/haproxy", "--user", "0:0"]
    docker("run", "-d", "--name", name, "-p", f"{HOST}:{port}:8000", *settings, *places, "haproxy:2.8.10")
    try:
        until(lambda: answered(port, b"GET / HTTP/1.0\r\n\r\n"), what="HAProxy's first answer")
        yield port
    finally:
        docker("rm", "-f", name)


def answered(port: int, sent: bytes) -> bytes:
    """All that comes back, until the connection ends."""
    with suppress(ConnectionError), socket.create_connection((HOST, port), timeout=10) as one:
        one.sendall(sent)
        return b"".join(iter(lambda: one.recv(4096), b""))
    return b""


def test_what_it_answers_itself_is_json_as_far_as_haproxy_lets_it_be(alone: int) -> None:
    slow = b"POST /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nabc"
    for status, sent in ((b"503", b"GET / HTTP/1.0\r\n\r\n"), (b"408", slow)):
        head, _, body = answered(alone, sent).partition(b"\r\n\r\n")
        assert head.split()[1] == status
        assert b"content-type: application/json" in head
        assert b"x-request-id: " in head
        assert json.loads(body)["detail"]
    # No setting of HAProxy's reaches these. When this fails, it does, and docs/serving.md is to say so.
    for status, sent in ((b"400", b"nonsense\r\n\r\n"), (b"408", b"GET / HTTP/1.1\r\nHost: a\r\n")):
        answer = answered(alone, sent)
        assert answer.split()[1] == status
        assert b"<html>" in answer

"""The local backend, verb by verb, with real processes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import stat
import time
from pathlib import Path

import pytest

from api_client import HOST, free_port, get, refused, until
from bundle_factory import SPEC, TinyModel, make_release
from deploy.leftovers import left_over
from plantops.bundle import GOLDEN, GOLDEN_TOLERANCE
from plantops.config import DeployConfig, ServeConfig
from plantops.deploy import BACKENDS, probe
from plantops.deploy.local import Local
from plantops.deploy.protocol import Backend
from plantops.errors import SetupError, StepFailed

pytestmark = pytest.mark.ci


def serve(local: Local, release: Path) -> None:
    local.switch(local.start(release))
    local.settle()


def test_local_is_a_backend(local: Local) -> None:
    backend: Backend = local
    assert backend.name in BACKENDS


def test_first_deployment_and_the_end(local: Local, releases: dict[str, Path]) -> None:
    assert local.serving() is None
    assert local.down() == []
    local.preflight()
    assert "nothing to build" in local.build(releases["one"], print)
    trial = local.start(releases["one"])
    assert trial.release == "one"
    assert refused(local.public.port), "a trial gets no traffic"
    assert local.serving() is None
    assert local.try_golden(trial) < GOLDEN_TOLERANCE
    local.switch(trial)
    local.settle()
    now = local.serving()
    assert now is not None
    assert (now.release, now.status, now.since, now.sample_data) == ("one", "healthy", trial.since, True)
    assert now.url == f"http://127.0.0.1:{local.public.port}"
    local.watch(0.3)
    local.preflight()
    assert local.down() == [f"the API on {now.url} (release one)"]
    assert refused(local.public.port)
    assert local.serving() is None


@pytest.mark.ci
def test_only_we_may_talk_to_the_supervisor(local: Local, releases: dict[str, Path]) -> None:
    local.start(releases["one"])
    folder = local._folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    sockets = [path for path in folder.iterdir() if stat.S_ISSOCK(path.stat().st_mode)]
    assert {path.name for path in sockets} == {"control.sock", "worker-1.sock"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in sockets)


def test_back_returns_to_the_worker_that_stood_by(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    before = local.serving()
    local.switch(local.start(releases["two"]))
    during = local.serving()
    local.back()
    assert (before, during and during.release, local.serving()) == (before, "two", before)


@pytest.mark.ci
def test_back_without_an_old_one_serves_nothing(local: Local, releases: dict[str, Path]) -> None:
    local.switch(local.start(releases["one"]))
    local.back()
    assert local.serving() is None
    assert refused(local.public.port)


@pytest.mark.ci
def test_the_release_in_service_gets_a_fresh_worker(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    first = local.serving()
    serve(local, releases["one"])
    second = local.serving()
    assert first is not None
    assert second is not None
    assert first.release == second.release
    assert first.pid != second.pid
    until(lambda: not Path(f"/proc/{first.pid}/fd").exists(), what="the first worker ending")


@pytest.mark.ci
def test_up_does_nothing_when_it_serves_already(local: Local, releases: dict[str, Path]) -> None:
    local.up(releases["one"])
    first = local.serving()
    local.up(releases["one"])
    assert local.serving() == first
    local.up(releases["two"])
    now = local.serving()
    assert now is not None
    assert now.release == "two"


@pytest.mark.parametrize("first", [pytest.param(True, marks=pytest.mark.ci), False])
def test_a_release_that_fails_its_proof_gets_no_traffic(
    local: Local, releases: dict[str, Path], tmp_path: Path, first: bool
) -> None:
    if not first:
        serve(local, releases["one"])
    before = local.serving()
    bad = make_release(tmp_path / "bad", TinyModel(3), preprocessing=dataclasses.replace(SPEC, fit="squash"))
    with pytest.raises(StepFailed, match=r"NotProven: golden photo") as raised:
        local.start(bad)
    assert "worker.log" in raised.value.hint
    assert local.serving() == before
    assert refused(local.public.port) is first


@pytest.mark.ci
def test_a_worker_that_cannot_start_shows_its_last_words(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    before = local.serving()
    broken = Local(local._folder.parents[1], local._deploy, ServeConfig(max_batch="many"))  # type: ignore[arg-type]
    with pytest.raises(StepFailed, match=r"(?s)ended while starting \(status 2\).*--max-batch"):
        broken.start(releases["two"])
    assert local.serving() == before


@pytest.mark.ci
def test_a_worker_that_never_gets_ready_is_given_up(local: Local, releases: dict[str, Path], tmp_path: Path) -> None:
    serve(local, releases["one"])
    before = local.serving()
    stuck = make_release(tmp_path / "stuck")
    (stuck / "manifest.json").unlink()
    os.mkfifo(stuck / "manifest.json")
    hasty = Local(local._folder.parents[1], dataclasses.replace(local._deploy, start_timeout_s=1.5), ServeConfig())
    with pytest.raises(StepFailed, match=r"not healthy within 1.5 s; last answer of /health: 503 .*starting"):
        hasty.start(stuck)
    assert local.serving() == before
    until(lambda: not left_over(stuck), what="the stuck worker ending")


@pytest.mark.ci
def test_golden_answers_are_compared_through_http(local: Local, tmp_path: Path) -> None:
    release = make_release(tmp_path / "moved")
    trial = local.start(release)
    listed = json.loads((release / GOLDEN).read_text())
    shares = listed["photos"][2]["probabilities"]
    first = next(iter(shares))
    shares[first] += 0.01
    (release / GOLDEN).write_text(json.dumps(listed))
    with pytest.raises(StepFailed, match=r"golden photo 2.jpg: .* answers 0.0100\d\d away"):
        local.try_golden(trial)
    local.abandon(trial)
    assert left_over(local._folder) == []


@pytest.mark.ci
def test_an_abandoned_trial_ends_and_the_old_one_serves_on(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    trial = local.start(releases["two"])
    pid = probe.health(trial.address).json()["pid"]
    local.abandon(trial)
    until(lambda: not Path(f"/proc/{pid}/fd").exists(), what="the trial ending")
    now = local.serving()
    assert now is not None
    assert now.release == "one"
    with pytest.raises(StepFailed, match="no healthy trial"):
        local.switch(trial)


@pytest.mark.ci
def test_a_trial_left_by_a_dead_caller_is_replaced(local: Local, releases: dict[str, Path]) -> None:
    lost = probe.health(local.start(releases["one"]).address).json()["pid"]
    serve(local, releases["two"])
    assert not Path(f"/proc/{lost}/fd").exists()
    now = local.serving()
    assert now is not None
    assert now.release == "two"


def test_a_port_held_by_another_program_is_named(local: Local, releases: dict[str, Path]) -> None:
    with socket.create_server((HOST, local.public.port)):
        for refuse in (local.preflight, lambda: local.start(releases["one"])):
            with pytest.raises(SetupError, match=rf"taken by process {os.getpid()} \(.*python"):
                refuse()
    assert left_over(local._folder) == []


@pytest.mark.ci
def test_a_moved_address_is_refused_while_the_old_one_serves(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    moved = Local(local._folder.parents[1], DeployConfig(port=free_port()), ServeConfig())
    with pytest.raises(SetupError, match=f"serves on 127.0.0.1:{local.public.port}") as raised:
        moved.preflight()
    assert "plantops down" in raised.value.hint
    with pytest.raises(SetupError, match="serves on"):
        moved.up(releases["one"])


@pytest.mark.ci
def test_what_another_project_answers_on_the_port_that_config_names_now_is_not_ours(
    local: Local, releases: dict[str, Path], tmp_path: Path
) -> None:
    other = Local(tmp_path / "other", DeployConfig(port=free_port()), ServeConfig())
    serve(local, releases["one"])
    try:
        serve(other, releases["two"])
        moved = Local(local._folder.parents[1], other._deploy, ServeConfig())
        now = moved.serving()
        assert now is not None
        assert (now.release, now.url) == ("one", local.url)
        assert not moved.agrees(releases["one"])
        assert not moved.agrees(releases["two"])
        assert moved.down() == [f"the API on {local.url} (release one)"]
        assert moved.serving() is None
        assert get(other.public.port, "/health").json["release"] == "two"
    finally:
        other.down()


@pytest.mark.ci
def test_watch_notices_a_worker_that_crashed(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    now = local.serving()
    assert now is not None
    until_dead = time.monotonic() + 0.3
    pid = os.fork()
    if pid == 0:  # kills it while we watch
        time.sleep(max(0, until_dead - time.monotonic()))
        os.kill(now.pid, signal.SIGKILL)
        os._exit(0)
    with pytest.raises(StepFailed, match=r"changed under watch|no answer from"):
        local.watch(10)
    os.waitpid(pid, 0)


@pytest.mark.ci
def test_a_killed_supervisor_leaves_nothing_on_the_port(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    running = local._status()
    assert running is not None
    os.kill(running["pid"], signal.SIGKILL)
    until(lambda: refused(local.public.port), what="the port being free")
    until(lambda: not left_over(local._folder) and not left_over(releases["one"]), what="the worker ending")
    assert local.serving() is None
    serve(local, releases["two"])
    now = local.serving()
    assert now is not None
    assert now.release == "two"


@pytest.mark.ci
def test_sigterm_to_the_supervisor_stops_all(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    running = local._status()
    assert running is not None
    os.kill(running["pid"], signal.SIGTERM)
    until(lambda: not left_over(local._folder) and not left_over(releases["one"]), what="everything ending")
    assert refused(local.public.port)


@pytest.mark.ci
def test_a_release_that_vanished_answers_503_after_a_crash(local: Local, tmp_path: Path) -> None:
    release = make_release(tmp_path / "gone")
    serve(local, release)
    (release / "model.onnx").unlink()
    os.kill(get(local.public.port, "/health").json["pid"], signal.SIGKILL)
    answer = until(lambda: _health(local), what="an answer")
    assert answer.status == 503
    assert "model.onnx is missing" in answer.json["reason"]


def _health(local: Local):  # type: ignore[no-untyped-def]
    try:
        answer = get(local.public.port, "/health")
    except OSError:
        return None  # the connection that the crash cut
    return answer if answer.json["status"] != "starting" else None


@pytest.mark.ci
def test_rolling_back_takes_moments(local: Local, releases: dict[str, Path]) -> None:
    serve(local, releases["one"])
    serve(local, releases["two"])
    began = time.monotonic()
    trial = local.start(releases["one"])
    local.try_golden(trial)
    local.switch(trial)
    local.settle()
    took = time.monotonic() - began
    print(f"start, try, switch, settle: {took:.2f} s")
    assert took < 15  # a second on an idle machine; this one may be busy


def test_the_log_says_who_answers_and_other_services_are_named(local: Local, releases: dict[str, Path]) -> None:
    with pytest.raises(SetupError, match="has not been started yet"):
        local.logs_argv("plant-disease-api", False)
    with pytest.raises(SetupError, match="no service nosuch"):
        local.logs_argv("nosuch", False)
    serve(local, releases["one"])
    path = Path(local.logs_argv("plant-disease-api", False)[-1])
    until(lambda: "healthy: one" in path.read_text(), what="the worker's word")

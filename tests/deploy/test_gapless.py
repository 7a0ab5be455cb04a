"""Releases change under load, and not one request fails."""

from __future__ import annotations

import http.client
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from api_client import HOST, get, read, until
from deploy.load import Load, of_tiny_models, real_photos
from plantops import process
from plantops.deploy.local import Local

KINDS = ("fresh", "busy", "idle", "slow")


def ended(pid: int) -> bool:
    return not process.alive(pid)


def exchange(local: Local, release: Path) -> None:
    trial = local.start(release)
    local.try_golden(trial)
    local.switch(trial)
    local.settle()


def answered(load: Load, release: str, kinds: tuple[str, ...] = KINDS) -> None:
    """Wait until every kind of client was answered by the release, or one failed."""
    until(lambda: load.failures or all(release in load.seen(kind) for kind in kinds), 30, f"answers by {release}")


@pytest.mark.ci
def test_three_switches_under_load(local: Local, releases: dict[str, Path]) -> None:
    exchange(local, releases["one"])
    with Load(local.public.port, of_tiny_models) as load:
        answered(load, "one")
        for name in ("two", "one", "two"):
            load.answers.clear()
            exchange(local, releases[name])
            answered(load, name)
    assert load.failures == []
    assert all("two" in load.seen(kind) for kind in KINDS)


@pytest.mark.ci
def test_an_idle_connection_is_answered_once_more_by_the_old_release(local: Local, releases: dict[str, Path]) -> None:
    exchange(local, releases["one"])
    kept = http.client.HTTPConnection(HOST, local.public.port, timeout=20)
    kept.request("GET", "/classes")
    assert read(kept).status == 200
    exchange(local, releases["two"])
    exchange(local, releases["one"])
    exchange(local, releases["two"])
    assert get(local.public.port, "/health").json["release"] == "two"
    kept.request("GET", "/health")
    answer = read(kept)
    assert (answer.status, answer.json["release"], answer.headers["connection"]) == (200, "one", "close")
    # The old workers end once nobody is connected to them.
    until(lambda: local._status()["draining"] == 0, what="the old workers ending")  # type: ignore[index]


@pytest.mark.ci
def test_going_back_and_forth_under_load(local: Local, releases: dict[str, Path]) -> None:
    exchange(local, releases["one"])
    with Load(local.public.port, of_tiny_models) as load:
        for _ in range(2):
            trial = local.start(releases["two"])
            local.switch(trial)
            load.answers.clear()
            answered(load, "two", ("fresh", "busy"))
            local.back()
            load.answers.clear()
            answered(load, "one")
    assert load.failures == []


@pytest.mark.ci
def test_a_crash_makes_new_connections_wait(local: Local, releases: dict[str, Path]) -> None:
    exchange(local, releases["one"])
    for _ in range(2):
        before = get(local.public.port, "/health").json["pid"]
        os.kill(before, signal.SIGKILL)
        until(partial(ended, before), what="its end")
        after = get(local.public.port, "/health")
        assert (after.status, after.json["release"]) == (200, "one")
        assert after.json["pid"] != before


@pytest.mark.ci
def test_a_worker_that_hangs_is_replaced_and_new_connections_wait(local: Local, releases: dict[str, Path]) -> None:
    exchange(local, releases["one"])
    before = get(local.public.port, "/health").json["pid"]
    os.kill(before, signal.SIGSTOP)
    after = get(local.public.port, "/health", timeout=90)
    assert (after.status, after.json["release"]) == (200, "one")
    assert after.json["pid"] != before
    until(partial(ended, before), what="its end")
    assert "no sign of life" in local._log.read_text()
    assert local._status()["serving"]["status"] == "healthy"  # type: ignore[index]


@pytest.mark.ci
def test_a_worker_that_was_only_slow_answers_what_it_has(local: Local, releases: dict[str, Path]) -> None:
    exchange(local, releases["one"])
    before = get(local.public.port, "/health").json["pid"]
    kept = http.client.HTTPConnection(HOST, local.public.port, timeout=90)
    kept.request("GET", "/classes")
    read(kept)
    os.kill(before, signal.SIGSTOP)
    kept.request("GET", "/health")
    until(lambda: "replacing it" in local._log.read_text(), 60, "the supervisor noticing")
    os.kill(before, signal.SIGCONT)
    assert read(kept).json["pid"] == before
    until(lambda: get(local.public.port, "/health").json["pid"] != before, 30, "another worker")
    kept.close()
    until(partial(ended, before), what="its end")


@pytest.mark.ci
def test_ten_switches_under_more_load_with_real_photos(local: Local, releases: dict[str, Path]) -> None:
    photos = real_photos(8)
    if not photos:
        pytest.skip("no real photos beside the checkout")
    exchange(local, releases["one"])
    with Load(local.public.port, of_tiny_models, photos, each=4, idle_s=2.5) as load:
        answered(load, "one")
        for number in range(10):
            exchange(local, releases["two" if number % 2 == 0 else "one"])
            if number % 3 == 2:
                load.answers.clear()
                answered(load, "one" if number % 2 else "two")
        local.watch(1)
    print(f"{load.total} requests since the last count")
    assert load.failures == []
    assert load.total > 100

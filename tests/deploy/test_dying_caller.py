"""Whoever deploys may die or be interrupted at any point; what served before serves on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api_client import get, refused, until
from bundle_factory import make_release
from deploy.leftovers import left_over
from plantops.deploy.local import Local

CODE = """
import sys, time
from pathlib import Path
from plantops.config import DeployConfig, ServeConfig
from plantops.deploy.local import Local
local = Local(Path(sys.argv[1]), DeployConfig(port=int(sys.argv[2])), ServeConfig())
print("starting", flush=True)
trial = local.start(Path(sys.argv[3]))
if sys.argv[4] == "switched":
    local.switch(trial)
print("there", flush=True)
time.sleep(600)
"""

Deploy = Callable[[Path, str], "subprocess.Popen[str]"]


@pytest.fixture
def deploy(local: Local) -> Deploy:
    """Deploys in a process of its own, up to a point, and then waits to die."""

    def begin(release: Path, until_point: str) -> subprocess.Popen[str]:
        root, port = local._folder.parents[1], str(local.public.port)
        argv = [sys.executable, "-c", CODE, str(root), port, str(release), until_point]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    return begin


def said(caller: subprocess.Popen[str], word: str) -> None:
    assert caller.stdout is not None
    assert next(line for line in caller.stdout if line.strip() == word)


def end(caller: subprocess.Popen[str], signum: signal.Signals) -> None:
    caller.send_signal(signum)
    caller.wait(20)
    assert caller.stdout is not None
    caller.stdout.close()


def released(local: Local) -> str | None:
    now = local.serving()
    return now.release if now else None


@pytest.mark.ci
def test_killed_after_the_switch_the_old_release_is_back(
    local: Local, releases: dict[str, Path], deploy: Deploy
) -> None:
    local.up(releases["one"])
    before = local.serving()
    caller = deploy(releases["two"], "switched")
    said(caller, "there")
    assert released(local) == "two"
    end(caller, signal.SIGKILL)
    until(lambda: local.serving() == before, what="the old release being back")


@pytest.mark.ci
def test_killed_before_the_switch_the_trial_ends(local: Local, releases: dict[str, Path], deploy: Deploy) -> None:
    local.up(releases["one"])
    caller = deploy(releases["two"], "tried")
    said(caller, "there")
    assert left_over(releases["two"])
    end(caller, signal.SIGKILL)
    until(lambda: not left_over(releases["two"]), what="the trial ending")
    assert released(local) == "one"


@pytest.mark.ci
@pytest.mark.parametrize("point", ["tried", "switched"])
def test_killed_at_the_first_deployment_nothing_is_left(
    local: Local, releases: dict[str, Path], deploy: Deploy, point: str
) -> None:
    caller = deploy(releases["one"], point)
    said(caller, "there")
    end(caller, signal.SIGKILL)
    until(lambda: not left_over(local._folder) and not left_over(releases["one"]), what="everything ending")
    assert refused(local.public.port)


@pytest.mark.ci
def test_ctrl_c_while_a_release_loads_ends_it(local: Local, tmp_path: Path, deploy: Deploy) -> None:
    stuck = make_release(tmp_path / "stuck")
    (stuck / "manifest.json").unlink()
    os.mkfifo(stuck / "manifest.json")
    caller = deploy(stuck, "tried")
    said(caller, "starting")
    until(lambda: (local._status() or {}).get("trial"), what="the worker starting")
    end(caller, signal.SIGINT)
    until(lambda: not left_over(stuck) and not left_over(local._folder), what="everything ending")


@pytest.mark.ci
def test_a_caller_that_settled_may_go(local: Local, releases: dict[str, Path], deploy: Deploy) -> None:
    caller = deploy(releases["one"], "switched")
    said(caller, "there")
    local.settle()
    end(caller, signal.SIGKILL)
    assert get(local.public.port, "/health").json["release"] == "one"
    running = local._status()
    assert running is not None
    assert running["serving"]["restarts"] == 0


@pytest.mark.ci
def test_abandoning_after_the_switch_takes_the_traffic_back(local: Local, releases: dict[str, Path]) -> None:
    local.up(releases["one"])
    before = local.serving()
    trial = local.start(releases["two"])
    local.switch(trial)
    local.abandon(trial)
    assert local.serving() == before


@pytest.mark.ci
def test_down_finds_a_supervisor_whose_note_was_lost(local: Local, releases: dict[str, Path]) -> None:
    local.up(releases["one"])
    (local._folder / "supervisor.json").unlink()
    assert local.down() == [f"the API on {local.url} (release one)"]
    assert left_over(local._folder) == []


@pytest.mark.ci
def test_workers_do_not_belong_to_the_run_that_started_them(
    local: Local, releases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTOPS_RUN", "17")
    local.up(releases["one"])
    pid = get(local.public.port, "/health").json["pid"]
    assert b"PLANTOPS_RUN" not in Path(f"/proc/{pid}/environ").read_bytes()

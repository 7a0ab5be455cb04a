"""Photos unlike those it learned from: watch tells people once, and forces a run once where that is wanted."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from api_client import get, predict, until
from conftest import plantops
from plantops.config import Config, MonitorConfig, load
from plantops.steps import serving
from plantops.store import DRIFTED, Release, Store, now
from plantops.watch.guard import Guard
from runs import cheap
from runs.test_watch import quick, quiet, watching
from serve.looking import PLAIN, LookingModel, lighter, looking_release, usual

pytestmark = [pytest.mark.ci, pytest.mark.timeout(200)]
RELEASE = "abc1234-0123456789ab"
__all__ = ["quick", "quiet"]  # fixtures


@pytest.fixture
def drifting(quiet: Path) -> Path:
    """A project whose API has answered two windows of photos that are brighter than usual; its inputs are settled."""
    centre, place = LookingModel().seen(PLAIN[0])[0], quiet / "models/releases" / RELEASE
    looking_release(place, centre, more=usual().arrays(), thresholds={"unlike": 1e9})
    tell, file = quiet / "tell.sh", quiet / "config.yaml"
    tell.write_text(f'#!/bin/sh\necho "$PLANTOPS_TITLE: $PLANTOPS_TEXT" >> {quiet}/told\n')
    tell.chmod(0o755)
    file.write_text(file.read_text().replace("  limit_s: 60", f"  limit_s: 60\n  drifted: {tell}", 1))
    config = load(quiet)
    in_service(config, RELEASE, serving(config))
    plantops("up", cwd=quiet)
    for _ in range(2):
        for one in PLAIN:
            assert predict(config.deploy.port, lighter(one)).status == 200
    assert get(config.deploy.port, "/health").json["drift"]
    return quiet


def in_service(config: Config, name: str, code: str = "") -> None:
    """A release that a run has put there."""
    with Store(config.state) as store:
        store.add_release(Release(name, now(), None, name * 4, True, None, None, None))
        store.put_in_service(name, code, "run x")


def test_status_and_watch_say_it_and_people_are_told_once(drifting: Path) -> None:
    words, told = "brighter than what it learned from, in 2 times 10 photos", drifting / "told"
    assert f"drift       the photos are {words}" in plantops("status", cwd=drifting).stdout
    for times in (1, 0):
        with watching(drifting, "--interval", "300") as watch:
            watch.says("no changes")
            until(lambda: told.exists() and words in told.read_text(), 60, "the hook")
            seen = cheap.state(drifting)["watch"]["checked"]
            watch.process.send_signal(signal.SIGHUP)
            until(lambda before=seen: cheap.state(drifting)["watch"]["checked"] > before, 30, "another look")
            assert watch.said.count("the photos have changed") == times
            assert watch.ends() == 0
    assert told.read_text().count("the photos have changed") == 1
    with Store(drifting / ".plantops", readonly=True) as store:
        assert store.noted(RELEASE, DRIFTED) == words


def test_the_figures_are_shown_once_and_live(drifting: Path) -> None:
    once = json.loads(plantops("status", "--live", "--json", cwd=drifting).stdout)
    assert (once["release"], once["drift"], once["errors"]) == (RELEASE, ["brightness"], 0)
    assert sum(once["classes"].values()) > 0.5
    assert f"release     {RELEASE}" in plantops("status", "--live", cwd=drifting).stdout
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "plantops", "status", "--live"]
    live = subprocess.Popen(argv, cwd=drifting, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = ""
    try:
        while said.count("requests    ") < 3:  # the test's own limit ends it
            said += os.read(ours, 4096).decode()
        live.send_signal(signal.SIGINT)
        assert live.wait(10) == 0
    finally:
        live.kill()
        os.close(ours)
    plantops("down", cwd=drifting)
    away = plantops("status", "--live", cwd=drifting, check=False)
    assert away.returncode == 1
    assert "no answer from" in away.stderr
    assert "try: plantops up" in away.stderr


def test_drift_has_everything_run_again_and_released(drifting: Path) -> None:
    cheap.edit(drifting / "config.yaml", "on_drift: notify", "on_drift: retrain")
    with watching(drifting, "--interval", "2") as watch:
        watch.says("everything is run again", 60)
        watch.says("released: ", 120)
        assert cheap.answering(drifting) not in ("", RELEASE)
        assert watch.ends() == 0
    with Store(drifting / ".plantops", readonly=True) as store:
        current = store.in_service()
        assert current is not None
        assert current.id != RELEASE
        (run,) = (one for one in store.runs(10) if one.release == current.id)
    assert (run.trigger, run.state) == ("watch", "released")


def test_a_run_is_forced_once_for_the_same_inputs(quiet: Path) -> None:
    config = load(quiet)
    retrain = replace(config, monitor=MonitorConfig("retrain"))
    guard = Guard(print)
    in_service(config, RELEASE)
    assert not guard.retrain(retrain, "inputs")
    with Store(config.state) as store:
        store.note(RELEASE, DRIFTED, "brighter")
    assert not guard.retrain(config, "inputs")
    assert guard.retrain(retrain, "inputs")
    guard.retraining(retrain, "inputs")
    assert not guard.retrain(retrain, "inputs")
    in_service(config, "other")  # the run made another model, and the photos drift from what it knows, too
    with Store(config.state) as store:
        store.note("other", DRIFTED, "brighter")
    assert not guard.retrain(retrain, "inputs")
    assert guard.retrain(retrain, "other inputs")

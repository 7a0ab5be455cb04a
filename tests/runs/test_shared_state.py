"""Two machines with one project and one PostgreSQL, in whole runs: one releases, the other waits and tells of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import database
from api_client import free_port, until
from conftest import plantops, sh
from plantops.store import INTERRUPTED, Store
from runs.cheap import RAW, answering, edit, leaves, state

pytestmark = pytest.mark.ci
YELLOW = (220, 220, 60)
LEASE_S = 3


@pytest.fixture(scope="module")
def server() -> Iterator[database.Server]:
    with database.running() as made:
        yield made


@pytest.fixture
def machines(
    ready: Path, tmp_path: Path, server: database.Server, request: pytest.FixtureRequest
) -> Iterator[tuple[Path, Path]]:
    """Two folders with the project, nothing run yet, each with a port of its own."""
    both = tmp_path / "here", tmp_path / "there"
    for folder in both:
        sh("cp", "-a", ready, folder, cwd=tmp_path)
        text = (folder / "config.yaml").read_text()
        for line in text.splitlines():
            if line.strip().startswith(("port: ", "ui_port: ")):
                text = text.replace(line, f"{line.split(':')[0]}: {free_port()}")
        text = text.replace('database: ""', f'database: "{server.url}"').replace("lease_s: 30", f"lease_s: {LEASE_S}")
        (folder / "config.yaml").write_text(text.replace("project: plant-disease", f"project: {request.node.name}"))
        sh("git", "commit", "-qam", "Share it", cwd=folder)
    yield both
    for folder in both:
        plantops("down", cwd=folder, check=False)


def paused(folder: Path, step: str, moment: str) -> subprocess.Popen[str]:
    """`plantops run` that stands still at a step, as on a machine that is suspended."""
    argv = [sys.executable, Path(__file__).with_name("killer.py"), "pause", step, moment, "run"]
    going = subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stands() -> bool:
        assert going.poll() is None, going.communicate()[0]
        return Path(f"/proc/{going.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    until(stands, 120, f"the pause at {step}")
    return going


def ended(going: subprocess.Popen[str]) -> tuple[int, str]:
    """Let it go on, to its end."""
    os.kill(going.pid, signal.SIGCONT)
    said = going.communicate(timeout=120)[0]
    return going.returncode, said


def last_state(folder: Path) -> str:
    with Store(folder / ".plantops", readonly=True) as store:
        last = store.last_run()
    assert last
    return last.state


@pytest.mark.parametrize(("step", "moment"), [("switch", "start"), ("switch", "end"), ("promote", "start")])
def test_a_run_that_was_paused_for_too_long_releases_nothing(
    machines: tuple[Path, Path], step: str, moment: str
) -> None:
    here, there = machines
    going = paused(here, step, moment)
    busy = plantops("run", cwd=there, check=False)
    if busy.returncode != 0:  # a slow machine may have come too late for that
        assert busy.returncode == 5, busy.stderr
        assert "another machine releases: " in busy.stderr
        until(lambda: plantops("run", cwd=there, check=False).returncode == 0, 90, "the other machine's run")
    released = answering(there)
    assert released
    code, said = ended(going)
    assert code == 1, said
    assert "this run has lost its turn to release" in said
    assert answering(here) == ""
    assert last_state(here) == INTERRUPTED
    told = state(here)["shared"]
    assert [one["release"] for one in told["served"]] == [released]
    assert told["releasing"] is None
    again = plantops("run", cwd=here)
    assert "DVC found nothing to run" in again.stdout
    assert answering(here)


def test_a_run_that_was_paused_for_too_long_leaves_the_old_release_serving(machines: tuple[Path, Path]) -> None:
    here, there = machines
    plantops("run", cwd=here)
    before = answering(here)
    leaves(here / RAW / "NewClass", YELLOW, 20)
    sh("dvc", "add", "--quiet", RAW / "NewClass", cwd=here)
    edit(here / "config.yaml", "max_fall: 0.04", "max_fall: 0.5")
    going = paused(here, "switch", "end")
    until(lambda: plantops("run", cwd=there, check=False).returncode == 0, 90, "the other machine's run")
    code, said = ended(going)
    assert code == 1, said
    assert answering(here) == before
    assert [one["release"] for one in state(there)["shared"]["served"] if one["machine"].endswith("/here")] == [before]


def test_the_others_watch_report_and_take_their_turn(machines: tuple[Path, Path], tmp_path: Path) -> None:
    here, there = machines
    for folder in machines:
        edit(folder / "config.yaml", f"lease_s: {LEASE_S}", "lease_s: 60")
    going = paused(here, "gate", "start")
    log = tmp_path / "log"
    argv = [sys.executable, "-m", "plantops", "watch", "--interval", "0.5"]
    with log.open("w") as file:
        watching = subprocess.Popen(argv, cwd=there, stdout=file, stderr=file)
    try:
        until(lambda: "waiting: another machine releases: " in log.read_text(), 30, "the word of it")
        shown = plantops("status", cwd=there).stdout
        releasing = next(line for line in shown.splitlines() if line.startswith("releasing   "))
        assert releasing.endswith(": plantops run")
        assert "releasing" not in plantops("status", cwd=here).stdout, "going on says it"
        assert "releasing: " in plantops("doctor", cwd=there, check=False).stdout
        assert ended(going)[0] == 0
        told = f"elsewhere   {os.uname().nodename}:{there} has "
        until(lambda: told in plantops("status", cwd=here).stdout, 120, "its turn")
        until(lambda: f"/here has {answering(here)} in service since" in log.read_text(), 30, "the word of the release")
    finally:
        watching.terminate()
        assert watching.wait(30) == 0
    assert told + answering(there) in plantops("status", cwd=here).stdout


def test_a_database_that_goes_away_in_the_middle_loses_nothing(machines: tuple[Path, Path]) -> None:
    here, _ = machines
    with database.running() as own:
        text = (here / "config.yaml").read_text()
        url = text.partition('database: "')[2].partition('"')[0]
        edit(here / "config.yaml", url, own.url)
        going = paused(here, "gate", "end")
        own.stop(signal.SIGQUIT)
        code, said = ended(going)
        assert code == 1, said
        assert f"the shared database postgresql://[redacted]@127.0.0.1:{own.port}" in said
        assert database.PASSWORD not in said
        away = plantops("run", cwd=here, check=False)
        assert away.returncode == 2
        assert "start it, or mend share.database" in away.stderr
        assert "shared      the shared database" in plantops("status", cwd=here).stdout
        own.start()
        assert "DVC found nothing to run" in plantops("run", cwd=here).stdout
        assert answering(here)
        logs = "".join(path.read_text() for path in (here / ".plantops/logs").iterdir())
        assert database.PASSWORD not in logs


def test_a_rollback_needs_no_turn_and_is_told(machines: tuple[Path, Path]) -> None:
    here, there = machines
    plantops("run", cwd=here)
    first = answering(here)
    edit(here / "params.yaml", "seed: 1", "seed: 2")
    edit(here / "config.yaml", "max_fall: 0.04", "max_fall: 0.5")
    plantops("run", cwd=here)
    assert answering(here) != first
    going = paused(there, "gate", "start")
    plantops("rollback", cwd=here)
    assert answering(here) == first

    def told() -> bool:
        return [one["release"] for one in state(there)["shared"]["served"]] == [first]

    until(told, 30, "the word of the rollback")
    ended(going)

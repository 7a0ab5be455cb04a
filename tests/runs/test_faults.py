"""SIGKILL and Ctrl-C at the start and end of every step: goes on, trains nothing twice, leaves nothing half written."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_client import until
from conftest import plantops, sh
from plantops import process, steps
from plantops.bundle import Bundle
from plantops.shelf import Shelf
from plantops.store import Store
from runs.cheap import aliases, answering, edit, make, state, url

pytestmark = pytest.mark.ci

STEPS = [one.name for one in steps.steps(steps.Options())]
POINTS = [(name, moment) for name in STEPS for moment in ("start", "end")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, _own_home: None) -> Iterator[Path]:
    folder = make(tmp_path_factory.mktemp("faults") / "project")
    yield folder
    plantops("down", cwd=folder, check=False)


def fresh(folder: Path) -> None:
    """As if nothing had ever been run."""
    plantops("down", cwd=folder, check=False)
    for name in (".plantops", "mlruns", "models", "metrics", "plots", "data/prepared"):
        shutil.rmtree(folder / name, ignore_errors=True)
    sh("rm", "-rf", *(folder / ".dvc/cache/runs").glob("*"), cwd=folder)
    sh("git", "checkout", "-q", "dvc.lock", cwd=folder)


def strike(folder: Path, fault: str, name: str, moment: str, *command: str) -> subprocess.CompletedProcess[str]:
    killer = Path(__file__).with_name("killer.py")
    return sh(sys.executable, killer, fault, name, moment, *(command or ["run"]), cwd=folder, check=False)


def whole(folder: Path, finished: tuple[str, ...] = ("released", "unchanged")) -> None:
    """Store, production, registry, shelf and the API agree; no copy is half written; one training is recorded."""
    shelf = Shelf(folder / "models")
    with Store(folder / ".plantops", readonly=True) as store:
        current, known = store.in_service(), {one.id for one in store.releases()}
        assert store.last_run().state in finished
    assert current
    assert answering(folder) == current.id == shelf.produced()
    assert {one.name for one in shelf.releases.iterdir()} == known
    for one in known:
        assert Bundle.load(shelf.release(one)).golden()
    until(lambda: aliases(folder)["champion"] == current.version, what="the champion's following")


def trainings(folder: Path) -> list[tuple[str, int]]:
    """(status, how many) of MLflow's runs."""
    db = sqlite3.connect(folder / "mlruns/mlflow.db")
    rows = db.execute("SELECT status, count(*) FROM runs WHERE lifecycle_stage = 'active' GROUP BY status ORDER BY 1")
    return rows.fetchall()


class Asker(threading.Thread):
    """Asks /health over and over: every answer must be a release that was or comes into service."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.stopped, self.seen = folder, threading.Event(), set()

    def run(self) -> None:
        while not self.stopped.wait(0.01):
            self.seen.add(answering(self.folder))


@pytest.mark.parametrize(("name", "moment"), POINTS)
def test_killed_in_a_first_run(project: Path, name: str, moment: str) -> None:
    fresh(project)
    killed = strike(project, "kill", name, moment)
    assert killed.returncode == -9
    again = plantops("run", cwd=project)
    trained_before = (STEPS.index(name), moment == "end") >= (STEPS.index("reproduce"), True)
    assert ("\n    train\n" in again.stdout) != trained_before, "nothing is trained twice"
    if (name, moment) != ("promote", "end"):
        assert "died before its end" in again.stdout
    whole(project)
    assert ("FINISHED", 1) in trainings(project)


@pytest.mark.parametrize(("name", "moment"), POINTS)
def test_killed_in_a_later_run_the_api_answers_throughout(project: Path, name: str, moment: str) -> None:
    if not answering(project):
        plantops("run", cwd=project)
    old = answering(project)
    text = (project / "params.yaml").read_text()
    seed = int(re.search(r"^seed: (\d+)", text, re.MULTILINE)[1])
    edit(project / "params.yaml", f"seed: {seed}", f"seed: {seed + 1}")
    asker = Asker(project)
    asker.start()
    try:
        assert strike(project, "kill", name, moment).returncode == -9
        plantops("run", cwd=project)
    finally:
        asker.stopped.set()
        asker.join()
    assert "" not in asker.seen, "the API was away"
    assert asker.seen == {old, answering(project)}
    whole(project)


@pytest.mark.parametrize("name", STEPS)
def test_interrupted_in_each_step(project: Path, name: str) -> None:
    if not answering(project):
        plantops("run", cwd=project)
    old = answering(project)
    seed = int(re.search(r"^seed: (\d+)", (project / "params.yaml").read_text(), re.MULTILINE)[1])
    edit(project / "params.yaml", f"seed: {seed}", f"seed: {seed + 1}")
    stopped = strike(project, "interrupt", name, "start")
    assert stopped.returncode == 130
    assert "interrupted" in stopped.stderr
    assert answering(project) == old
    last = state(project)["last_run"]
    assert last["state"] == "interrupted"
    assert process.left_over(last["id"]) == []
    plantops("run", cwd=project)
    whole(project)
    assert url(project)

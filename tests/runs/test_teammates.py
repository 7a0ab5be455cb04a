"""What goes to teammates and comes from them in whole runs: a bare repository, a DVC remote, a colleague's clone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_client import free_port, until
from conftest import plantops, sh
from plantops import bring, dvc
from plantops.config import load
from plantops.console import Console
from plantops.store import Store
from runs.cheap import RAW, aliases, answering, edit, get, leaves, url

pytestmark = pytest.mark.ci
YELLOW, PINK = (220, 220, 60), (240, 40, 240)


@pytest.fixture(scope="module")
def team(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Our project with a git remote and a DVC remote, released once and shared; and a colleague's clone."""
    base = tmp_path_factory.mktemp("team")
    here, other = base / "here", base / "other"
    sh("cp", "-a", ready, here, cwd=base)
    own_port(here)
    sh("git", "init", "-q", "--bare", base / "origin", cwd=base)
    sh("git", "remote", "add", "origin", base / "origin", cwd=here)
    sh("dvc", "remote", "add", "-d", "store", base / "remote", cwd=here)
    edit(here / "config.yaml", 'remote: "" ', 'remote: "origin" ')
    edit(here / "config.yaml", "commit: false", "commit: true")
    edit(here / "config.yaml", "max_fall: 0.04", "max_fall: 0.5")
    for line in ("# and push", "# send"):
        edit(here / "config.yaml", f"push: false                  {line}", f"push: true {line}")
    sh("git", "commit", "-qam", "Work together", cwd=here)
    sh("git", "push", "-q", "-u", "origin", "main", cwd=here)
    plantops("run", cwd=here)
    sh("git", "clone", "-q", base / "origin", other, cwd=base)
    yield here, other
    plantops("down", cwd=here, check=False)
    plantops("down", cwd=other, check=False)


def own_port(folder: Path) -> None:
    """A port of its own, committed, for a project on the same machine."""
    edit(folder / "config.yaml", f"  port: {load(folder).deploy.port}\n", f"  port: {free_port()}\n")
    sh("git", "commit", "-qam", "Take another port", cwd=folder)


def add_class(folder: Path, name: str, colour: tuple[int, int, int]) -> None:
    """As the guide types it, and on to the teammates."""
    sh("git", "pull", "-q", "--rebase", cwd=folder)
    leaves(folder / RAW / name, colour, 20)
    sh("dvc", "add", "--quiet", RAW / name, cwd=folder)
    sh("git", "add", f"{RAW}/{name}.dvc", "dvc.lock", cwd=folder)
    sh("git", "commit", "-qm", f"Add {name}", cwd=folder)
    sh("dvc", "push", RAW / f"{name}.dvc", cwd=folder)
    sh("git", "push", "-q", cwd=folder)


def head(folder: Path, ref: str = "HEAD") -> str:
    return sh("git", "rev-parse", ref, cwd=folder).stdout.strip()


def status(folder: Path) -> str:
    return sh("git", "status", "--porcelain", cwd=folder).stdout


def classes(folder: Path) -> list[str]:
    try:
        return get(url(folder) + "/classes")["classes"]
    except OSError:
        return []


def test_a_release_is_committed_sent_and_pushed(team: tuple[Path, Path]) -> None:
    here, _ = team
    assert status(here) == ""
    message = sh("git", "log", "--grep", "Plantops-Run", "-1", "--format=%B", "origin/main", cwd=here).stdout
    assert "\n\naccuracy " in message
    assert "is up to date" in sh("dvc", "push", cwd=here).stdout
    before = head(here)
    assert "no changes" in plantops("run", cwd=here).stdout
    assert head(here) == before


def test_a_clone_brings_what_it_needs_and_trains_nothing(team: tuple[Path, Path], tmp_path: Path) -> None:
    here, _ = team
    other = tmp_path / "another"
    sh("git", "clone", "-q", here.parent / "origin", other, cwd=tmp_path)
    edit(other / "config.yaml", "commit: true", "commit: false")
    own_port(other)
    sh("dvc", "remote", "modify", "--local", "store", "url", tmp_path / "empty", cwd=other)
    with Store(other / ".plantops") as store:  # what is not to be had is no error: it would be run
        bring.outputs(load(other), store, dvc.inputs(other), Console())
    assert not (other / "models/candidate").exists()
    (other / ".dvc/config.local").unlink()
    done = plantops("run", cwd=other)
    try:
        assert "DVC found nothing to run" in done.stdout
        assert answering(other)
        with sqlite3.connect(other / "mlruns/mlflow.db") as database:
            origins = database.execute("SELECT value FROM tags WHERE key = 'plantops.origin'").fetchall()
        assert origins == [("restored",)]
        assert aliases(other) == {"champion": 1}
    finally:
        plantops("down", cwd=other, check=False)


def test_an_experiment_that_is_applied_is_a_change_like_any_other(team: tuple[Path, Path]) -> None:
    here, _ = team
    before = answering(here)
    try:
        sh("dvc", "exp", "run", "-n", "better", "-S", "train.epochs=2", "-S", "seed=7", cwd=here)
        sh("git", "checkout", "-q", ".", cwd=here)
        sh("dvc", "checkout", cwd=here)
        sh("dvc", "exp", "apply", "better", cwd=here)
        assert "train.epochs 3 → 2" in plantops("check", cwd=here).stdout
        done = plantops("run", cwd=here)
        assert "DVC found nothing to run" in done.stdout
        assert answering(here) not in ("", before)
        assert "yours to commit: params.yaml" in done.stdout
        assert status(here) == " M params.yaml\n"
    finally:
        sh("git", "commit", "-qam", "Apply it", cwd=here, check=False)
        sh("git", "push", "-q", cwd=here)


def test_watch_releases_what_a_colleague_pushes(team: tuple[Path, Path], tmp_path: Path) -> None:
    here, other = team
    sh("git", "config", "remote.origin.pushurl", tmp_path / "nowhere", cwd=here)
    add_class(other, "NewClass", YELLOW)
    with (tmp_path / "log").open("w") as log:
        argv = [sys.executable, "-m", "plantops", "watch", "--interval", "0.5"]
        watching = subprocess.Popen(argv, cwd=here, stdout=log, stderr=log)
    said = (tmp_path / "log").read_text
    try:
        until(lambda: "NewClass" in classes(here), 120, "the release of the colleague's class")
        until(lambda: "not shared yet: git push origin failed" in said(), what="the push that fails")
        assert "Add NewClass (Tester)" in said()
        # its own commit, which no other machine has, stops nothing
        add_class(other, "Second", PINK)
        until(lambda: "Second" in classes(here), 120, "the release of the second class")
        until(lambda: said().count("not shared yet") == 2, what="the second push that fails")
        # local work stops it, and is not touched
        with (here / "cheap_stages.py").open("a") as file:
            file.write("# mine\n")
        before = head(here)
        sh("git", "rm", "-q", f"{RAW}/Second.dvc", cwd=other)
        sh("git", "commit", "-qm", "Take Second away", cwd=other)
        sh("git", "push", "-q", cwd=other)
        until(lambda: "wait: changed here and not committed: cheap_stages.py" in said(), 60, "the word about it")
        assert head(here) == before
        assert (here / "cheap_stages.py").read_text().endswith("# mine\n")
        sh("git", "commit", "-qam", "Mine", cwd=here)
        until(lambda: "went different ways" in said(), 60, "the word about that")
        sh("git", "pull", "-q", "--rebase", cwd=here)
        sh("git", "config", "--unset", "remote.origin.pushurl", cwd=here)
        until(lambda: "Second" not in classes(here), 120, "the release without the class")
        assert not (here / RAW / "Second").exists()
        until(lambda: "pushed to origin/main" in said(), what="the push")
        assert head(here) == head(here, "origin/main")
    finally:
        watching.terminate()
        assert watching.wait(timeout=20) == 0


def test_a_rule_that_is_pushed_with_photos_judges_them(team: tuple[Path, Path]) -> None:
    here, other = team
    sh("git", "pull", "-q", "--rebase", cwd=other)
    leaves(other / RAW / "Third", PINK, 20)
    sh("dvc", "add", "--quiet", RAW / "Third", cwd=other)
    sh("dvc", "push", RAW / "Third.dvc", cwd=other)
    edit(other / "config.yaml", "max_model_mb: ", "max_model_mb: 0.00001 # was ")
    sh("git", "add", f"{RAW}/Third.dvc", "config.yaml", cwd=other)
    sh("git", "commit", "-qm", "Add Third, and a rule", cwd=other)
    sh("git", "push", "-q", cwd=other)
    before = answering(here)
    once = plantops("watch", "--once", cwd=here, check=False)
    assert "took up 1 commit of origin/main: Add Third, and a rule (Tester)" in once.stdout
    assert once.returncode == 4, once.stderr
    assert " MB" in once.stderr
    with Store(here / ".plantops", readonly=True) as store:
        last = store.last_run()
    assert last
    assert f"{RAW}/Third.dvc" in last.inputs
    assert last.options["gate"]["max_model_mb"] == 0.00001, "by the rule that came with the photos"
    assert answering(here) == before

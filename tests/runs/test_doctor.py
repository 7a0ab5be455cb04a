"""`plantops doctor`: what can be wrong is made wrong for real, and comes out with the command that mends it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import sys
from pathlib import Path

import pytest

from api_client import free_port
from bundle_factory import make_release
from conftest import plantops, sh
from plantops.bundle import Bundle
from plantops.config import load
from plantops.store import Release, Store, now
from runs.barred import bar
from runs.cheap import CLASSES, RAW, edit, leaves, url

pytestmark = pytest.mark.ci

RELEASE = "abc1234-0123456789ab"
Found = dict[str, list[dict[str, str]]]


def doctor(folder: Path) -> Found:
    """What it finds, by the part looked at. Wrong means exit 2, and a remedy, always."""
    told = plantops("doctor", "--json", cwd=folder, check=False)
    assert "Traceback" not in told.stderr
    found: Found = {}
    for one in json.loads(told.stdout):
        found.setdefault(one["what"], []).append(one)
    wrong = [one for several in found.values() for one in several if one["state"] == "wrong"]
    assert told.returncode == (2 if wrong else 0), told.stderr
    assert [one for one in wrong if not one["remedy"]] == []
    return found


def wrong(found: Found, what: str) -> str:
    """What is wrong with a part, its sentences joined."""
    return " | ".join(f"{one['says']} -> {one['remedy']}" for one in found[what] if one["state"] == "wrong")


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(one), one.stat().st_mtime_ns) for one in folder.rglob("*"))


def released(folder: Path) -> Path:
    """A release in service, as the store and the shelf hold it; returns its bundle."""
    shelved = make_release(folder / "models/releases" / RELEASE)
    with Store(folder / ".plantops") as store:
        store.add_release(Release(RELEASE, now(), None, Bundle.load(shelved).digest, True, None, None, None))
        store.put_in_service(RELEASE, "code", "a test")
    return shelved


def test_a_new_project_is_well_and_nothing_is_left_behind(project: Path) -> None:
    before = listing(project)
    found = doctor(project)
    states = {what: [one["state"] for one in several] for what, several in found.items()}
    assert states == {
        "python": ["ok"], "config": ["ok"], "parts": ["ok"], "git": ["ok"], "dvc": ["ok"], "remote": ["note"],
        "data": ["ok"], "disk": ["ok"], "mlflow": ["ok"], "run": ["ok"], "model": ["note"], "api": ["ok"],
        "ports": ["ok"], "clock": ["ok"], "prometheus": ["ok"],
    }  # fmt: skip
    assert listing(project) == before


@pytest.mark.ci
def test_all_that_is_wrong_is_told_at_once(project: Path) -> None:
    pepper, potato, tomato = CLASSES
    leaves(project / RAW / "NewClass", (220, 220, 60), 3)
    leaves(project / RAW / pepper, (220, 220, 60), 1, seed=9)
    shutil.rmtree(project / RAW / potato)
    edit(project / "config.yaml", "min_free_gb: 1.0", "min_free_gb: 1000000")
    edit(project / "config.yaml", "\n  bind: 127.0.0.1\n  port", "\n  bind: 0.0.0.0\n  port")
    (project / "mlruns").write_text("in the way")
    model = released(project) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    port = int(url(project).rpartition(":")[2])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        found = doctor(project)
    data = wrong(found, "data")
    assert f"NewClass: 3 photos not under DVC -> dvc add {RAW}/NewClass" in data
    assert f"{pepper}: 20 → 21 photos since its dvc add -> dvc add {RAW}/{pepper}" in data
    assert f"{potato}: its photos are not here -> dvc checkout {RAW}/{potato}.dvc or dvc pull" in data
    assert tomato not in data
    assert "1e+06 wanted -> make room" in wrong(found, "disk")
    assert "mlruns cannot be written" in wrong(found, "mlflow")
    assert f"{RELEASE}: {model} is not the file that manifest.json names -> plantops rollback" in wrong(found, "model")
    assert f"port {port} is taken by process {os.getpid()}" in wrong(found, "api")
    assert [(one["state"], "anybody" in one["says"]) for one in found["bind"]] == [("note", True)]


def test_without_a_commit_and_with_broken_files(project: Path) -> None:
    shutil.rmtree(project / ".git")
    sh("git", "init", "-q", cwd=project)
    (project / "dvc.yaml").write_text("stages: [")
    (project / "mlruns").mkdir()
    (project / "mlruns/mlflow.db").write_text("no database at all, whatever its name says")
    (released(project) / "golden/0.jpg").unlink()
    found = doctor(project)
    assert "has no commit yet -> git add . && git commit" in wrong(found, "git")
    assert "dvc.yaml is broken" in wrong(found, "dvc")
    assert "mlflow.db cannot be written: file is not a database" in wrong(found, "mlflow")
    assert "golden photos missing" in wrong(found, "model")


@pytest.mark.ci
def test_a_damaged_memory_is_a_finding_and_the_rest_is_looked_at(project: Path) -> None:
    (project / ".plantops").mkdir()
    (project / ".plantops/state.db").write_text("no database at all, whatever its name says")
    (project / "mlruns").mkdir()
    edit(
        project / "config.yaml",
        "tracking_uri: sqlite:///mlruns/mlflow.db",
        f"tracking_uri: http://127.0.0.1:{free_port()}",
    )
    for name in list(CLASSES)[1:]:
        shutil.rmtree(project / RAW / name)
    found = doctor(project)
    assert "state.db is damaged (file is not a database) -> plantops doctor --fix" in wrong(found, "memory")
    assert [one["state"] for one in found["run"] + found["model"]] == ["ok", "note"]
    assert "does not answer: " in wrong(found, "mlflow")
    assert f"1 class folders in {RAW}; two are needed -> copy photos" in wrong(found, "data")
    assert [one["state"] for one in found["git"] + found["dvc"] + found["disk"]] == ["ok"] * 3


@pytest.mark.ci
def test_fix_mends_what_is_safe_to_mend_and_says_so(project: Path) -> None:
    release = released(project)
    facts = {"release": RELEASE, "digest": Bundle.load(release).digest, "created": now()}
    (release / "release.json").write_text(json.dumps(facts))
    (project / ".plantops/state.db").write_text("no database at all, whatever its name says")
    (project / ".dvc/tmp").mkdir(exist_ok=True)
    (project / ".dvc/tmp/rwlock").write_text("")
    found = doctor(project)
    assert "plantops doctor --fix" in wrong(found, "memory")
    assert "DVC cannot read it -> plantops doctor --fix" in wrong(found, "dvc")
    told = plantops("doctor", "--fix", "--json", cwd=project)
    assert "state.db is damaged (file is not a database) and is kept as .plantops/state.db.corrupt-" in told.stderr
    assert "1 release came back from models/releases" in told.stderr
    assert "cleared: .dvc/tmp/rwlock" in told.stderr
    assert [one for one in json.loads(told.stdout) if one["state"] == "wrong"] == []
    assert plantops("doctor", "--fix", "--json", cwd=project).stderr == ""


@pytest.mark.ci
def test_what_no_one_foresaw_is_a_finding_too(project: Path) -> None:
    released(project)
    with sqlite3.connect(project / ".plantops/state.db") as database:
        database.execute("DROP TABLE run")
    found = doctor(project)
    assert "no such table: run" in wrong(found, "run")
    assert [one["state"] for one in found["data"] + found["mlflow"]] == ["ok", "ok"]


def test_a_run_that_died_and_a_release_that_is_not_answering_are_notes(project: Path) -> None:
    released(project)
    die = (
        "import os, sys; from pathlib import Path; from plantops.store import Store;"
        "Store(Path('.plantops')).begin('by hand', {}, 'f', {}); os._exit(9)"
    )
    assert sh(sys.executable, "-c", die, cwd=project, check=False).returncode == 9
    found = doctor(project)
    notes = {one["says"]: one["remedy"] for several in found.values() for one in several if one["state"] == "note"}
    assert [remedy for says, remedy in notes.items() if "died before its end" in says] == ["plantops run"]
    assert [remedy for says, remedy in notes.items() if "not running" in says] == ["plantops up"]
    assert f"{RELEASE} in service, its bundle whole" in [one["says"] for one in found["model"]]


def test_a_folder_of_mlflow_that_we_may_not_write(project: Path) -> None:
    barred = bar(project / "mlruns")
    told = sh(*barred, sys.executable, "-m", "plantops", "doctor", cwd=project, check=False)
    assert told.returncode == 2
    assert f"MLflow's folder {project}/mlruns cannot be written" in told.stdout
    assert f"try: ls -ld {project}/mlruns" in told.stdout
    assert "1 thing wrong: mlflow" in told.stderr


def test_what_is_around_a_project(project: Path) -> None:
    """Another's server on a port of ours, open to all; a clock that went back; a git that died; Docker that is away."""
    config = load(project)
    release = released(project)
    facts = {"release": RELEASE, "digest": Bundle.load(release).digest, "created": "2999-01-01T00:00:00+00:00"}
    (release / "release.json").write_text(json.dumps(facts))
    lock = project / ".git/index.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    edit(project / "config.yaml", "backend: local", "backend: auto")
    with socket.socket() as other:
        other.bind(("0.0.0.0", config.mlflow.ui_port))
        other.listen()
        argv = [sys.executable, "-m", "plantops", "doctor", "--json"]
        told = json.loads(sh("env", "DOCKER_HOST=unix:///nowhere", *argv, cwd=project, check=False).stdout)
    said = {one["what"]: one for one in told if one["state"] != "ok"}
    assert f"mlflow.ui_port {config.mlflow.ui_port} is taken by process {os.getpid()}" in said["ports"]["says"]
    assert "for other machines, too" in said["bind"]["says"]
    assert said["clock"]["state"] == "wrong"
    assert said["docker"]["state"] == "note"
    assert "index.lock was left by a git that died" in said["git"]["says"]
    assert "cleared: " in plantops("doctor", "--fix", cwd=project, check=False).stdout
    assert not lock.exists()
    lock.touch()  # a git that works now
    plantops("doctor", "--fix", cwd=project, check=False)
    assert lock.exists()


def test_a_checkout_of_another_user(project: Path) -> None:
    barred = bar(project / "models")
    told = sh(*barred, sys.executable, "-m", "plantops", "doctor", cwd=project, check=False).stdout
    assert re.search(r"wrong  owner .*/models is of \S+ and cannot be written", told)
    assert "try: sudo chown" in told

"""Whole runs in a real project with cheap stages: what a user sees, and what stays true."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from api_client import free_port, until
from conftest import plantops, sh
from plantops import lock
from runs.cheap import CLASSES, RAW, aliases, answering, commit, edit, get, leaves, state, url

pytestmark = pytest.mark.ci


@pytest.mark.ci
def test_a_day_in_the_life(project: Path) -> None:
    """Release, nothing to do, a comment, a new class, rollback, refusal, down and up."""
    # From anywhere inside.
    first = plantops("run", cwd=project / RAW)
    assert "released: " in first.stdout
    one = answering(project)
    assert one
    assert (project / "models/production/model.ckpt").is_file()
    assert aliases(project) == {"champion": 1}
    assert sh("git", "status", "--porcelain", cwd=project).stdout == " M dvc.lock\n"
    assert (project / "models/releases" / one / "release.json").is_file()
    log = next((project / ".plantops/logs").glob("*.log")).read_text()
    assert f"{one} is in service" in log
    assert "Running stage 'train'" in log

    # Nothing to do; a comment starts nothing.
    assert "no changes" in plantops("run", cwd=project).stdout
    edit(project / "params.yaml", "seed: 1", "# a comment\nseed: 1")
    assert plantops("check", "--exit-code", cwd=project).returncode == 0
    assert "no changes" in plantops("run", cwd=project).stdout

    # A class the model has never seen, exactly as the guide types it.
    leaves(project / RAW / "NewClass", (220, 220, 60), 20)
    sh("dvc", "add", "data/raw/PlantVillage/NewClass", cwd=project)
    sh("git", "add", "data/raw/PlantVillage/NewClass.dvc", "dvc.lock", cwd=project)
    sh("git", "commit", "-m", "Add NewClass", cwd=project)
    checked = plantops("check", "--exit-code", cwd=project, check=False)
    assert checked.returncode == 6
    assert "NewClass new: 20 photos" in checked.stdout
    assert "would run: prepare_data, train, evaluate, export_model" in checked.stdout
    assert json.loads(plantops("check", "--json", cwd=project).stdout)["due"]
    second = plantops("run", cwd=project)
    assert "of " + one + " on the same" in second.stdout  # judged against the champion, on the same photos
    two = answering(project)
    assert two not in ("", one)
    assert get(url(project) + "/classes")["classes"] == sorted([*CLASSES, "NewClass"])
    assert aliases(project) == {"champion": 2, "previous": 1}

    # Back, and it does not come again by itself.
    plantops("rollback", cwd=project)
    assert answering(project) == one
    assert state(project)["in_service"]["id"] == one
    until(lambda: aliases(project) == {"champion": 1}, what="the aliases' following")
    assert "no changes" in plantops("run", cwd=project).stdout
    assert "withdrawn" in plantops("releases", cwd=project).stdout
    nowhere = plantops("rollback", cwd=project, check=False)
    assert (nowhere.returncode, "no earlier release" in nowhere.stderr) == (2, True)
    plantops("rollback", two, cwd=project)
    assert answering(project) == two

    # A model that learned nothing is refused; what serves is untouched, and the refusal is settled.
    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.95")
    refused = plantops("run", cwd=project, check=False)
    assert refused.returncode == 4
    assert "is below 0.700" in refused.stderr
    assert answering(project) == two
    assert aliases(project)["champion"] == 2
    assert len(list((project / "models/refused").iterdir())) == 1
    settled = plantops("run", cwd=project)
    assert "settled: the gate refused these inputs" in settled.stdout

    # Milder rules are a reason to look again.
    edit(project / "config.yaml", "min_accuracy: 0.70", "min_accuracy: 0.65")
    again = plantops("run", cwd=project, check=False)
    assert (again.returncode, "the rules changed since the refusal" in again.stdout) == (4, True)

    # Down frees the port; up brings the same release back.
    assert "stopped the API" in plantops("down", cwd=project).stdout
    assert answering(project) == ""
    assert two in plantops("status", cwd=project).stdout
    came = plantops("up", cwd=project).stdout
    assert two in came
    assert answering(project) == two
    page = came.split("MLflow")[1].split()[0]
    assert urllib.request.urlopen(page + "/health", timeout=10).status == 200
    assert plantops("down", cwd=project).stdout.count("stopped") == 2


@pytest.mark.ci
def test_force_is_the_same_model_and_skips_are_stored_as_skips(project: Path) -> None:
    nothing = plantops("run", "--skip-dvc", cwd=project, check=False)
    assert (nothing.returncode, "no accepted model yet" in nothing.stderr) == (1, True)
    kept = plantops("run", "--skip-deploy", cwd=project)
    assert "accepted: " in kept.stdout
    assert answering(project) == ""
    assert not (project / "models/production").exists()
    assert "accepted and not deployed" in plantops("check", cwd=project).stdout
    assert "released: " in plantops("run", "--skip-dvc", "--skip-docker", cwd=project).stdout
    one = answering(project)
    forced = plantops("run", "--force", cwd=project).stdout
    assert f"same model as release {one}" in forced
    assert "nothing to skip" in plantops("run", "--skip-dvc", "--skip-docker", cwd=project).stdout
    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.95")
    assert plantops("run", cwd=project, check=False).returncode == 4
    # The newest candidate was refused, so what is taken is the release in service.
    assert f"release {one}" in plantops("run", "--skip-dvc", cwd=project).stdout
    edit(project / "params.yaml", "label_smoothing: 0.95", "label_smoothing: 0.1")
    forced = plantops("run", "--force", cwd=project).stdout
    assert aliases(project) == {"champion": 1}
    from plantops.store import Store

    with Store(project / ".plantops", readonly=True) as store:
        latest, *_, deployed, first, _ = store.runs()
        assert {row.name: row.state for row in store.steps(first.id)}["switch"] == "skipped"
        steps = {row.name: row.state for row in store.steps(deployed.id)}
        assert (steps["reproduce"], steps["take"], steps["switch"]) == ("skipped", "done", "done")
        assert {row.state for row in store.steps(latest.id) if row.name != "build"} == {"done"}
        assert len(store.releases()) == 1


@pytest.mark.ci
def test_failing_stage_shows_its_last_lines_and_is_owed(project: Path) -> None:
    edit(project / "dvc.yaml", "python cheap_stages.py train", "echo almost there; exit 3")
    failed = plantops("run", cwd=project, check=False)
    assert failed.returncode == 1
    assert "stage train failed" in failed.stderr
    assert "almost there" in failed.stderr
    assert "prepare_data" not in failed.stderr, "what other stages said is in the log"
    assert "didn't change" not in failed.stderr, "what DVC said of other stages"
    assert "owed: run" in plantops("check", cwd=project).stdout
    plantops("run", cwd=project, check=False)
    told = plantops("status", cwd=project).stdout
    assert told.count("stage train failed") == 1, "neither a try nor its reason is told twice"
    assert "on these inputs (2 tries so far): stage train failed\n" in told
    assert "failed (less .plantops/logs/" in told
    edit(project / "dvc.yaml", "echo almost there; exit 3", "python cheap_stages.py train")
    assert "released" in plantops("run", cwd=project).stdout
    with lock.hold(project / ".plantops"):  # a run that goes on writes dvc.lock
        (project / "dvc.lock").write_text("schema: '2.0'\n")
        assert "waiting     no changes" in plantops("status", cwd=project).stdout
    (project / "dvc.yaml").write_text("stages: [")
    told = plantops("check", cwd=project).stdout
    assert "would run: nothing before dvc.yaml is mended" in told
    assert "training_code.yaml" not in told, "it did not move"


@pytest.mark.ci
def test_photos_not_under_dvc_are_refused_or_added(project: Path) -> None:
    leaves(project / RAW / "NewClass", (220, 220, 60), 20)
    refused = plantops("run", cwd=project, check=False)
    assert refused.returncode == 2
    assert "NewClass: 20 photos not under DVC: dvc add data/raw/PlantVillage/NewClass" in refused.stderr
    assert not (project / "models/candidate").exists()
    edit(project / "config.yaml", "untracked: refuse", "untracked: add")
    plantops("run", "--skip-deploy", cwd=project)
    assert (project / RAW / "NewClass.dvc").is_file()


@pytest.mark.ci
def test_two_runs_at_once(project: Path) -> None:
    edit(project / "dvc.yaml", "python cheap_stages.py train", "sleep 60")
    first = subprocess.Popen([sys.executable, "-m", "plantops", "run"], cwd=project, stdout=subprocess.DEVNULL)
    try:
        until(lambda: (project / "data/prepared/meta.json").exists(), what="the first run's preparation")
        second = plantops("run", cwd=project, check=False)
        assert second.returncode == 5
        who = rf"another run is going: pid {first.pid} \(\S+@\S+\) since \d{{4}}-\d\d-\d\dT\S+: plantops run\n"
        assert re.search(who, second.stderr)
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=30) == 130
        assert state(project)["last_run"]["state"] == "interrupted"
        from plantops import process

        assert process.left_over(state(project)["last_run"]["id"]) == []
    finally:
        first.kill()


def test_port_taken_by_another_program_is_told_before_training(project: Path) -> None:
    port = int(url(project).rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        told = plantops("run", cwd=project, check=False)
    assert told.returncode == 2
    assert f"port {port} is taken by process {os.getpid()}" in told.stderr
    assert not (project / "data/prepared").exists()


@pytest.mark.ci
def test_mlflow_away_is_refused_before_training_or_caught_up_later(project: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    edit(project / "config.yaml", "tracking_uri: sqlite:///mlruns/mlflow.db   #", f"tracking_uri: {away}   #")
    refused = plantops("run", cwd=project, check=False)
    assert refused.returncode == 2
    assert away in refused.stderr
    assert not (project / "data/prepared").exists()
    edit(project / "config.yaml", "required: true", "required: false")
    assert "MLflow is away" in plantops("run", cwd=project).stdout
    assert answering(project)
    edit(project / "config.yaml", f"tracking_uri: {away}", "tracking_uri: sqlite:///mlruns/mlflow.db")
    assert "logged to MLflow what had waited" in plantops("run", cwd=project).stdout
    assert "version 1" in plantops("releases", cwd=project).stdout
    assert aliases(project) == {"champion": 1}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: sh("rm", "-rf", ".git", cwd=p), "is in no git repository"),
        (lambda p: sh("rm", "-rf", ".dvc", cwd=p), "is no DVC project yet"),
        (lambda p: edit(p / "config.yaml", "\n  port:", "\n  prot:"), "unknown key deploy.prot"),
    ],
)
def test_what_is_wrong_before_work_is_said_with_the_command_that_helps(project: Path, spoil, says: str) -> None:
    spoil(project)
    for command in ("run", "doctor"):
        told = plantops(command, cwd=project, check=False)
        assert told.returncode == 2
        assert says in told.stderr + told.stdout
        assert "try: " in told.stderr + told.stdout
        assert "Traceback" not in told.stderr


@pytest.mark.ci
def test_before_any_release_up_and_rollback_say_what_to_do(project: Path) -> None:
    assert "there is no release yet: plantops run" in plantops("up", cwd=project).stdout
    assert plantops("rollback", cwd=project, check=False).returncode == 2
    for name in list(CLASSES)[1:]:
        sh("rm", "-r", project / RAW / name, project / RAW / f"{name}.dvc", cwd=project)
    told = plantops("run", cwd=project, check=False)
    assert told.returncode == 2
    assert "1 classes of photos" in told.stderr


def test_dvc_sees_every_class(project: Path) -> None:
    """The shipped .gitignore hides the photos from git, and their .dvc files from nobody."""
    listed = sh("dvc", "stage", "list", "--all", cwd=project).stdout
    for name in CLASSES:
        assert f"{name}.dvc" in listed
    assert not list((project / RAW).rglob(".gitignore"))


@pytest.mark.ci
def test_no_commit_yet(tmp_path: Path) -> None:
    sh("git", "init", "-q", str(tmp_path / "p"), cwd=tmp_path)
    assert "nothing committed" in plantops("init", "p", cwd=tmp_path).stdout
    told = plantops("run", cwd=tmp_path / "p", check=False)
    assert told.returncode == 2
    assert "has no commit yet" in told.stderr


def test_dry_run_and_check_write_nothing(project: Path) -> None:
    def listing() -> list[tuple[str, int]]:
        return sorted((str(one), one.stat().st_mtime_ns) for one in project.rglob("*"))

    before = listing()
    said = plantops("run", "--dry-run", cwd=project).stdout
    assert "dry run: nothing was changed" in said
    assert "stages: prepare_data, train, evaluate, export_model" in said
    plantops("check", cwd=project)
    plantops("status", cwd=project)
    assert listing() == before


def test_init_leaves_what_is_there(project: Path) -> None:
    edit(project / "config.yaml", "project: plant-disease", "project: mine")
    plantops("init", ".", cwd=project)
    assert "project: mine" in (project / "config.yaml").read_text()
    commit(project, "Nothing lost") if sh("git", "status", "--porcelain", cwd=project).stdout else None

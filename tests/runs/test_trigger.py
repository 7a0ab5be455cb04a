"""What starts a run, and what does not: in a real project, with real DVC, git and processes."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from api_client import free_port, until
from conftest import plantops, sh
from plantops import checking, dirhash, process
from plantops.config import load
from plantops.store import Run, Store
from runs.cheap import RAW, edit, leaves, state
from runs.test_watch import watching

pytestmark = pytest.mark.ci


def started(folder: Path, *argv: str) -> subprocess.Popen[str]:
    """plantops in the background."""
    return subprocess.Popen([sys.executable, "-m", "plantops", *argv], cwd=folder, stdout=subprocess.PIPE, text=True)


def statuses(folder: Path) -> list[str]:
    """Of MLflow's runs; none while the database is still being made."""
    try:
        with sqlite3.connect(f"file:{folder}/mlruns/mlflow.db?mode=ro", uri=True) as database:
            return [row[0] for row in database.execute("SELECT status FROM runs WHERE lifecycle_stage = 'active'")]
    except sqlite3.OperationalError:
        return []


def runs(folder: Path) -> list[Run]:
    with Store(folder / ".plantops", readonly=True) as store:
        return store.runs()


def test_always_changed_stage_and_a_port_start_nothing(project: Path) -> None:
    edit(project / "dvc.yaml", "  evaluate:\n", "  evaluate:\n    always_changed: true\n")
    plantops("run", "--skip-deploy", cwd=project)
    config = load(project)
    for _ in range(1000):
        assert not checking.look(config).due
    assert not checking.look(config, deep=True).waiting
    assert plantops("check", "--exit-code", cwd=project).returncode == 0
    assert len(runs(project)) == 1
    edit(project / "config.yaml", "  port: ", f"  port: {free_port()} # was ")
    assert plantops("check", "--exit-code", cwd=project).returncode == 0


def test_photos_that_arrive_during_a_run_are_the_next_change(project: Path) -> None:
    waits = "touch trains && until [ -e go ]; do sleep 0.1; done && python cheap_stages.py train"
    edit(project / "dvc.yaml", "python cheap_stages.py train", waits)
    going = started(project, "run", "--skip-deploy")
    until((project / "trains").exists, what="the training to begin")
    leaves(project / RAW / "NewClass", (220, 220, 60), 20)
    sh("dvc", "add", "data/raw/PlantVillage/NewClass", cwd=project)
    looked = plantops("check", cwd=project)
    assert f"a run is going: pid {going.pid}" in looked.stdout
    assert "run elsewhere" not in looked.stdout
    (project / "go").touch()
    assert going.wait(timeout=60) == 0
    checked = plantops("check", "--exit-code", cwd=project, check=False)
    assert checked.returncode == 6
    assert "NewClass new: 20 photos" in checked.stdout


def read(folder: Path) -> list[tuple[str, str]]:
    """(path, md5) of what prepare_data says that it read."""
    with (folder / "data/read.csv").open(newline="") as file:
        return [(row["path"], row["md5"]) for row in csv.DictReader(file)]


def recorded(folder: Path) -> str:
    """The hash of the photos in dvc.lock."""
    entry = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]["prepare_data"]
    return next(dep["md5"] for dep in entry["deps"] if dep["path"] == str(RAW))


def one_dvc_file_for_all(folder: Path) -> None:
    """The other way to keep photos under DVC."""
    for one in (folder / RAW).glob("*.dvc"):
        one.unlink()
    edit(folder / ".gitignore", "/data/raw/PlantVillage/?*/", "/data/raw/PlantVillage/")
    sh("git", "rm", "-rq", "--cached", str(RAW), cwd=folder)
    sh("dvc", "add", str(RAW), cwd=folder)
    sh("git", "add", ".", cwd=folder)
    sh("git", "commit", "-m", "One .dvc file", cwd=folder)


@pytest.mark.parametrize("whole", [False, True], ids=["class by class", "one .dvc file"])
def test_late_photos_are_never_recorded_as_trained_on(project: Path, whole: bool) -> None:
    """treeverse/dvc#11058: what comes between the reading and DVC's hashing is the next change."""
    if whole:
        one_dvc_file_for_all(project)
    leaves(project / "late", (220, 220, 60), 20)
    late = f"python -c \"import shutil; shutil.copytree('late', '{RAW}/Late')\""
    edit(project / "dvc.yaml", "python -m plantops.ml.data", f"python -m plantops.ml.data && (test -e done || {late})")
    done = plantops("run", "--skip-deploy", cwd=project)
    assert "again" not in done.stdout
    assert not any(path.startswith("Late/") for path, _ in read(project))
    assert recorded(project) == dirhash.directory(read(project))
    (project / "done").touch()
    refused = plantops("run", cwd=project, check=False)
    assert refused.returncode == 2, "photos that DVC does not know are not trained on"
    sh("dvc", "add", str(RAW) if whole else f"{RAW}/Late", cwd=project)
    assert plantops("check", "--exit-code", cwd=project, check=False).returncode == 6
    plantops("run", "--skip-deploy", cwd=project)
    assert sum(path.startswith("Late/") for path, _ in read(project)) == 20
    assert recorded(project) == dirhash.directory(read(project))


def before_preparing(folder: Path, what: str) -> None:
    """Have something done when the run has seen that all photos are under DVC, and before it reads them."""
    edit(folder / "dvc.yaml", "python -m plantops.ml.data", f"(test -e done || {what}) && python -m plantops.ml.data")


def test_a_class_that_comes_before_the_reading_is_the_next_change(project: Path) -> None:
    leaves(project / "late", (220, 220, 60), 20)
    before_preparing(project, f"cp -r late {RAW}/Late")
    plantops("run", "--skip-deploy", cwd=project)
    assert not any(path.startswith("Late/") for path, _ in read(project))
    assert recorded(project) == dirhash.directory(read(project))
    (project / "done").touch()
    refused = plantops("run", "--skip-deploy", cwd=project, check=False)
    assert refused.returncode == 2
    assert "Late: 20 photos not under DVC" in refused.stderr


def test_photos_that_come_into_a_class_before_the_reading_release_nothing(project: Path) -> None:
    leaves(project / "late", (220, 220, 60), 1, seed=7)
    known = "Potato___Late_blight"
    before_preparing(project, f"cp late/* {RAW}/{known}")
    failed = plantops("run", "--skip-deploy", cwd=project, check=False)
    assert failed.returncode == 1
    assert f"DVC does not know them so: {RAW}/{known}\n" in failed.stderr
    assert f"dvc add {RAW}/{known}, then plantops run" in failed.stderr
    assert not list((project / "models").glob("releases/*"))
    (project / "done").touch()
    sh("dvc", "add", f"{RAW}/{known}", cwd=project)
    plantops("run", "--skip-deploy", cwd=project)


def test_a_run_killed_before_the_record_was_put_right(project: Path) -> None:
    """dvc.lock as DVC wrote it says that the late photos were read; the next run finds out, and reads them."""
    leaves(project / "late", (220, 220, 60), 20)
    late = f"python -c \"import shutil; shutil.copytree('late', '{RAW}/Late')\""
    edit(project / "dvc.yaml", "python -m plantops.ml.data", f"python -m plantops.ml.data && (test -e done || {late})")
    edit(project / "dvc.yaml", "python cheap_stages.py train", "touch trains && sleep 60")
    killed = started(project, "run", "--skip-deploy")
    until((project / "trains").exists, 60, "the training")
    killed.kill()
    killed.wait()
    assert recorded(project) != dirhash.directory(read(project)), "the fault is there"
    (project / "done").touch()
    edit(project / "dvc.yaml", "touch trains && sleep 60", "python cheap_stages.py train")
    sh("dvc", "add", f"{RAW}/Late", cwd=project)
    plantops("run", "--skip-deploy", cwd=project)
    assert sum(path.startswith("Late/") for path, _ in read(project)) == 20
    assert recorded(project) == dirhash.directory(read(project))


def test_a_photo_that_keeps_changing_ends_the_run(project: Path) -> None:
    photo = sorted((project / RAW).glob("*/*.jpg"))[0]
    other = "import itertools, os, sys\nfor n in itertools.count():\n  open('p.new', 'wb').write(b'%d' % n)\n"
    other += "  os.replace('p.new', sys.argv[1])"
    changing = subprocess.Popen([sys.executable, "-c", other, photo], cwd=project)
    edit(project / "config.yaml", "untracked: refuse", "untracked: add")
    try:
        failed = plantops("run", cwd=project, check=False)
    finally:
        changing.kill()
        changing.wait()
    assert failed.returncode == 1
    assert "keep moving while they are read" in failed.stderr
    assert "RUNNING" not in statuses(project)


def test_a_steady_stream_of_photos_holds_up_no_release(project: Path) -> None:
    """45 photos a second for a minute, uploaded into one class, under watch: releases come out, the last of all photos.

    As rsync does, each is written under a hidden name beside the others, and renamed when it is whole.
    """
    edit(project / "config.yaml", "untracked: refuse", "untracked: add")
    edit(project / "config.yaml", "max_wait_seconds: 60", "max_wait_seconds: 3")
    edit(project / "config.yaml", "max_runs_per_hour: 12", "max_runs_per_hour: 100")
    leaves(project / "late", (220, 220, 60), 1)
    one = (project / "late" / "0-0___S 0000.jpg").read_bytes()
    script = "import sys, time, os, itertools\nos.makedirs(sys.argv[1])\nfor n in itertools.count():\n"
    script += "  open(f'{sys.argv[1]}/.s{n}.jpg.Xa3', 'wb').write(open(sys.argv[2], 'rb').read() + b'%d' % n)\n"
    script += "  time.sleep(.02)\n  os.replace(f'{sys.argv[1]}/.s{n}.jpg.Xa3', f'{sys.argv[1]}/s{n}.jpg')"
    (project / "one.jpg").write_bytes(one)
    with watching(project) as watch:
        stream = subprocess.Popen([sys.executable, "-c", script, project / RAW / "Stream", "one.jpg"], cwd=project)
        began = time.monotonic()
        try:
            until(lambda: "released" in [run.state for run in runs(project)], 200, "a release")
            until(lambda: time.monotonic() > began + 60, 90, "the minute to be over")
            assert stream.poll() is None
        finally:
            stream.kill()
            stream.wait()
        count = len(list((project / RAW / "Stream").glob("[!.]*.jpg")))
        # The last of them wakes it within the settling, if it is not awake already.
        until(lambda: _taken(project) == count, 120, "the release of all of them")
        assert watch.ends() == 0
    assert {run.state for run in runs(project)} == {"released"}
    assert recorded(project) == dirhash.directory(read(project))
    assert plantops("check", "--deep", "--exit-code", cwd=project).returncode == 0


def _taken(folder: Path) -> int:
    """How many of the stream's photos the last run read, when it is over."""
    if runs(folder)[0].state == "running" or state(folder)["watch"]["state"] != "watching":
        return 0
    return sum(path.startswith("Stream/") for path, _ in read(folder))


def test_parameter_edited_while_training_runs_is_not_recorded_as_used(project: Path) -> None:
    edit(project / "dvc.yaml", "python cheap_stages.py train", "python cheap_stages.py train && sleep 4")
    going = started(project, "run", "--skip-deploy")
    until(lambda: (project / "models/checkpoint/model.ckpt").exists(), 60, "the training")
    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.2")
    out, _ = going.communicate(timeout=90)
    assert "what train read moved while it ran" in out
    lock = (project / "dvc.lock").read_text()
    assert "label_smoothing: 0.2" in lock
    assert "label_smoothing: 0.1" not in lock


def test_script_named_as_a_dependency_is_code(project: Path) -> None:
    edit(
        project / "dvc.yaml",
        "cheap_stages.py train\n    deps:\n",
        "cheap_stages.py train\n    deps:\n      - cheap_stages.py\n",
    )
    plantops("run", "--skip-deploy", cwd=project)
    assert plantops("check", "--exit-code", cwd=project).returncode == 0
    with (project / "cheap_stages.py").open("a") as file:
        file.write("# moved\n")
    assert "cheap_stages.py: changed since stage train ran" in plantops("run", "--skip-deploy", cwd=project).stdout


def test_killed_in_the_middle_of_training(project: Path) -> None:
    edit(project / "dvc.yaml", "python cheap_stages.py train", "sleep 30 && python cheap_stages.py train")
    going = started(project, "run")
    until(lambda: "RUNNING" in statuses(project), 60, "the MLflow run")
    run = state(project)["last_run"]["id"]
    going.kill()
    going.wait()
    assert process.left_over(run)
    edit(project / "dvc.yaml", "sleep 30 && python", "python")
    assert "died before its end" in plantops("run", cwd=project).stdout
    assert process.left_over(run) == []
    assert sorted(statuses(project)) == ["FAILED", "FINISHED"]


def test_bare_dvc_repro_ends_in_a_candidate_that_run_releases(project: Path) -> None:
    sh("dvc", "repro", cwd=project)
    assert (project / "models/candidate/model.onnx").is_file()
    assert not (project / "models/production").exists()
    done = plantops("run", cwd=project)
    assert "DVC found nothing to run" in done.stdout
    assert (project / "models/production/model.ckpt").is_file()

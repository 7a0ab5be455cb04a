"""A backup of a real project, made while a run goes on and the API answers; restored there and in another clone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from api_client import free_port, until
from conftest import plantops, sh
from plantops.config import load
from runs.cheap import aliases, answering, edit, state

pytestmark = pytest.mark.ci


def test_back_to_a_backup_of_the_middle_of_a_run(project: Path, tmp_path: Path) -> None:
    plantops("run", cwd=project)
    one = answering(project)
    trains = "python cheap_stages.py train"
    edit(project / "dvc.yaml", trains, f"touch trains && until [ -e go ]; do sleep 0.1; done && {trains}")
    edit(project / "params.yaml", "\nseed: 1", "\nseed: 2")
    going = subprocess.Popen([sys.executable, "-m", "plantops", "run"], cwd=project, stdout=subprocess.DEVNULL)
    until((project / "trains").exists, 60, "the training")
    plantops("backup", str(tmp_path / "kept.tar"), cwd=project)
    assert answering(project) == one
    refused = plantops("restore", str(tmp_path / "kept.tar"), "--force", cwd=project, check=False)
    assert (refused.returncode, f"pid {going.pid}" in refused.stderr) == (5, True)
    (project / "go").touch()
    assert going.wait(timeout=90) == 0
    two = answering(project)
    assert two != one

    refused = plantops("restore", str(tmp_path / "kept.tar"), "--force", cwd=project, check=False)
    assert (refused.returncode, "try: plantops down" in refused.stderr) == (2, True)
    plantops("down", cwd=project)
    plantops("restore", str(tmp_path / "kept.tar"), "--force", cwd=project)
    told = state(project)
    assert (told["in_service"]["id"], told["last_run"]["state"]) == (one, "interrupted")
    assert two not in plantops("releases", cwd=project).stdout
    plantops("up", cwd=project)
    assert answering(project) == one
    # The run was in its middle: it is taken up, and comes to the release that it came to.
    again = plantops("run", cwd=project).stdout
    assert "died before its end" in again
    assert "\n    train\n" not in again, "DVC has the training already"
    assert answering(project) == two
    assert aliases(project) == {"champion": 2, "previous": 1}


def test_another_clone_goes_on_where_this_one_was(project: Path, tmp_path: Path) -> None:
    plantops("run", cwd=project)
    one = answering(project)
    sh("git", "commit", "-qam", "Run", cwd=project)
    sh("dvc", "remote", "add", "-q", "-d", "here", str(tmp_path / "remote"), cwd=project)
    sh("dvc", "push", "-q", cwd=project)
    plantops("backup", "../kept.tar", cwd=project)
    plantops("down", cwd=project)
    other = tmp_path / "other"
    sh("git", "clone", "-q", project, other, cwd=tmp_path)
    sh("dvc", "remote", "add", "-q", "-d", "here", str(tmp_path / "remote"), cwd=other)
    try:
        plantops("restore", str(tmp_path / "kept.tar"), cwd=other)
        edit(other / "config.yaml", f"port: {load(other).deploy.port}", f"port: {free_port()}")
        sh("dvc", "pull", "-q", cwd=other)
        assert state(other)["in_service"]["id"] == one
        assert "no changes" in plantops("check", cwd=other).stdout
        plantops("up", cwd=other)
        assert answering(other) == one
        edit(other / "params.yaml", "\nseed: 1", "\nseed: 2")
        assert "released: " in plantops("run", cwd=other).stdout
        assert aliases(other) == {"champion": 2, "previous": 1}
        assert str(project) not in (other / "mlruns/mlflow.db").read_bytes().decode(errors="replace")
    finally:
        plantops("down", cwd=other, check=False)

"""`plantops upgrade` on a project of an older plantops, and `plantops uninstall` on one that serves."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import yaml

from conftest import plantops, sh
from runs.cheap import RAW, answering, edit
from test_init import listing

pytestmark = pytest.mark.ci


def test_an_older_project_is_brought_up_to_date_and_keeps_its_settings(tmp_path: Path) -> None:
    project = tmp_path / "project"
    plantops("init", "project", cwd=tmp_path)
    assert "as the installed version would make it" in plantops("upgrade", cwd=project).stdout

    params, dvcignore = project / "params.yaml", project / ".dvcignore"
    text = params.read_text()
    params.write_text(
        text[: text.index("evaluate:")]
        .replace("\n  epochs: 45", "\n  epochs: 7")
        .replace("small_epochs: 24", "small_epochs: 3")
    )
    edit(project / "config.yaml", "  min_free_gb: 1.0", "  {}")
    dvcignore.write_text("mine\n")
    edit(project / "training_code.yaml", "train: c", "train: d")
    (project / "docker/haproxy/haproxy.cfg").unlink()
    plantops("status", cwd=project)
    before = listing(project)
    shown = plantops("upgrade", cwd=project).stdout
    assert listing(project) == before
    assert "+evaluate.target_accuracy: 0.98" in shown
    assert "config.yaml: disk.min_free_gb is not named, and is 1.0 by default" in shown
    assert "-mine" not in shown
    assert "training code: train changed" in shown
    assert "nothing was changed; plantops upgrade --yes" in shown

    done = plantops("upgrade", "--yes", cwd=project).stdout
    assert "changed: .dvcignore, docker/haproxy/haproxy.cfg, params.yaml" in done
    (aside,) = (project / ".before-plantops").iterdir()
    assert (aside / ".dvcignore").read_text() == "mine\n"
    assert dvcignore.read_text().startswith("mine\n\n# plantops\n")
    values = yaml.safe_load(params.read_text())
    assert (values["train"]["epochs"], values["evaluate"]["target_accuracy"]) == (7, 0.98)
    assert "# epochs in which only the head learns" in params.read_text()
    assert "Change" not in plantops("upgrade", cwd=project).stdout


def test_lines_of_a_persons_own_stay_in_ignore_files(tmp_path: Path) -> None:
    """In a project that was made around them, and in one that needs more of them now."""
    project = tmp_path / "project"
    project.mkdir()
    (project / ".gitignore").write_text("secrets.txt")
    plantops("init", cwd=project)
    assert "as the installed version would make it" in plantops("upgrade", cwd=project).stdout
    edit(project / ".gitignore", "/mlruns/\n", "")
    assert "+/mlruns/" in plantops("upgrade", cwd=project).stdout
    plantops("upgrade", "--yes", cwd=project)
    lines = (project / ".gitignore").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("secrets.txt", "/mlruns/")


def test_an_older_memory_is_told(project: Path) -> None:
    plantops("run", "--skip-deploy", cwd=project)
    with sqlite3.connect(project / ".plantops/state.db") as database:
        (newest,) = database.execute("PRAGMA user_version").fetchone()
        database.execute("PRAGMA user_version = 1")
    assert f"makes schema {newest} of 1" in plantops("upgrade", cwd=project).stdout


def test_uninstall_lists_asks_and_leaves_photos_models_and_git(project: Path) -> None:
    plantops("run", cwd=project)
    plantops("backup", cwd=project)
    assert answering(project)
    kept = {name: one for name, one in listing(project).items() if not name.startswith(".plantops/")}
    asked = plantops("uninstall", cwd=project, check=False)
    assert (asked.returncode, bool(answering(project))) == (2, True)
    for word in ("running    the API on", "state      .plantops/state.db"):
        assert word in asked.stdout
    plantops("uninstall", "--yes", cwd=project)
    assert not answering(project)
    assert {one.name for one in (project / ".plantops").iterdir()} <= {"backups", "run.lock", "switch.lock"}
    after = {name: one for name, one in listing(project).items() if not name.startswith(".plantops/")}
    assert after == kept
    assert len(list((project / ".plantops/backups").iterdir())) == 1
    # The releases are enough to go on.
    plantops("doctor", "--fix", cwd=project, check=False)
    plantops("up", cwd=project)
    assert answering(project)

    plantops("uninstall", "--yes", "--models", cwd=project)
    assert not (project / "models").exists()
    assert (project / RAW).is_dir()
    assert sh("git", "status", "--porcelain", cwd=project).stdout in ("", " M dvc.lock\n")

"""A bug ends in exit 3 and a report, wherever in the project we are; a run that meets one is owed."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from conftest import plantops, sh
from plantops.store import Store
from runs.barred import bar
from runs.cheap import RAW

pytestmark = pytest.mark.ci


def drop(folder: Path, table: str) -> None:
    """A memory that lost a table: nothing in plantops reckons with it."""
    with Store(folder / ".plantops"), sqlite3.connect(folder / ".plantops/state.db") as database:
        database.execute(f"DROP TABLE {table}")


def test_the_report_lies_in_the_project_from_any_folder_inside(project: Path) -> None:
    drop(project, "run")
    told = plantops("check", "--json", cwd=project / RAW, check=False)
    assert told.returncode == 3
    (report,) = (project / ".plantops").glob("plantops-bug-*.txt")
    assert f"a report is in {report}" in told.stderr
    assert "no such table: run" in told.stderr
    assert "Traceback" not in told.stderr
    text = report.read_text()
    assert "check --json" in text
    assert "Traceback (most recent call last)" in text
    assert "sqlite3.OperationalError: no such table: run" in text


def test_where_no_report_can_be_written_it_is_on_the_screen(project: Path) -> None:
    drop(project, "run")
    barred = bar(project / ".plantops")
    told = sh(*barred, sys.executable, "-m", "plantops", "check", cwd=project, check=False)
    assert told.returncode == 3
    assert "sqlite3.OperationalError: no such table: run" in told.stderr
    assert list((project / ".plantops").glob("plantops-bug-*")) == []
    (project / ".plantops").chmod(0o755)


def test_a_folder_that_is_gone_is_no_bug(tmp_path: Path) -> None:
    here = f'rmdir "$PWD"; exec {sys.executable} -m plantops "$1"'
    for command in ("init", "check"):
        (tmp_path / "gone").mkdir(exist_ok=True)
        told = sh("sh", "-c", here, "sh", command, cwd=tmp_path / "gone", check=False)
        assert told.returncode == 2, told.stderr
        assert "the folder that we are in is gone" in told.stderr


def test_a_run_that_meets_a_bug_is_owed(project: Path) -> None:
    drop(project, "release")
    told = plantops("run", cwd=project, check=False)
    assert told.returncode == 3
    assert "no such table: release" in told.stderr
    assert not (project / "models/production").exists()
    said = plantops("check", "--exit-code", cwd=project, check=False)
    assert said.returncode == 6
    assert "failed on these inputs: a bug in plantops" in said.stdout
    log = next((project / ".plantops/logs").glob("*.log")).read_text()
    assert log.splitlines()[-1].endswith(" failed")

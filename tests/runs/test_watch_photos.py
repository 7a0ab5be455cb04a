"""Photos that watch adds by itself (`data.untracked: add`) are a change like any other, whatever it is waiting for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from api_client import free_port, until
from runs.cheap import RAW, edit, leaves
from runs.test_watch import beat, no_file_events, setting, states, watching

pytestmark = pytest.mark.ci
YELLOW = (220, 220, 60)


@pytest.fixture
def adding(project: Path) -> Path:
    """A project whose watch adds photos; a burst is over after 0.3 s."""
    setting(project, settle_seconds=0.3)
    edit(project / "config.yaml", "untracked: refuse", "untracked: add")
    return project


def test_they_end_the_waiting_after_the_last_try(adding: Path) -> None:
    setting(adding, max_retries=0)
    edit(adding / "dvc.yaml", "python cheap_stages.py train", "test -e ok && python cheap_stages.py train")
    with watching(adding) as watch:
        watch.says("tried once on these inputs (watch.max_retries): waiting for a change")
        (adding / "ok").touch()
        leaves(adding / RAW / "NewClass", YELLOW, 20)
        until(lambda: states(adding) == ["released", "failed"], 60, "the run on the photos that came")


def pause(folder: Path) -> float:
    """Seconds until watch means to try again."""
    try_at = beat(folder)["next_try"]
    return (datetime.fromisoformat(try_at) - datetime.now(UTC)).total_seconds() if try_at else 0.0


def test_they_end_a_pause_where_there_are_no_file_events(adding: Path) -> None:
    wrap = no_file_events(adding)
    edit(adding / "config.yaml", "sqlite:///mlruns/mlflow.db", f"http://127.0.0.1:{free_port()}")
    with watching(adding, "--interval", "0.5", wrap=wrap) as watch:
        watch.says("looking by the interval alone")
        watch.says("does not answer")
        until(lambda: pause(adding) > 14, 60, "the fifth pause, of 16 s")
        leaves(adding / RAW / "NewClass", YELLOW, 20)
        until((adding / RAW / "NewClass.dvc").exists, 12, "the try that adds them")

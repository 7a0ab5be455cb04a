"""Somebody reads along and leaves: `plantops run | head -1` runs to its end, and the log is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runs.cheap import answering

pytestmark = pytest.mark.ci


def piped(folder: Path, reader: str, *argv: str) -> tuple[list[str], str]:
    """What `plantops … | reader` shows, plantops' exit code as the last line, and what it says on the side."""
    script = f'"{sys.executable}" -m plantops "$@" | {reader}; echo "status ${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *argv], cwd=folder, capture_output=True, text=True, timeout=200, check=True
    )
    return done.stdout.splitlines(), done.stderr


def test_a_run_whose_reader_leaves_goes_on_to_its_end(project: Path) -> None:
    shown, complaints = piped(project, "head -1", "run")
    assert shown[1:] == ["status 0"]
    assert complaints == ""
    one = answering(project)
    assert one
    (log,) = (project / ".plantops/logs").glob("*-*.log")
    lines = log.read_text().splitlines()
    assert shown[0] == lines[0]
    assert "Running stage 'export_model':" in lines
    for said in (f"{one} is in service", f"released: {one}", "predict:  curl -X POST"):
        assert any(said in line for line in lines), said
    assert lines[-1].startswith("  log:")


@pytest.mark.parametrize("argv", [["status"], ["check", "--json"], ["doctor"], ["run", "--dry-run"]])
def test_a_reader_that_leaves_is_no_error(project: Path, argv: list[str]) -> None:
    # `true` ends before plantops says its first word.
    assert piped(project, "true", *argv) == (["status 0"], "")


def test_an_output_that_was_never_there_is_no_error(project: Path) -> None:
    closed = ["bash", "-c", f'"{sys.executable}" -m plantops status >&-']
    done = subprocess.run(closed, cwd=project, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")

"""Programs: streamed, captured, stopped with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from api_client import until
from plantops import process
from plantops.errors import StepFailed


def test_stream_hands_over_lines_and_a_failure_shows_the_last(tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(process.Failed) as caught:
        process.stream(["sh", "-c", "echo one; echo two >&2; exit 3"], tmp_path, lines.append)
    assert lines == ["one", "two"]
    assert caught.value.status == 3
    assert "two" in caught.value.message


def test_capture_of_a_missing_program_and_of_one_that_hangs(tmp_path: Path) -> None:
    assert process.capture(["no-such-program"], tmp_path).status == 127
    with pytest.raises(StepFailed, match="no answer within"):
        process.capture(["sleep", "30"], tmp_path, timeout=0.2)


def test_capture_asks_in_english_whatever_the_user_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of git's are looked at: `rejected`, `not a git repository`."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    assert process.capture(["sh", "-c", "echo $LC_ALL"], tmp_path).out == "C.UTF-8\n"


def test_capture_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="gone is gone, and `git status` was to run in it"):
        process.capture(["git", "status"], tmp_path / "gone")


@pytest.mark.ci
def test_interrupt_stops_the_whole_family(tmp_path: Path) -> None:
    """A grandchild that ignores SIGINT and SIGTERM is gone too."""
    stubborn = tmp_path / "stubborn.py"
    stubborn.write_text(
        "import os, signal, time\nsignal.signal(2, signal.SIG_IGN)\nsignal.signal(15, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True)\ntime.sleep(99)\n"
    )
    script = (
        "from pathlib import Path\nfrom plantops import process\nprocess._PATIENCE = 0.3\n"
        f"argv = ['sh', '-c', '{sys.executable} {stubborn}; true']\n"
        "process.stream(argv, Path('.'), lambda line: print(line, flush=True))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    grandchild = int(child.stdout.readline())
    assert process.alive(grandchild)
    child.send_signal(signal.SIGINT)
    child.wait(timeout=20)
    until(lambda: not process.alive(grandchild), what="the grandchild's end")


def test_what_a_dead_run_left_is_found_and_ended(tmp_path: Path) -> None:
    env = {**os.environ, process.RUN_VARIABLE: "run-x"}
    orphan = subprocess.Popen(["sh", "-c", "sleep 60; true"], env=env, start_new_session=True)
    try:
        until(lambda: len(process.left_over("run-x")) == 2, what="both processes")
        assert process.left_over("run-y") == []
        threading.Thread(target=orphan.wait, daemon=True).start()
        process.end(process.left_over("run-x"))
        assert process.left_over("run-x") == []
    finally:
        orphan.kill()


def test_a_companion_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Also where that is killed outright; what it made goes with it."""
    script = (
        "import time\nfrom pathlib import Path\nfrom plantops import process\n"
        "here = Path('.').resolve()\n"
        "argv = ['sh', '-c', 'echo $$; touch made; exec sleep 60']\n"
        "held = process.Companion(argv, here, here / 'log', here / 'made')\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    until(lambda: (tmp_path / "made").exists(), what="the companion's start")
    pid = int((tmp_path / "log").read_text())
    assert process.alive(pid)
    child.kill()
    child.wait()
    until(lambda: not process.alive(pid) and not (tmp_path / "made").exists(), what="its end")


def test_a_companion_that_ends_by_itself_is_known_to_have(tmp_path: Path) -> None:
    held = process.Companion(["sh", "-c", "echo no; exit 3"], tmp_path, tmp_path / "log", tmp_path / "made")
    until(held.ended, what="its end")
    assert (tmp_path / "log").read_text() == "no\n"

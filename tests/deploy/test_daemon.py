"""Detached programs are found again, and nothing else is ever stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from api_client import until
from plantops import process
from plantops.deploy import daemon

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def begin(folder: Path, argv: list[str]) -> tuple[Path, int]:
    file = folder / "it.json"
    pid = daemon.start(argv, folder, file, folder / "it.log")
    until(lambda: "up" in (folder / "it.log").read_text(), what="its start")
    return file, pid


def test_start_find_stop(tmp_path: Path) -> None:
    file, pid = begin(tmp_path, SLEEP)
    assert daemon.find(file) == pid
    assert os.getsid(pid) == pid
    assert daemon.stop(file) is True
    assert not process.alive(pid)
    assert daemon.find(file) is None
    assert daemon.stop(file) is False


def test_what_it_started_is_stopped_too(tmp_path: Path) -> None:
    code = f"import subprocess, time; print(subprocess.Popen({SLEEP!r}).pid, flush=True); time.sleep(600)"
    file, _ = begin(tmp_path, [sys.executable, "-c", code])
    child = int((tmp_path / "it.log").read_text().split()[0])
    assert process.alive(child)
    daemon.stop(file)
    until(lambda: not process.alive(child), what="the child ending")


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    file, pid = begin(tmp_path, [sys.executable, "-c", code])
    assert daemon.stop(file, patience=0.3) is True
    assert not process.alive(pid)


def test_a_recycled_pid_is_never_stopped(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    file = tmp_path / "it.json"
    for noted in (
        {"pid": stranger.pid, "started": "another-boot:1"},
        {"pid": stranger.pid, "started": None},
        {"pid": "x", "started": ""},
        [],
    ):
        file.write_text(json.dumps(noted))
        assert daemon.find(file) is None
        assert daemon.stop(file) is False
        assert not file.exists()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_long_log_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "it.log").write_bytes(b"x" * 1_000_001)
    file, _ = begin(tmp_path, SLEEP)
    assert (tmp_path / "it.log").stat().st_size < 100
    assert (tmp_path / "it.log.1").stat().st_size == 1_000_001
    daemon.stop(file)

"""What a killed DVC leaves behind: made by real, killed DVC processes; cleared only where its process is dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api_client import until
from conftest import sh
from plantops import dvc, dvclocks, process
from plantops.errors import StepFailed

pytestmark = pytest.mark.ci

HOLD = (
    "import sys, time; from dvc.lock import make_lock\n"
    "with make_lock('.dvc/tmp/lock', tmp_dir='.dvc/tmp', hardlink_lock=sys.argv[1] == 'hard'):\n"
    "    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A DVC project with one stage that takes a minute."""
    sh("git", "init", "-q", cwd=tmp_path)
    sh("dvc", "init", "-q", cwd=tmp_path)
    (tmp_path / "photos").write_text("1")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  train:\n    cmd: touch begun && sleep 60\n    deps: [photos]\n    outs: [model]\n"
    )
    return tmp_path


@contextmanager
def running(*argv: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """In a session of its own, killed at the end with all that it started."""
    child = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield child
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def found(root: Path) -> list[dvclocks.Stale]:
    return list(dvclocks.stale(root))


def cleared(root: Path) -> None:
    for one in found(root):
        assert one.clear
        assert one.remedy == "plantops doctor --fix"
        one.clear()
    assert found(root) == []


def works(root: Path) -> bool:
    """Whether DVC gets its locks."""
    return sh("dvc", "repro", "--dry", cwd=root, check=False).returncode == 0


def training(root: Path) -> subprocess.Popen[str]:
    return running("dvc", "repro", "-q", cwd=root)


def rwlock(root: Path) -> dict[str, dict[str, object]]:
    return json.loads((root / ".dvc/tmp/rwlock").read_text())


def test_the_files_that_every_dvc_leaves_mean_nothing(root: Path) -> None:
    assert found(root) == []
    assert works(root)
    assert (root / ".dvc/tmp/lock").exists()
    assert found(root) == []


def test_entries_of_a_dead_dvc_go_and_those_of_a_living_one_stay(root: Path) -> None:
    with training(root) as child:
        until((root / "begun").exists, what="the stage")
        assert found(root) == []
    listed = rwlock(root)
    here = os.getpid()  # alive
    listed["write"]["/elsewhere"] = {"pid": here, "cmd": "dvc repro"}
    listed["read"]["/shared"] = [{"pid": here, "cmd": "a"}, {"pid": child.pid, "cmd": "b"}]
    (root / ".dvc/tmp/rwlock").write_text(json.dumps(listed))
    (one,) = found(root)
    assert f"pid {child.pid} (" in one.says
    assert not one.stops
    cleared(root)
    assert rwlock(root) == {
        "write": {"/elsewhere": {"pid": here, "cmd": "dvc repro"}}, "read": {"/shared": [{"pid": here, "cmd": "a"}]},
    }  # fmt: skip
    assert works(root)


def test_a_list_that_was_cut_short_stops_dvc_until_it_is_cleared(root: Path) -> None:
    """DVC empties the file and then writes it; there the power went."""
    with training(root) as child:
        until((root / "begun").exists, what="the stage")
        (root / ".dvc/tmp/rwlock").write_text("")
        (one,) = found(root)
        assert one.clear is None
        assert "still working" in one.says
    until(lambda: not process.alive(child.pid), what="its end")
    assert not works(root)
    (one,) = found(root)
    assert one.stops
    cleared(root)
    assert works(root)


def test_a_list_that_is_being_written_is_left_alone(root: Path) -> None:
    works(root)
    (root / ".dvc/tmp/rwlock").write_text("")
    guard = (
        "import time, zc.lockfile; held = zc.lockfile.LockFile('.dvc/tmp/rwlock.lock');"
        "print('held', flush=True); time.sleep(60)"
    )
    with running(sys.executable, "-c", guard, cwd=root) as child:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
        assert found(root) == []
    cleared(root)


def test_where_files_are_locks_one_of_a_dead_pid_goes(root: Path) -> None:
    """A kernel lock's file, left as always, blocks a DVC that was set to hard links since."""
    with running(sys.executable, "-c", HOLD, "soft", cwd=root) as child:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
        sh("dvc", "config", "core.hardlink_lock", "true", cwd=root)
        assert found(root) == []
    (one,) = found(root)
    assert one.says == f".dvc/tmp/lock is of pid {child.pid}, which is dead"
    cleared(root)
    assert works(root)


def test_a_hard_link_names_no_pid_and_is_left_to_a_person(root: Path) -> None:
    sh("dvc", "config", "core.hardlink_lock", "true", cwd=root)
    with running(sys.executable, "-c", HOLD, "hard", cwd=root) as child:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
    (one,) = found(root)
    assert one.stops
    assert one.clear is None
    assert "if no dvc is running on any machine" in one.remedy
    sh(*one.remedy.partition(",")[0].split(), cwd=root)
    assert found(root) == []
    assert works(root)


def test_locks_that_dvc_cannot_read_are_for_the_doctor(root: Path) -> None:
    (root / ".dvc/tmp").mkdir(exist_ok=True)
    (root / ".dvc/tmp/rwlock").write_text('{"x')
    for act in (lambda: dvc.repro(root, print, {}), lambda: dvc.add(root, [root / "photos"], print)):
        with pytest.raises(StepFailed, match="cannot read its own locks") as failed:
            act()
        assert failed.value.hint == "plantops doctor --fix"

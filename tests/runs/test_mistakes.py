"""What users and their machines get wrong ends in words and the command that helps, never as a bug of plantops."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundle_factory import TinyModel, make_release
from conftest import plantops, sh
from plantops.bundle import Bundle
from plantops.store import FAILED, Release, Store, now
from runs.barred import bar
from runs.cheap import edit, state

pytestmark = pytest.mark.ci

PLANTOPS = [sys.executable, "-m", "plantops"]


def said(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What a failed command said."""
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stderr


@pytest.mark.parametrize("command", ["run", "up", "rollback"])
def test_a_state_folder_of_another_user(project: Path, command: str) -> None:
    barred = bar(project / ".plantops")
    error = said(sh(*barred, *PLANTOPS, command, cwd=project, check=False), 2)
    assert f"error: {project}/.plantops/" in error
    assert "cannot be used: Permission denied" in error
    assert re.search(rf"try: sudo chown -R \S+ {re.escape(str(project))}/\.plantops\n", error)


def test_a_lock_of_another_user(project: Path) -> None:
    barred = bar(project / "barred")
    (project / ".plantops").mkdir()
    lock = project / ".plantops/run.lock"
    lock.touch(mode=0o000)
    os.chown(lock, *([65534, 65534] if os.geteuid() == 0 else [-1, -1]))
    for command in ("run", "status"):
        error = said(sh(*barred, *PLANTOPS, command, cwd=project, check=False), 2)
        assert f"error: {lock} cannot be used: Permission denied" in error
        assert "try: sudo chown -R " in error


def test_a_folder_of_models_that_another_user_made(project: Path) -> None:
    (project / "models").mkdir()
    barred = bar(project / "models/releases")
    error = said(sh(*barred, *PLANTOPS, "run", cwd=project, check=False), 1)
    assert f"error: {project}/models/releases/" in error
    assert "cannot be used: Permission denied" in error
    assert f"try: ls -ld {project}/models/releases/" in error
    assert "cannot be used" in state(project)["last_run"]["error"]


def test_a_rollback_that_nobody_named_says_that_it_goes_to_drawn_leaves(project: Path) -> None:
    with Store(project / ".plantops") as store:
        for number, (name, drawn) in enumerate((("abc1234-drawn", True), ("abc1234-photos", False))):
            folder = make_release(project / "models/releases" / name, TinyModel(number), sample_data=drawn)
            store.add_release(Release(name, now(), None, Bundle.load(folder).digest, drawn, None, None, None))
            store.put_in_service(name, "code", "a test")
    told = plantops("rollback", cwd=project).stdout
    assert "abc1234-drawn is in service (drawn sample data: it knows nothing about real plants)\n" in told
    assert "plantops rollback RELEASE goes to one" in told
    assert plantops("rollback", "abc1234-photos", cwd=project).stdout == "abc1234-photos is in service\n"
    told = plantops("rollback", "abc1234-drawn", cwd=project).stdout
    assert told.splitlines() == ["abc1234-drawn is in service (drawn sample data: it knows nothing about real plants)"]


@pytest.mark.ci
@pytest.mark.parametrize("text", ["", "a word\n", "outs: Potato\n", "outs:\n- md5: 0a\n"], ids=repr)
def test_a_dvc_file_that_says_nothing(project: Path, text: str) -> None:
    (file,) = (project / "data/raw/PlantVillage").glob("Potato*.dvc")
    file.write_text(text)
    name = file.relative_to(project)
    assert f"{name}: cannot be read" in plantops("check", cwd=project).stdout
    error = said(plantops("run", "--skip-deploy", cwd=project, check=False), 2)
    assert "its .dvc cannot be read: resolve its conflict, or git checkout HEAD -- " in error
    error = said(plantops("run", "--force", "--skip-dvc", "--skip-deploy", cwd=project, check=False), 2)
    assert f"{name} cannot be read" in error
    assert f"try: git checkout {name}, or resolve the conflict" in error


# The disk is full

ALONE = ("unshare", "--map-root-user", "--mount")


def can_mount() -> bool:
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(
            [*ALONE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
        ).returncode
    )


def on_a_small_disk(project: Path, place: str, kilobytes: int, *command: str) -> subprocess.CompletedProcess[str]:
    """plantops, with ``place`` on a disk of its own; what lies there goes along, and comes back at the end."""
    folder, kept = shlex.quote(str(project / place)), shlex.quote(str(project.parent / "kept"))
    script = (
        f"mkdir -p {folder} && cp -a {folder} {kept} && mount -t tmpfs -o size={kilobytes}k none {folder}"
        f" && cp -a {kept}/. {folder} && {shlex.join([*PLANTOPS, *command])}; code=$?"
        f"; rm -rf {kept}; cp -a {folder} {kept}; umount {folder}; cp -a {kept}/. {folder}; exit $code"
    )
    return sh(*ALONE, "sh", "-c", script, cwd=project, check=False)


@pytest.mark.skipif(not can_mount(), reason="no mount namespaces here")
def test_no_room_for_the_release(project: Path) -> None:
    edit(project / "config.yaml", "min_free_gb: 1.0", "min_free_gb: 0")
    error = said(on_a_small_disk(project, "models/releases", 4, "run"), 1)
    assert "error: the disk is full" in error
    assert "try: make room; du -sh" in error
    last = state(project)["last_run"]
    assert (last["state"], last["error"]) == (FAILED, "the disk is full")


@pytest.mark.skipif(not can_mount(), reason="no mount namespaces here")
def test_no_room_for_the_state_and_its_log_and_the_next_run_takes_it_up(project: Path) -> None:
    edit(project / "config.yaml", "min_free_gb: 1.0", "min_free_gb: 0")
    error = said(on_a_small_disk(project, ".plantops", 150, "run", "--skip-deploy"), 1)
    assert "error: the disk is full" in error
    assert "try: make room; du -sh" in error
    plantops("run", "--skip-deploy", cwd=project)
    assert state(project)["last_run"]["state"] == "accepted"

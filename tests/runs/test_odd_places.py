"""Odd names, links, caches and places: what the guide types works there, or is refused with what helps."""

from __future__ import annotations

import os
import shlex
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import plantops, sh
from plantops.store import FAILED, Store
from runs.cheap import RAW, aliases, answering, edit, leaves, state
from runs.test_mistakes import ALONE, can_mount
from runs.test_watch import states, watching

pytestmark = pytest.mark.ci
YELLOW = (220, 220, 60)


def guide(folder: Path, name: str) -> None:
    """What the guide types."""
    sh("dvc", "add", f"{RAW}/{name}", cwd=folder)
    sh("git", "add", f"{RAW}/{name}.dvc", "dvc.lock", cwd=folder)
    sh("git", "commit", "-m", f"Add {name}", cwd=folder)


def clean(folder: Path) -> bool:
    return sh("git", "status", "--porcelain", cwd=folder).stdout == ""


def test_names_with_a_newline_and_of_250_bytes_and_a_clean_tree_after_the_guides_commands(project: Path) -> None:
    name = "New\nClass"
    leaves(project / RAW / name, YELLOW, 20)
    photos = sorted((project / RAW / name).iterdir())
    photos[0].rename(photos[0].with_name("line\nbreak___S 0000.jpg"))
    photos[1].rename(photos[1].with_name("é" * 123 + ".jpg"))
    guide(project, name)
    assert clean(project)
    plantops("run", cwd=project)
    assert answering(project)
    assert plantops("check", "--deep", "--exit-code", cwd=project / RAW / name).returncode == 0, "from a folder inside"
    sh("git", "add", "dvc.lock", cwd=project)
    sh("git", "commit", "-m", "Record the run", cwd=project)
    leaves(project / RAW / "Second", (240, 40, 240), 20)
    guide(project, "Second")
    assert clean(project)
    assert not list((project / "data").rglob(".gitignore"))
    assert aliases(project) == {"champion": 1}


def test_a_name_that_is_no_text_is_told_and_its_folder_left_alone(project: Path) -> None:
    """DVC takes none such."""
    edit(project / "config.yaml", "untracked: refuse", "untracked: add")
    folder = sorted(one for one in (project / RAW).iterdir() if one.is_dir())[0]
    odd = os.fsencode(folder) + b"/caf\xe9.jpg"
    os.rename(os.fsencode(sorted(folder.iterdir())[0]), odd)
    assert r"the name 'caf\udce9.jpg' is not UTF-8" in plantops("check", "--deep", cwd=project).stdout
    told = plantops("run", cwd=project, check=False)
    assert (told.returncode, r"'caf\udce9.jpg' is not UTF-8" in told.stderr) == (2, True)
    assert os.path.exists(odd)


def test_photos_behind_a_link_are_refused_as_dvc_does(project: Path, tmp_path: Path) -> None:
    edit(project / "config.yaml", "untracked: refuse", "untracked: add")
    leaves(tmp_path / "disk/Linked", YELLOW, 20)
    (project / RAW / "Linked").symlink_to(tmp_path / "disk/Linked")
    told = plantops("run", cwd=project, check=False)
    assert (told.returncode, "Linked: a link, and DVC takes no photos through one" in told.stderr) == (2, True)
    (project / RAW).rename(tmp_path / "disk/all")
    (project / RAW).symlink_to(tmp_path / "disk/all")
    told = plantops("run", cwd=project, check=False)
    assert (told.returncode, f"{RAW} leads out of the project by a link" in told.stderr) == (2, True)


@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_photos_that_are_links_into_dvcs_cache(project: Path, tmp_path: Path, kind: str) -> None:
    """As the README says for photos on another disk; and plantops stands in it by a link."""
    sh("dvc", "cache", "dir", "--local", tmp_path / "cache", cwd=project)
    sh("dvc", "config", "--local", "cache.type", kind, cwd=project)
    (tmp_path / "link").symlink_to(project)
    here = tmp_path / "link"
    leaves(here / RAW / "NewClass", YELLOW, 20)
    guide(here, "NewClass")
    one = sorted((here / RAW / "NewClass").iterdir())[0]
    assert one.is_symlink() if kind == "symlink" else one.stat().st_nlink == 2
    sh("dvc", "add", "--quiet", *(f"{RAW}/{one.stem}" for one in sorted((here / RAW).glob("*.dvc"))), cwd=here)
    plantops("run", "--skip-deploy", cwd=here)
    assert plantops("check", "--deep", "--exit-code", cwd=here).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="no mount namespaces here")
def test_looking_works_where_nothing_can_be_written(project: Path) -> None:
    plantops("run", "--skip-deploy", cwd=project)
    edit(project / "params.yaml", "seed: 1", "seed: 2")
    here, again = shlex.quote(str(project)), shlex.join([sys.executable, "-m", "plantops"])

    def barred(command: str) -> tuple[int, str]:
        script = f"mount --bind -o ro {here} {here} && cd {here} && ! touch x 2>/dev/null && {again} {command}"
        done = sh(*ALONE, "sh", "-c", script, cwd=project, check=False)
        return done.returncode, done.stdout + done.stderr

    for command in ("check --exit-code", "check --deep --exit-code"):
        code, said = barred(command)
        assert (code, "params.yaml: seed 1 → 2" in said) == (6, True), said
    code, said = barred("status")
    assert (code, "waiting     params.yaml: seed 1 → 2" in said) == (0, True), said
    code, said = barred("run")
    assert (code, "cannot be used: Read-only file system" in said) == (2, True), said


def test_a_clock_that_was_set_back_holds_nothing_up(project: Path) -> None:
    """Failures and runs of tomorrow: no pause is waited for, and the breaker does not count them."""
    plantops("run", "--skip-deploy", cwd=project)
    edit(project / "params.yaml", "seed: 1", "seed: 2")
    edit(project / "config.yaml", "max_runs_per_hour: 12", "max_runs_per_hour: 1")
    settled = state(project)["last_run"]["id"]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="milliseconds")
    with Store(project / ".plantops") as store:
        from plantops import dvc

        inputs = dvc.inputs(project)
        store.finish(store.begin("watch", {}, "", inputs), FAILED, inputs, error="no")
    with sqlite3.connect(project / ".plantops/state.db") as database:
        database.execute("UPDATE run SET started = ?, ended = ? WHERE id != ?", (tomorrow, tomorrow, settled))
    assert "released" in plantops("watch", "--once", cwd=project).stdout
    assert plantops("check", "--exit-code", cwd=project).returncode == 0


def test_a_forced_run_that_was_killed_is_taken_up_by_watch(project: Path) -> None:
    """Nothing but the run itself says that it is owed: its inputs are settled."""
    plantops("run", "--skip-deploy", cwd=project)
    killer = Path(__file__).with_name("killer.py")
    sh(sys.executable, killer, "kill", "record", "start", "run", "--force", cwd=project, check=False)
    checked = plantops("check", "--exit-code", cwd=project, check=False)
    assert (checked.returncode, "was interrupted on these inputs" in checked.stdout) == (6, True)
    assert state(project)["last_run"]["state"] == "interrupted"
    with watching(project) as watch:
        watch.says("is in service")
        watch.says("no changes")
        assert watch.ends() == 0
    assert states(project) == ["released", "interrupted", "accepted"]

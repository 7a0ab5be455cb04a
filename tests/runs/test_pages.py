"""The pages' blocks of commands, typed in order in a project that is new: README, then the guide in French."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import plantops, sh
from pages import GUIDE, OPERATIONS, README, block
from runs import cheap
from runs.cheap import RAW, answering, state, url

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, _own_home: None) -> Iterator[Path]:
    """A project without photos, and beside it photos of three classes and of a fourth."""
    folder = tmp_path_factory.mktemp("pages")
    cheap.empty(folder / "project")
    for name, colour in cheap.CLASSES.items():
        cheap.leaves(folder / "photos" / name, colour, 20)
    cheap.leaves(folder / "new/NewClass", (220, 220, 60), 20)
    (folder / "project/.venv").symlink_to(sys.prefix)
    yield folder
    plantops("down", cwd=folder / "project", check=False)


def typed(place: Path, text: str, cwd: str = "project", **env: str) -> str:
    """What a shell says that is given the block as it stands; only paths, port and waiting are of this place."""
    text = text.replace("/my/photos/NewClass", f"{place}/new/NewClass").replace("/my/photos", f"{place}/photos")
    text = text.replace("/other/disk", str(place)).replace("http://127.0.0.1:8000", url(place / "project"))
    text = re.sub(r"\bcurl ", "curl -sS --fail-with-body ", text)
    script = ["bash", "-e", "-o", "pipefail", "-c", text]
    done = subprocess.run(
        script, cwd=place / cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.skipif(not Path(sys.prefix, "bin/activate").is_file(), reason="this Python is in no venv to activate")
def test_first_steps_then_daily_work_then_a_backup_as_the_readme_types_them(place: Path) -> None:
    project = place / "project"
    leaf = next((place / "photos").rglob("*.jpg"))
    shutil.copy(leaf, project / "leaf.jpg")
    assert '"prediction"' in typed(place, block(README, "source .venv/bin/activate"))
    first = answering(project)
    assert first

    typed(place, block(README, "cp -r /my/photos/NewClass"))
    assert "NewClass new: 20 photos" in plantops("check", cwd=project).stdout
    plantops("run", cwd=project)
    assert answering(project) not in ("", first)
    assert "NewClass" in cheap.get(url(project) + "/classes")["classes"]

    backup, restore, pull = block(README, "plantops backup").splitlines()
    typed(place, backup)
    plantops("down", cwd=project)
    shutil.rmtree(project / RAW / "NewClass")
    sh("dvc", "remote", "add", "-q", "-d", "store", place / "remote", cwd=project)
    sh("dvc", "push", "-q", cwd=project)
    typed(place, restore.replace("restore ", "restore --force "))  # the same project: what is there is set aside
    typed(place, pull)
    assert (project / RAW / "NewClass").is_dir()
    assert state(project)["answering"]["release"] == answering(project)


def test_what_the_french_guide_types_about_predictions_reports_and_problems(place: Path) -> None:
    """On the project as the test before left it; it serves."""
    project = place / "project"
    if not answering(project):
        pytest.skip("the test before did not get that far")
    for name in ("leaf.jpg", "a.jpg", "b.jpg", "photos/c.jpg"):
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copy(next((place / "photos").rglob("*.jpg")), project / name)
    said = typed(place, block(GUIDE, "plantops predict photos/"))
    assert "c.jpg" in said
    assert "c.jpg" in (project / "answers.csv").read_text()
    typed(place, block(GUIDE, "plantops report "))
    assert "<html" in (project / "report.html").read_text()
    typed(place, block(GUIDE, "plantops doctor").replace("plantops logs", "timeout 5 plantops logs"))


def test_moving_to_another_machine_as_the_page_types_it(place: Path) -> None:
    """To another folder, with another home; on the project as the tests before left it."""
    project, there = place / "project", place / "there/plants"
    if not answering(project):
        pytest.skip("the first test did not get that far")
    sh("git", "init", "-q", "--bare", place / "origin.git", cwd=place)
    sh("git", "remote", "add", "origin", place / "origin.git", cwd=project)
    sh("git", "push", "-q", "-u", "origin", "HEAD", cwd=project)
    (place / "plants.tar").unlink()  # of the test before
    release = answering(project)
    typed(place, block(OPERATIONS, "git commit -am"))
    assert not answering(project)
    for folder in ("there", "home"):
        (place / folder).mkdir()
    text = block(OPERATIONS, "git clone").replace("ADDRESS", str(place / "origin.git"))
    try:
        typed(place, text, "there", HOME=str(place / "home"), XDG_CONFIG_HOME="", XDG_CACHE_HOME="")
        assert answering(there) == release
        assert "no changes" in plantops("check", "--deep", cwd=there).stdout
        plantops("verify", cwd=there)
    finally:
        plantops("down", cwd=there, check=False)

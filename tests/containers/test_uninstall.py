"""`plantops uninstall` of a project that serves by Docker, beside another one that does and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import plantops, sh
from containers import projects
from containers.engine import docker, need_image
from runs.cheap import RAW, answering, edit, get, url

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]


@pytest.fixture
def leaving(blank: Path) -> Path:
    """A project of its own that serves, with Prometheus and its volume; `blank` removes all of it in the end."""
    need_image("prom/prometheus:v2.53.2")
    said = "                # on the PATH"
    edit(blank / "config.yaml", f"  enabled: false{said}", f"  enabled: true{said}")
    sh("git", "commit", "-qam", "Look on by Prometheus", cwd=blank)
    plantops("run", cwd=blank)
    return blank


def volumes(folder: Path) -> list[str]:
    label = f"label=com.docker.compose.project={projects.name(folder)}"
    return docker("volume", "ls", "-q", "--filter", label).split()


def images(folder: Path) -> list[str]:
    return docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", projects.name(folder)).split()


def files(folder: Path, *within: str) -> dict[str, bytes]:
    found = (path for one in within for path in (folder / one).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_containers_volumes_and_images_go_and_nothing_of_others(leaving: Path, served: Path) -> None:
    before, photos = files(leaving, RAW.as_posix(), ".git/refs", "models"), sh("git", "rev-parse", "HEAD", cwd=leaving)
    others = (projects.everything(served), volumes(served), images(served), answering(served))
    assert projects.everything(leaving)
    assert volumes(leaving)
    assert images(leaving)

    asked = plantops("uninstall", cwd=leaving, check=False)
    assert asked.returncode == 2, "nobody is at the terminal"
    for kind in ("running", "container", "network", "volume", "image", "state"):
        assert f"  {kind} " in asked.stdout, asked.stdout
    assert answering(leaving), "asking removes nothing"

    plantops("uninstall", "--yes", cwd=leaving)
    assert (projects.everything(leaving), volumes(leaving), images(leaving)) == ([], [], [])
    assert not answering(leaving)
    assert not (leaving / "docker/.env").exists()
    assert files(leaving, RAW.as_posix(), ".git/refs", "models") == before
    assert sh("git", "rev-parse", "HEAD", cwd=leaving).stdout == photos.stdout
    assert "nothing of plantops outside of git" in plantops("uninstall", "--yes", cwd=leaving).stdout

    assert (projects.everything(served), volumes(served), images(served), answering(served)) == others
    assert get(url(served) + "/health")["status"] == "healthy"
    # What stayed is enough to serve again.
    plantops("up", cwd=leaving)
    assert answering(leaving)

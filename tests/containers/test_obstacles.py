"""What stands in the way of the Docker stack is found before training starts, by `run` and by `doctor` alike."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import sh
from containers import projects
from containers.engine import docker
from containers.projects import name
from plantops.config import load
from runs.cheap import edit

pytestmark = [pytest.mark.ci, pytest.mark.timeout(120)]
PLANTOPS = f"{shlex.quote(sys.executable)} -m plantops"
PLUGINS = ("/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins", "/usr/local/lib/docker/cli-plugins",
           "/usr/local/libexec/docker/cli-plugins")  # fmt: skip


@pytest.fixture(scope="module")
def shared(ready_for_docker: Path) -> Iterator[Path]:
    """A project that nothing is ever run in."""
    folder = projects.copy(ready_for_docker, ready_for_docker.with_name("obstacles"))
    yield folder
    projects.remove(folder)


@pytest.fixture
def project(shared: Path) -> Iterator[Path]:
    """The same, its config.yaml as it was afterwards; and nothing was made in it."""
    text = (shared / "config.yaml").read_text()
    before = made(shared)
    yield shared
    (shared / "config.yaml").write_text(text)
    assert made(shared) == before
    assert projects.everything(shared) == []


def made(folder: Path) -> list[str]:
    """What a run makes: prepared photos, models, records, runs in the store, images."""
    found = [one for one in ("data/prepared", "models", "mlruns", "docker/.env") if (folder / one).exists()]
    return found + docker("image", "ls", "-q", name(folder)).split()


def refused(folder: Path, says: str, hint: str, first: str = "", around: tuple[str, ...] = (), **env: str) -> None:
    """`run` is refused with exit 2 and a hint, and `doctor` finds the same; ``first`` is a shell's preparation."""
    for command in ("run", "doctor"):
        script = f"{first}\n{PLANTOPS} {command}"
        done = subprocess.run(
            [*around, "bash", "-ec", script], cwd=folder, env={**os.environ, **env},
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 2, said
        assert says in said
        assert f"try: {hint}" in said
        assert "Traceback" not in said


@pytest.fixture
def own_mounts() -> tuple[str, ...]:
    """The beginning of a command that runs among mounts of its own."""
    around = ("unshare", "--mount")
    if os.getuid() or subprocess.run([*around, "true"], capture_output=True, timeout=20).returncode:
        pytest.skip("no mounts of our own here: that takes root")
    return around


def test_an_engine_that_is_stopped(project: Path) -> None:
    says, hint = "the Docker engine does not answer", "sudo systemctl start docker"
    refused(project, says, hint, DOCKER_HOST=f"unix://{project}/nobody.sock")
    with socket.socket(socket.AF_UNIX) as closed:  # bound, and nobody listens
        closed.bind(str(project.parent / "closed.sock"))
        refused(project, says, hint, DOCKER_HOST=f"unix://{project.parent}/closed.sock")


def test_docker_not_installed(project: Path, tmp_path: Path) -> None:
    for one in ("bash", "git"):
        (tmp_path / one).symlink_to(str(shutil.which(one)))
    refused(project, "Docker is not installed", "docs.docker.com/engine/install", PATH=str(tmp_path))


def test_the_compose_plugin_missing(project: Path, own_mounts: tuple[str, ...]) -> None:
    hide = "\n".join(f"[ ! -d {one} ] || mount -t tmpfs none {one}" for one in PLUGINS)
    refused(project, "Docker's Compose plugin (v2) is missing", "docs.docker.com/compose/install", hide, own_mounts)


def test_no_permission_on_the_socket(project: Path) -> None:
    if os.getuid() or not shutil.which("setpriv"):
        pytest.skip("to be somebody else takes root and setpriv")
    # Root without its powers is somebody who may not open a socket of another user.
    theirs = project.parent / "theirs.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(theirs))
        listener.listen()
        os.chown(theirs, 12345, 12345)
        theirs.chmod(0o600)
        powerless = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
        says, hint = "no permission on the Docker engine's socket", "sudo usermod -aG docker"
        refused(project, says, hint, around=powerless, DOCKER_HOST=f"unix://{theirs}")


def test_no_room_where_docker_keeps_its_images(project: Path, own_mounts: tuple[str, ...]) -> None:
    place = docker("info", "--format", "{{.DockerRootDir}}")
    tiny = f"mount -t tmpfs -o size=10m none {shlex.quote(place)}"
    refused(project, f"0.0 GB free in {place}", "docker system df", tiny, own_mounts)


def test_a_port_that_is_taken(project: Path) -> None:
    port = load(project).deploy.port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        refused(project, f"haproxy: port {port} is taken by process {os.getpid()}", "stop it, or set deploy.port")


def test_a_port_of_a_page_that_is_taken(project: Path) -> None:
    edit(project / "config.yaml", "  mlflow: false", "  mlflow: true ")
    port = load(project).mlflow.ui_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        refused(project, f"mlflow: port {port} is taken", "stop it, or set mlflow.ui_port")


def test_another_project_of_the_same_name(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(json.dumps({"services": {"other": {"image": "haproxy:2.8.10"}}}))
    compose = ("docker", "compose", "-p", name(project), "-f", file)
    sh(*compose, "create", cwd=tmp_path)
    try:
        says = f"a compose project named {name(project)} runs from {tmp_path} already"
        refused(project, says, "give this one another project: in config.yaml")
    finally:
        sh(*compose, "down", cwd=tmp_path)


def test_grafana_for_everybody_with_the_password_that_everybody_knows(project: Path) -> None:
    text = (project / "config.yaml").read_text()
    head, grafana = text.split("grafana:", 1)
    grafana = grafana.replace("enabled: false", "enabled: true", 1).replace("bind: 127.0.0.1", "bind: 0.0.0.0", 1)
    (project / "config.yaml").write_text(f"{head}grafana:{grafana}")
    refused(project, "grafana.bind is 0.0.0.0, and no password is set", "export GRAFANA_PASSWORD")

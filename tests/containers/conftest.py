"""Stacks of containers that belong to one test, and leave nothing behind."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_client import free_port
from bundle_factory import TinyModel, make_release
from conftest import ROOT, plantops
from containers import projects
from containers.engine import docker, need_engine, need_image
from plantops.config import Config, DeployConfig, DockerConfig, GrafanaConfig, PrometheusConfig
from plantops.deploy.compose import Compose
from runs.cheap import answering


def own_config(root: Path) -> Config:
    """A project's own copy of the stack: free ports, a name and images of its own, the API and HAProxy alone."""
    name = f"plantops-test-{uuid.uuid4().hex[:8]}"
    shutil.copytree(ROOT / "docker", root / "docker", ignore=shutil.ignore_patterns(".env", "app"))
    return Config(
        root=root,
        file=root / "config.yaml",
        project=name,
        deploy=DeployConfig(backend="compose", port=free_port()),
        docker=DockerConfig(image=name, mlflow=False),
        prometheus=PrometheusConfig(enabled=False),
        grafana=GrafanaConfig(enabled=False),
    )


def forget_stack(name: str) -> None:
    """Remove all of a compose project; nobody is asked any more, so nobody is waited for."""
    label = ("--filter", f"label=com.docker.compose.project={name}")
    if found := docker("ps", "-aq", *label).split():
        docker("rm", "-f", *found)
    docker("compose", "-p", name, "down", "--volumes", "--remove-orphans", check=False)


def forget_images(name: str) -> None:
    """Remove all images of that name, those that were pushed to a registry, too."""
    # By its names alone: the same image may be another test's, too, by other names.
    form = "{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}"
    for place in (name, f"*/*/{name}"):
        for one in docker("image", "ls", "--digests", "--format", form, place).split():
            if "<none>" not in one:
                docker("image", "rm", "-f", one, check=False)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Compose]:
    """The compose backend of a project of the test's own."""
    need_engine()
    need_image("haproxy:2.8.10")
    config = own_config(tmp_path / "project")
    backend = Compose(config)
    yield backend
    forget_stack(config.project)
    forget_images(config.project)


@pytest.fixture
def releases(tmp_path: Path) -> dict[str, Path]:
    """Two releases that answer differently."""
    return {name: make_release(tmp_path / name, TinyModel(seed)) for name, seed in (("one", 1), ("two", 2))}


@pytest.fixture(scope="session")
def ready_for_docker(tmp_path_factory: pytest.TempPathFactory, _own_home: None) -> Path:
    """A project for the Docker stack that nothing was run in."""
    need_engine()
    need_image("haproxy:2.8.10")
    return projects.make(tmp_path_factory.mktemp("docker") / "project")


@pytest.fixture(scope="session")
def first_run(ready_for_docker: Path) -> Iterator[projects.FirstRun]:
    """A project that was run once and serves; tests go on from there, each as the one before left it."""
    folder = projects.copy(ready_for_docker, ready_for_docker.with_name("served"))
    said = plantops("run", cwd=folder).stdout
    yield projects.FirstRun(folder, said, projects.whole(folder))
    projects.remove(folder)


@pytest.fixture
def served(first_run: projects.FirstRun) -> Path:
    """That project, shared by tests that leave it serving."""
    folder = first_run.folder
    if projects.in_service(folder) != answering(folder):
        plantops("up", cwd=folder)
    return folder


@pytest.fixture
def blank(ready_for_docker: Path, tmp_path: Path) -> Iterator[Path]:
    """A project of the test's own that nothing was run in; all of it is removed."""
    folder = projects.copy(ready_for_docker, tmp_path / "blank")
    yield folder
    projects.remove(folder)

"""Images on their way to a real registry: what comes back from it by digest, and what it says of who may not."""

from __future__ import annotations

import io
import json
import tarfile
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from api_client import HOST, free_port
from containers.engine import docker, need_engine
from containers.registry import PASSWORD, USER, registry
from plantops.config import Config, DockerConfig
from plantops.deploy import registry as room
from plantops.deploy.compose import engine
from plantops.errors import PlantopsError, SetupError, StepFailed

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.ci, pytest.mark.timeout(120)]


@pytest.fixture
def client() -> DockerClient:
    need_engine()
    return engine.client()


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """A project whose images nobody else has; they are gone afterwards, whatever registry they were named for."""
    need_engine()
    name = f"plantops-test-{uuid.uuid4().hex[:8]}"
    yield Config(tmp_path, tmp_path / "config.yaml", docker=DockerConfig(image=name))
    for one in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split():
        if f"{name}:" in one:
            docker("image", "rm", "-f", one)


def at(config: Config, host: str, path: str = "/team") -> Config:
    """The same project, with a registry."""
    return replace(config, docker=replace(config.docker, registry=f"{host}{path}"))


def built(config: Config, holds: str, client: DockerClient) -> str:
    """The id of an image with one small file; another text is another image."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in {"Dockerfile": b"FROM scratch\nCOPY leaf /\n", "leaf": holds.encode()}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    packed.seek(0)
    name = f"{config.docker.image}:{uuid.uuid4().hex[:8]}"
    return str(client.images.build(fileobj=packed, custom_context=True, tag=name)[0].id)


def manifest(name: str) -> Any:
    """What the registry says of a reference by digest."""
    url = f"http://{name.replace('/', '/v2/', 1).replace('@', '/manifests/')}"
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": kind}), timeout=10) as answer:
        return json.load(answer)


def quiet(_: str) -> None:
    """The engine's lines are of no interest."""


def test_what_was_pushed_is_had_by_its_digest(client: DockerClient, config: Config, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        config = at(config, host)
        room.check(client, config)
        builds = [built(config, text, client) for text in ("one", "two")]
        assert room.reference(client, config, builds[0]) == ""
        said: list[str] = []
        names = [room.push(client, config, one, "r1", said.append) for one in builds]
        assert "latest" not in " ".join(said)
        assert names[0] != names[1]
        for build, name in zip(builds, names, strict=True):
            # The second took the first one's tag, and no digest.
            assert name.startswith(f"{host}/team/{config.docker.image}@sha256:")
            assert room.reference(client, config, build) == name
            assert manifest(name)["config"]["digest"] == build
        docker("image", "rm", "-f", *builds)
        docker("pull", "-q", names[0])
        assert client.images.get(names[0]).id == builds[0]
        docker("image", "rm", names[0])


def test_pushing_again_sends_no_layer(client: DockerClient, config: Config, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        config = at(config, host)
        build = built(config, "one", client)
        first = room.push(client, config, build, "r1", quiet)
        said: list[str] = []
        assert room.push(client, config, build, "r1", said.append) == first
        assert any("already exists" in one for one in said)
        assert not any("Pushed" in one for one in said)


def test_a_registry_that_is_away_is_found_before_any_work(client: DockerClient, config: Config) -> None:
    config = at(config, f"{HOST}:{free_port()}")
    with pytest.raises(SetupError, match=r"cannot be reached: .*refused") as caught:
        room.check(client, config)
    assert caught.value.hint.startswith(f"curl -sS https://{HOST}:")
    build = built(config, "one", client)
    with pytest.raises(StepFailed, match="cannot be reached"):
        room.push(client, config, build, "r1", quiet)
    assert room.reference(client, config, build) == ""


def test_a_login_is_asked_for_taken_from_docker_and_never_shown(
    client: DockerClient, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "login"))
    with registry(tmp_path / "registry", login=True) as host:
        config = at(config, host)
        build = built(config, "one", client)
        for attempt in (
            lambda: room.check(engine.client(), config),
            lambda: room.push(engine.client(), config, build, "r1", quiet),
        ):
            with pytest.raises(PlantopsError, match="wants a login") as caught:
                attempt()
            assert caught.value.hint == f"docker login {host}"
        docker("login", "-u", USER, "-p", PASSWORD, host)
        said: list[str] = []
        room.check(engine.client(), config)
        assert "@sha256:" in room.push(engine.client(), config, build, "r1", said.append)
        assert PASSWORD not in " ".join(said)
        docker("logout", host)


def test_a_wrong_login_is_told_without_it(
    client: DockerClient, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "login"))
    with registry(tmp_path / "registry", login=True) as host:
        config = at(config, host)
        docker("login", "-u", USER, "-p", PASSWORD, host)
        (tmp_path / "registry/htpasswd").write_text("")  # nobody may any more
        build = built(config, "one", client)
        with pytest.raises(PlantopsError, match="wants a login") as caught:
            room.push(engine.client(), config, build, "r1", quiet)
        assert PASSWORD not in caught.value.message + caught.value.hint


def test_of_docker_hub_the_engine_leaves_the_host_out() -> None:
    config = Config(Path(), Path("config.yaml"), docker=DockerConfig(image="leaves", registry="docker.io/team"))
    found = SimpleNamespace(attrs={"RepoDigests": ["other/leaves@sha256:1", "team/leaves@sha256:2"]})
    client: Any = SimpleNamespace(images=SimpleNamespace(get=lambda _: found))
    assert room.reference(client, config, "sha256:3") == "docker.io/team/leaves@sha256:2"

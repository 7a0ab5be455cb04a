"""docker-compose.yml as compose itself reads it, with what plantops writes into docker/.env."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from containers.engine import FILE, IMAGE, Project, docker, need_engine
from plantops.config import Config, DeployConfig, DockerConfig, GrafanaConfig, PrometheusConfig, ServeConfig
from plantops.deploy.compose.engine import rootless
from plantops.deploy.compose.stack import Stack
from plantops.serve.settings import Settings

FIRST_FLAGS = {
    "max_upload_mb", "max_megapixels", "max_batch", "request_timeout_s", "threads", "max_waiting", "keep_alive_s",
}  # fmt: skip
API, GATEWAY, OTHERS = "plant-disease-api", "haproxy", ("mlflow", "prometheus", "grafana")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    need_engine()
    return Config(tmp_path, tmp_path / "config.yaml")


def services(config: Config) -> dict[str, dict[str, Any]]:
    """The services that a bare `docker compose up` starts."""
    return dict(json.loads(Project(config).compose("config", "--format", "json"))["services"])


def hosts(service: dict[str, Any]) -> list[str]:
    """The addresses of this machine that the service listens on."""
    return [port["host_ip"] for port in service.get("ports", ())]


def test_compose_accepts_it_without_a_warning(config: Config) -> None:
    said = Project(config).run("config", "--quiet")
    assert said.stdout + said.stderr == ""
    assert set(services(config)) == {API, GATEWAY, *OTHERS}


def test_it_asks_for_docker_env_when_there_is_none() -> None:
    need_engine()
    with pytest.raises(AssertionError, match="run plantops up once"):
        Project.bare("config", "--quiet")


def test_every_service_restarts_keeps_its_log_short_and_has_its_bounds(config: Config) -> None:
    for name, service in services(config).items():
        assert service["restart"] == "unless-stopped", name
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert 0 < int(service["mem_limit"]) <= 2 * 1024**3, name
        assert not service.get("privileged"), name
        assert "network_mode" not in service, name


def test_every_service_has_a_health_check(config: Config) -> None:
    """In the file, or in our Dockerfile of the image."""
    ours = {API: "Dockerfile.inference", "mlflow": "Dockerfile.mlflow"}
    for name, service in services(config).items():
        assert "healthcheck" in service or "\nHEALTHCHECK " in (ROOT / "docker" / ours[name]).read_text(), name


def test_every_port_is_this_machines_alone(config: Config) -> None:
    for name, service in services(config).items():
        assert hosts(service) == ["127.0.0.1"], name


def test_only_what_config_yaml_opens_is_open(config: Config) -> None:
    opened = replace(config, deploy=DeployConfig(bind="0.0.0.0"), grafana=GrafanaConfig(bind="0.0.0.0"))
    assert {name for name, service in services(opened).items() if hosts(service) != ["127.0.0.1"]} == {GATEWAY}


def test_what_docker_env_says_is_what_compose_reads(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FILE.parent, config.root / "docker", ignore=shutil.ignore_patterns(".env"))
    stack = Stack(config)
    values = ("plain", r"a\b", "it's", "$HOME ${HOME} $$", "ends in \\", r"\'", '#no "comment" `x`', r"a\n\\'$x")
    for value in values:
        monkeypatch.setenv("GRAFANA_PASSWORD", value)
        stack.write(IMAGE)
        monkeypatch.delenv("GRAFANA_PASSWORD")
        assert stack.password.value == value, "kept"
        told = json.loads(docker("compose", "-f", str(stack.file), "config", "--format", "json"))
        read = told["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]
        assert read.replace("$$", "$") == value, "compose shows $ as $$"


def test_haproxy_gets_its_timeouts_in_whole_milliseconds(config: Config) -> None:
    slow = replace(config, deploy=DeployConfig(keep_alive_s=7.5), serve=ServeConfig(request_timeout_s=60.25))
    assert services(slow)[GATEWAY]["environment"] == {
        "KEEP_ALIVE_MS": "7500", "REQUEST_MS": "65250", "CLIENT_MS": "135500", "SERVER_MS": "150500"
    }  # fmt: skip


def test_a_rootless_engine_is_known_as_one() -> None:
    assert rootless({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]})
    assert not rootless({"SecurityOptions": ["name=seccomp,profile=builtin"]})
    assert not rootless({"SecurityOptions": None})


@pytest.mark.parametrize("left_out", OTHERS)
def test_the_stack_goes_without(config: Config, left_out: str) -> None:
    less = {
        "mlflow": replace(config, docker=DockerConfig(mlflow=False)),
        "prometheus": replace(config, prometheus=PrometheusConfig(enabled=False)),
        "grafana": replace(config, grafana=GrafanaConfig(enabled=False)),
    }
    assert set(services(less[left_out])) == {API, GATEWAY, *OTHERS} - {left_out}


def test_images_of_others_are_pinned_and_ours_never_pulled(config: Config) -> None:
    for name, service in services(config).items():
        _, _, tag = service["image"].rpartition(":")
        if name in (API, "mlflow"):
            assert service["pull_policy"] == "never", name
        else:
            assert tag[0] in "v0123456789", name
            assert tag.count(".") == 2, name


def test_what_is_kept_is_in_volumes_or_in_the_project(config: Config) -> None:
    """Nothing that `down` takes away: what a container writes elsewhere is gone with it."""
    kept = {name: {one["target"] for one in service.get("volumes", ())} for name, service in services(config).items()}
    assert "/prometheus" in kept["prometheus"]
    assert "/var/lib/grafana" in kept["grafana"]
    assert str(config.root / "mlruns") in kept["mlflow"]


def test_files_that_it_mounts_exist(config: Config) -> None:
    """Docker would make an empty folder in place of a missing one."""
    mounted = [
        one for service in services(config).values() for one in service.get("volumes", ()) if one["type"] == "bind"
    ]
    ours = [Path(one["source"]) for one in mounted if Path(one["source"]).is_relative_to(FILE.parent)]
    assert len(ours) >= 4
    assert all(path.exists() for path in ours)


def test_the_api_is_no_root_and_keeps_what_people_say_in_the_project(config: Config) -> None:
    api = services(config)[API]
    assert api["user"].split(":")[0] not in ("", "0", "root")
    assert api["read_only"] is True
    (mount,) = api["volumes"]
    assert (mount["source"], mount["target"]) == (str(config.kept), "/kept")
    told = api["environment"]
    names = ("KEPT", "KEEP", "REPLAY")
    assert [told[f"PLANTOPS_SERVE_{name}"] for name in names] == ["/kept", "0", "0"], "nothing is kept unasked"


def test_settings_come_as_they_are(config: Config) -> None:
    given = ServeConfig(keep=True, keep_photos=2_000_000, replay=200, keep_mb=0.5)
    told = services(replace(config, serve=given))[API]["environment"]
    names = ("KEEP", "KEEP_PHOTOS", "REPLAY", "KEEP_MB")
    assert [told[f"PLANTOPS_SERVE_{name}"] for name in names] == ["1", "2000000", "200", "0.5"]


def test_the_api_gets_as_flags_what_the_first_images_knew_and_the_rest_as_variables(config: Config) -> None:
    """An image that is older than a flag would not start with it, and a rollback would fail."""
    api = services(config)[API]
    flags = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in api["command"]}
    assert flags == FIRST_FLAGS
    told = {name.removeprefix("PLANTOPS_SERVE_").lower() for name in api["environment"]}
    every = {one.name for one in fields(Settings)} | {"kept"}
    assert flags | told == every

"""Grafana's password reaches a Grafana that has another one already, and no address but 127.0.0.1 comes before it.

Grafana's image cannot be had everywhere, so a stand-in takes its place: it has the command, the paths and the variable
of the real one, and like it takes the password of its environment only when its volume is new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api_client import free_port, until
from containers.conftest import own_config
from containers.engine import docker, need_engine
from plantops.config import Config, GrafanaConfig
from plantops.deploy.compose import Compose
from plantops.errors import SetupError, StepFailed

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]
SERVER = r"""
import http.server, os, pathlib, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
kept = pathlib.Path("/var/lib/grafana/password")
if not kept.exists():
    kept.write_text(os.environ["GF_SECURITY_ADMIN_PASSWORD"])
http.server.ThreadingHTTPServer(("", 3000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
COMMAND = r"""#!/usr/bin/env python
import pathlib, sys
if sys.argv[1:] != ["cli", "admin", "reset-admin-password", "--password-from-stdin"]:
    sys.exit(f"unknown command {sys.argv[1:]}")
password = sys.stdin.readline().rstrip("\n")
if len(password) < 4:
    sys.exit("Error: failed to update user password: new password is too short")
pathlib.Path("/var/lib/grafana/password").write_text(password)
"""
RECIPE = """FROM python:3.11-slim
COPY grafana /usr/local/bin/
COPY server.py /
RUN chmod 755 /usr/local/bin/grafana && ln -s /bin/true /usr/local/bin/wget && mkdir /var/lib/grafana \
    && chown 472 /var/lib/grafana
USER 472
ENTRYPOINT ["python", "/server.py"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """A project whose stack is Grafana alone, as a stand-in, for everybody."""
    need_engine()
    made = own_config(tmp_path / "project")
    made.state.mkdir()
    place = tmp_path / "stand-in"
    place.mkdir()
    for name, text in (("server.py", SERVER), ("grafana", COMMAND), ("Dockerfile", RECIPE)):
        (place / name).write_text(text)
    docker("build", "-t", f"{made.project}:grafana", str(place))
    file = made.root / "docker/docker-compose.yml"
    text = re.sub(r"grafana/grafana:[\d.]+", f"{made.project}:grafana", file.read_text())
    file.write_text(text.replace("interval: 10s", "interval: 1s"))
    made = replace(made, grafana=GrafanaConfig(port=free_port()))
    yield made
    docker("compose", "-p", made.project, "down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)
    docker("image", "rm", f"{made.project}:grafana")


def container(config: Config) -> str:
    """Grafana's one container."""
    label = f"label=com.docker.compose.project={config.project}"
    (found,) = docker("ps", "-q", "--filter", label).split()
    return found


def host(config: Config) -> str:
    """Where it listens."""
    bindings = json.loads(docker("inspect", "--format", "{{json .HostConfig.PortBindings}}", container(config)))
    return str(bindings["3000/tcp"][0]["HostIp"])


def password(config: Config) -> str:
    """The one that Grafana takes."""
    return str(until(lambda: docker("exec", container(config), "cat", "/var/lib/grafana/password", check=False)))


def test_nobody_elsewhere_meets_a_password_that_everybody_knows(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAFANA_PASSWORD", raising=False)
    Compose(config).open_pages(print)
    assert (password(config), host(config)) == ("admin", "127.0.0.1")

    # For everybody, while nobody chose a password: refused wherever it would be started.
    wide = Compose(replace(config, grafana=replace(config.grafana, bind="0.0.0.0")))
    with pytest.raises(SetupError, match="no password is set"):
        wide.preflight()
    for known in ("", "admin"):
        monkeypatch.setenv("GRAFANA_PASSWORD", known)
        with pytest.raises(StepFailed, match=r"grafana.bind is 0\.0\.0\.0, and no password is set"):
            wide.open_pages(print)
        assert host(config) == "127.0.0.1"

    # One that Grafana itself does not take.
    monkeypatch.setenv("GRAFANA_PASSWORD", "abc")
    with pytest.raises(StepFailed, match="new password is too short"):
        wide.open_pages(print)
    assert (password(config), host(config)) == ("admin", "127.0.0.1")

    # One that it takes, though its volume has another one: first the password, then the address.
    chosen = 'it\'s $HOME \\ "x"'
    monkeypatch.setenv("GRAFANA_PASSWORD", chosen)
    wide.open_pages(print)
    assert (password(config), host(config)) == (chosen, "0.0.0.0")
    notes = [one.read_bytes() for one in config.state.rglob("*") if one.is_file()]
    assert notes
    assert not any(chosen.encode() in one for one in notes)
    before = container(config)
    wide.open_pages(print)
    assert container(config) == before, "what is as it should be is left alone"

    # Another one again.
    monkeypatch.setenv("GRAFANA_PASSWORD", "another")
    wide.open_pages(print)
    assert (password(config), host(config)) == ("another", "0.0.0.0")

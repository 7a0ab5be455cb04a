"""What stands in the way of serving in a swarm is found before any work, and the way out is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from containers.conftest import own_config
from containers.engine import docker, need_engine
from containers.swarms import configured
from plantops.deploy.swarm import Swarm
from plantops.doctor import examine
from plantops.errors import SetupError
from plantops.symptoms import WRONG
from runs.cheap import edit

pytestmark = [pytest.mark.ci, pytest.mark.timeout(120)]


def test_an_engine_in_no_swarm_says_how_to_begin_one(tmp_path: Path) -> None:
    need_engine()
    if docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "inactive":
        pytest.skip("this engine is in a swarm already")
    stack = Swarm(configured(own_config(tmp_path / "project")))
    with pytest.raises(SetupError, match="this engine is in no swarm") as caught:
        stack.preflight()
    assert caught.value.hint.startswith("docker swarm init --advertise-addr")
    assert stack.serving() is None


def test_doctor_says_what_is_missing(project: Path) -> None:
    need_engine()
    edit(project / "config.yaml", "backend: local", "backend: swarm")
    said = {one.what: one for one in examine(project, None) if one.state == WRONG}
    assert "this engine is in no swarm" in said["docker"].says
    assert said["docker"].remedy.startswith("docker swarm init")

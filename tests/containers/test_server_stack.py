"""docker/server/docker-compose.yml as compose itself reads it, by the example of its .env."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from containers.engine import need_engine

pytestmark = pytest.mark.ci
FOLDER = ROOT / "docker/server"


def compose(env: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = ["docker", "compose", "-f", FOLDER / "docker-compose.yml", "--env-file", env]
    return subprocess.run([*argv, *words], capture_output=True, text=True)


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """The example, filled in."""
    need_engine()
    filled = re.sub(r"^(\w+)=$", r"\1=x-\1", (FOLDER / "env.example").read_text(), flags=re.MULTILINE)
    (tmp_path / ".env").write_text(filled.replace("x-S3_FOLDER", str(tmp_path)))
    return tmp_path / ".env"


def test_what_is_not_filled_in_is_asked_for(tmp_path: Path) -> None:
    need_engine()
    (tmp_path / ".env").write_text((FOLDER / "env.example").read_text())
    said = compose(tmp_path / ".env", "--profile", "server", "config")
    assert said.returncode != 0
    assert "is in docker/server/.env" in said.stderr


def test_it_is_a_stack_of_its_own_that_asks_to_be_started(env: Path) -> None:
    assert json.loads(compose(env, "config", "--format", "json").stdout).get("services", {}) == {}
    said = compose(env, "--profile", "server", "config", "--format", "json")
    assert said.returncode == 0
    assert said.stderr == ""
    read: dict[str, Any] = json.loads(said.stdout)
    assert read["name"] == "plantops-server"
    assert set(read["services"]) == {"postgres", "s3", "buckets", "mlflow"}
    for name, one in read["services"].items():
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert 0 < int(one["mem_limit"]) <= 2 * 1024**3, name
        assert {port["host_ip"] for port in one.get("ports", ())} <= {"127.0.0.1"}, name
        assert "x-" not in " ".join(one.get("command") or []), "a secret in a command"

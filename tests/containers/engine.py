"""A real Docker engine, and the project's own compose file as a compose project that belongs to one test."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from plantops.config import Config
from plantops.deploy.compose.stack import Stack

FILE = ROOT / "docker" / "docker-compose.yml"
IMAGE = "plant-disease-mlops:latest"
Done = subprocess.CompletedProcess[str]


def run(*words: str, check: bool = True, seconds: float = 120, env: Mapping[str, str] | None = None) -> Done:
    """Run `docker WORDS`; its complaint is shown when it fails."""
    done = subprocess.run(
        ["docker", *words],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, **(env or {})},
    )
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def docker(*words: str, check: bool = True, seconds: float = 120) -> str:
    """What `docker WORDS` prints."""
    return run(*words, check=check, seconds=seconds).stdout.strip()


def need_engine() -> None:
    """Skip the test where no engine answers."""
    try:
        docker("version", "--format", "{{.Server.Version}}", seconds=20)
    except (AssertionError, OSError, subprocess.TimeoutExpired):
        pytest.skip("no Docker engine answers")


def need_image(name: str) -> None:
    """Skip the test where the engine lacks an image that a user's would pull."""
    if not docker("image", "ls", "-q", name):
        pytest.skip(f"the engine has no {name}")


class Project:
    """The services of docker-compose.yml under a name of their own, with what plantops writes into docker/.env."""

    def __init__(self, config: Config, **changes: str) -> None:
        self.name = f"plantops-test-{uuid.uuid4().hex[:8]}"
        self._env = {**Stack(config).environment(IMAGE), "PLANTOPS_PROJECT": self.name, **changes}

    def run(self, *words: str, seconds: float = 120) -> Done:
        """Run `docker compose WORDS`."""
        return _compose(*words, seconds=seconds, env={**self._env, "COMPOSE_ANSI": "never"})

    def compose(self, *words: str, seconds: float = 120) -> str:
        """What `docker compose WORDS` prints."""
        return self.run(*words, seconds=seconds).stdout.strip()

    @staticmethod
    def bare(*words: str) -> Done:
        """Run `docker compose WORDS` where there is no docker/.env."""
        return _compose(*words, seconds=60, env={})

    def container(self, service: str) -> dict[str, Any]:
        """What the engine says about the service's one container."""
        (found,) = self.compose("ps", "-aq", service).split()
        (facts,) = json.loads(docker("inspect", found))
        return dict(facts)

    def remove(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")


def owner(path: Path) -> int:
    """The number of the user whom a file belongs to."""
    return path.stat().st_uid


def _compose(*words: str, seconds: float, env: Mapping[str, str]) -> Done:
    # No docker/.env of the clone: all that counts is given here.
    return run("compose", "--env-file", os.devnull, "-f", str(FILE), *words, seconds=seconds, env=env)

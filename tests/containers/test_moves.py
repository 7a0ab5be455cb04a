"""From one backend to the other and back: the gap is said, nothing is left over, and what fails brings the old back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import plantops
from containers import projects
from containers.projects import in_service, whole
from plantops import process
from plantops.deploy import daemon
from runs.cheap import answering, edit, state

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
TO_LOCAL, TO_COMPOSE = ("backend: compose", "backend: local"), ("backend: local", "backend: compose")


def moved(said: str, way: str) -> float:
    """The gap that was said, seconds."""
    found = re.search(rf"deploy.backend: {way}: the port changed hands in ([\d.]+) s", said)
    assert found, said
    print(f"{way}: {found[1]} s")
    return float(found[1])


def supervised(folder: Path) -> bool:
    """Whether a supervisor of the local backend runs, the rehearsal's included."""
    return any(daemon.find(folder / ".plantops" / one / "supervisor.json") for one in ("local", "rehearsal"))


def test_there_and_back_with_failures_on_either_side(blank: Path) -> None:
    config = blank / "config.yaml"
    # `auto` is settled by the first deployment, and remembered.
    edit(config, "backend: compose", "backend: auto")
    plantops("run", cwd=blank)
    release = whole(blank)
    away = {**os.environ, "DOCKER_HOST": f"unix://{blank}/nobody.sock"}
    for command in ("run", "doctor"):
        told = subprocess.run(
            [sys.executable, "-m", "plantops", command], cwd=blank, env=away, capture_output=True, text=True, timeout=60
        )
        assert told.returncode == 2, told.stdout + told.stderr
        assert "the Docker engine does not answer" in told.stdout + told.stderr
    assert not supervised(blank)
    assert whole(blank) == release

    # To the local backend, which does not come up: the old one is back.
    edit(config, "backend: auto", "backend: local")
    assert "deploy.backend: compose → local" in plantops("run", "--dry-run", cwd=blank).stdout
    in_the_way = blank / ".plantops/local/control.sock"
    in_the_way.mkdir(parents=True)
    (in_the_way / "file").touch()
    told = plantops("run", cwd=blank, check=False)
    assert told.returncode == 1
    assert "the supervisor of the API did not start" in told.stderr
    assert "Traceback" not in told.stderr
    assert not supervised(blank)
    edit(config, *TO_COMPOSE)
    assert whole(blank) == release
    edit(config, *TO_LOCAL)

    # Now it does.
    (in_the_way / "file").unlink()
    in_the_way.rmdir()
    said = plantops("run", cwd=blank).stdout
    assert moved(said, "compose → local") < 15
    assert answering(blank) == in_service(blank) == release
    assert projects.everything(blank) == []
    assert supervised(blank)
    assert "no changes" in plantops("run", cwd=blank).stdout

    # To the stack, whose HAProxy is broken: found while the old one serves.
    edit(config, *TO_COMPOSE)
    haproxy = blank / "docker/haproxy/haproxy.cfg"
    good = haproxy.read_text()
    haproxy.write_text(good.replace("balance roundrobin", "balanced on one leg"))
    told = plantops("run", cwd=blank, check=False)
    assert told.returncode == 1
    assert "unknown keyword 'balanced'" in told.stderr
    assert (answering(blank), projects.everything(blank)) == (release, [])
    # Well written, and listening on another port than the one that is published: found after the port changed hands.
    haproxy.write_text(good.replace("bind :8000", "bind :8001"))
    told = plantops("run", cwd=blank, check=False)
    assert told.returncode == 1
    assert "no answer" in told.stderr
    assert (answering(blank), projects.everything(blank)) == (release, [])
    assert supervised(blank)
    haproxy.write_text(good)
    said = plantops("up", cwd=blank).stdout
    assert moved(said, "local → compose") < 15
    assert whole(blank) == release
    assert not supervised(blank)
    assert process.left_over(state(blank)["last_run"]["id"]) == []


def test_restart_with_another_backend_in_config_yaml_moves_for_good(served: Path) -> None:
    release = whole(served)
    edit(served / "config.yaml", *TO_LOCAL)
    try:
        moved(plantops("restart", cwd=served).stdout, "compose → local")
        assert (answering(served), projects.everything(served)) == (release, [])
        assert "no changes" in plantops("run", cwd=served).stdout
    finally:
        edit(served / "config.yaml", *TO_COMPOSE)
    moved(plantops("up", cwd=served).stdout, "local → compose")
    assert whole(served) == release

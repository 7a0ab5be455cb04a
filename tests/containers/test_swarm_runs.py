"""Whole runs of a project that serves in a swarm, as a user types them; killed ones are put right by the next."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_client import until
from conftest import plantops, sh
from containers import projects
from containers.engine import docker
from containers.projects import in_service, reseed
from containers.swarms import forget, swarm
from plantops.config import load
from plantops.deploy.swarm import Swarm
from plantops.shelf import Shelf
from runs.cheap import answering, edit
from runs.test_faults import Asker, strike

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
POINTS = [("try", "end"), ("switch", "end"), ("watch", "end"), ("promote", "start"), ("promote", "end")]


@pytest.fixture(scope="module")
def served(ready_for_docker: Path) -> Iterator[Path]:
    """A project that was run once and serves in a swarm."""
    with swarm():
        folder = projects.copy(ready_for_docker, ready_for_docker.with_name("swarmed"))
        edit(folder / "config.yaml", "backend: compose", "backend: swarm")
        sh("git", "commit", "-qam", "Serve in a swarm", cwd=folder)
        try:
            plantops("run", cwd=folder)
            yield folder
        finally:
            plantops("down", cwd=folder, check=False)
            forget(Swarm(load(folder)))
            projects.remove(folder)


def whole(folder: Path) -> str:
    """Store, API, production, docker/.env and the swarm agree; returns the release."""
    release, shelf = in_service(folder), Shelf(folder / "models")
    assert release
    assert answering(folder) == release == shelf.produced()
    backend = Swarm(load(folder))
    until(lambda: backend.agrees(shelf.release(release)), 60, what="the backend's agreement")
    return release


def test_every_command_knows_what_serves(served: Path) -> None:
    release = whole(served)
    assert release in plantops("status", cwd=served).stdout
    assert release in plantops("status", "--live", cwd=served).stdout
    assert plantops("verify", cwd=served).returncode == 0
    assert plantops("doctor", cwd=served, check=False).returncode == 0
    assert "1 node can run the API" in plantops("doctor", cwd=served).stdout
    assert "no changes" in plantops("run", cwd=served).stdout
    assert whole(served) == release


def test_a_second_training_switches_and_rollback_takes_moments(served: Path) -> None:
    old = whole(served)
    reseed(served)
    plantops("run", cwd=served)
    new = whole(served)
    assert new != old
    asker = Asker(served)
    asker.start()
    try:
        began = time.monotonic()
        plantops("rollback", cwd=served)
        print(f"plantops rollback: {time.monotonic() - began:.1f} s")
        assert whole(served) == old
    finally:
        asker.stopped.set()
        asker.join()
    assert asker.seen == {old, new}


@pytest.mark.parametrize(("step", "moment"), POINTS)
def test_killed_at_any_step_the_api_answers_and_the_next_run_puts_it_right(
    served: Path, step: str, moment: str
) -> None:
    old = whole(served)
    reseed(served)
    plantops("run", "--skip-deploy", cwd=served)
    asker = Asker(served)
    asker.start()
    try:
        assert strike(served, "kill", step, moment, "run", "--skip-dvc").returncode == -9
        # Looks around, puts right what is not, and is killed itself before it begins anything.
        assert strike(served, "kill", "reproduce", "start", "run").returncode == -9
        mended = whole(served)
        assert (mended == old) == ((step, moment) != ("promote", "end"))
        plantops("run", cwd=served)
    finally:
        asker.stopped.set()
        asker.join()
    assert asker.seen == {old, whole(served)}, "the API was away"


def test_to_the_stack_of_compose_and_back(served: Path) -> None:
    release = whole(served)
    config = served / "config.yaml"
    for way, old, new in (("swarm → compose", "swarm", "compose"), ("compose → swarm", "compose", "swarm")):
        edit(config, f"backend: {old}", f"backend: {new}")
        said = plantops("run", cwd=served).stdout
        found = re.search(rf"deploy.backend: {way}: the port changed hands in ([\d.]+) s", said)
        assert found, said
        print(f"{way}: {found[1]} s")
        assert answering(served) == in_service(served) == release
    assert whole(served) == release
    left = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={projects.name(served)}")
    assert left == ""


def test_down_and_up(served: Path) -> None:
    release = whole(served)
    assert "stopped plant-disease-api" in plantops("down", cwd=served).stdout
    assert answering(served) == ""
    plantops("up", cwd=served)
    assert whole(served) == release

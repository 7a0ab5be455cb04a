"""SIGKILL at the beginning and end of each step that has to do with Docker: the old release serves on, the next run
puts everything right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import plantops
from containers.projects import FirstRun, containers, in_service, name, reseed, whole
from runs.cheap import answering
from runs.test_faults import Asker, strike

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]
STEPS = ("build", "try", "switch", "watch", "promote")
POINTS = [(step, moment) for step in STEPS for moment in ("start", "end")][:-1]


@pytest.fixture(scope="module")
def waiting(first_run: FirstRun) -> Iterator[Path]:
    """A project that serves one release, while another one is accepted and waits."""
    folder = first_run.folder
    if in_service(folder) != answering(folder):
        plantops("up", cwd=folder)
    reseed(folder)
    plantops("run", "--skip-deploy", cwd=folder)
    yield folder
    plantops("run", cwd=folder)


@pytest.mark.parametrize(("step", "moment"), POINTS)
def test_the_old_release_serves_on_and_the_next_run_puts_it_right(waiting: Path, step: str, moment: str) -> None:
    old = whole(waiting)
    asker = Asker(waiting)
    asker.start()
    try:
        assert strike(waiting, "kill", step, moment, "run", "--skip-dvc").returncode == -9
        left = containers(waiting)
        # Looks around, puts right what is not, and is killed itself before it begins anything.
        assert strike(waiting, "kill", "reproduce", "start", "run").returncode == -9
        assert whole(waiting) == old
    finally:
        asker.stopped.set()
        asker.join()
    switched = (step, moment) in (("switch", "end"), ("watch", "start"), ("watch", "end"), ("promote", "start"))
    assert len(left) == (1 if step == "build" or (step, moment) == ("try", "start") else 2)
    assert len(asker.seen) == (2 if switched else 1), "the API was away"
    assert old in asker.seen
    assert "" not in asker.seen


def test_killed_when_all_is_done_the_new_release_is_in_service(waiting: Path) -> None:
    old = whole(waiting)
    asker = Asker(waiting)
    asker.start()
    try:
        assert strike(waiting, "kill", "promote", "end", "run").returncode == -9
        new = whole(waiting)
        assert f"nothing new: {new} stays in service" in plantops("run", cwd=waiting).stdout
    finally:
        asker.stopped.set()
        asker.join()
    assert whole(waiting) == new != old
    assert asker.seen == {old, new}
    assert containers(waiting) == [f"running {name(waiting)}:{new}"]

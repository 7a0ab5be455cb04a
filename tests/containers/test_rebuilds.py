"""The same release built again by other code: the name is the build's that serves, whatever fails or is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from containers.engine import docker
from plantops import code
from plantops.deploy import image
from plantops.deploy.compose import Compose
from plantops.deploy.compose.stack import Stack
from plantops.errors import StepFailed

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]


def recipe(stack: Compose, line: str) -> None:
    """Have the project's images built with one line more."""
    with (stack._config.root / image.DOCKERFILE).open("a") as file:
        file.write(f"\n{line}\n")


def switch(stack: Compose, release: Path) -> None:
    stack.build(release, lambda _: None)
    stack.switch(stack.start(release))


def named(stack: Compose, *versions: str) -> list[str]:
    """The ids of the images of these names."""
    return [
        docker("image", "inspect", f"{stack._config.docker.image}:{one}", "--format", "{{.Id}}") for one in versions
    ]


def runs(stack: Compose) -> tuple[str, str]:
    """The one container of the API, and the image it was made of."""
    (one,) = stack._containers("plant-disease-api")
    return one.id, one.image_id


def typed_up(stack: Compose) -> None:
    """What a person types."""
    docker("compose", "-f", str(stack._config.root / "docker/docker-compose.yml"), "up", "-d")


def killed_at(stack: Compose, place: object, name: str) -> None:
    """Settle in a process of its own that is killed where ``name`` would be called."""
    child = os.fork()
    if not child:
        setattr(place, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        Compose(stack._config).settle()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_failed_try_leaves_the_name_where_it_was(stack: Compose, releases: dict[str, Path]) -> None:
    one = releases["one"]
    switch(stack, one)
    stack.settle()
    served, good = runs(stack)
    recipe(stack, 'ENTRYPOINT ["python", "-c", "raise SystemExit(\'not today\')"]')
    stack.build(one, lambda _: None)
    with pytest.raises(StepFailed, match="not today"):
        stack.start(one)
    assert named(stack, "one", "latest") == [good, good]
    assert stack.agrees(one)
    typed_up(stack)
    assert runs(stack) == (served, good)


def test_a_build_that_serves_takes_the_name(stack: Compose, releases: dict[str, Path]) -> None:
    one = releases["one"]
    switch(stack, one)
    stack.settle()
    assert stack.serving_code() == code.serving_digest()
    first = runs(stack)
    recipe(stack, "LABEL more=yes")
    switch(stack, one)
    assert named(stack, "one", "latest") == [first[1]] * 2, "until it is settled"
    stack.settle()
    second = runs(stack)
    assert (first[0] != second[0], first[1] != second[1]) == (True, True)
    assert named(stack, "one", "latest") == [second[1]] * 2
    assert stack.agrees(one)
    typed_up(stack)
    assert runs(stack) == second


@pytest.mark.parametrize(("place", "name"), [(image, "keep"), (image, "write_code"), (Stack, "write")])
def test_killed_while_settling_the_views_are_put_right(
    stack: Compose, releases: dict[str, Path], place: object, name: str
) -> None:
    switch(stack, releases["one"])
    stack.settle()
    switch(stack, releases["two"])
    killed_at(stack, place, name)
    later = Compose(stack._config)
    assert not later.agrees(releases["two"])
    later.up(releases["two"])
    assert later.agrees(releases["two"])
    assert named(stack, "latest") == named(stack, "two") == [runs(stack)[1]]
    assert ":two'" in (stack._config.root / "docker/.env").read_text()


def test_killed_while_a_build_has_the_name_what_served_gets_it_back(stack: Compose, releases: dict[str, Path]) -> None:
    one = releases["one"]
    switch(stack, one)
    stack.settle()
    served, good = runs(stack)
    recipe(stack, "LABEL more=yes")
    stack.build(one, lambda _: None)
    docker("tag", stack._built["one"], f"{stack._config.docker.image}:one")  # and then its caller died
    later = Compose(stack._config)
    assert not later.agrees(one)
    later.up(one)
    assert later.agrees(one)
    assert runs(later) == (served, good)
    assert named(stack, "one", "latest") == [good, good]


def test_what_serves_says_by_which_code(stack: Compose, releases: dict[str, Path], tmp_path: Path) -> None:
    stack.build(releases["one"], lambda _: None)
    name = f"{stack._config.docker.image}:one"
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\nLABEL org.plantops.serving-code=older\n")
    docker("build", "-t", name, str(tmp_path))
    later = Compose(stack._config)  # as a rollback, or --skip-docker: nothing is built
    later.switch(later.start(releases["one"]))
    assert later.serving_code() == "older"

"""What `plantops uninstall` finds in a real engine, and that all of it goes, and nothing of others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from containers.engine import docker
from plantops.deploy import left
from plantops.deploy.compose import Compose, engine

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]


def test_containers_networks_volumes_and_images_of_a_project_go(stack: Compose, releases: dict[str, Path]) -> None:
    config = stack._config
    label = f"label=com.docker.compose.project={config.project}"
    for folder in releases.values():
        stack.build(folder, lambda _: None)
    stack.up(releases["one"])
    docker("volume", "create", "--label", label.removeprefix("label="), f"{config.project}_grafana")
    other = f"{config.docker.image}:of-another-project"
    docker("tag", f"{config.docker.image}:two", other)
    found = list(left.find(engine.client(), config, {"one"}))
    kinds = Counter(one.kind for one in found)
    assert (kinds["container"], kinds["volume"], kinds["network"] > 0) == (2, 1, True)
    images = {one.name.partition(":")[2] for one in found if one.kind == "image"}
    assert "one" in images
    assert not images & {"two", "of-another-project"}
    for one in found:
        one.remove()
    assert list(left.find(engine.client(), config, {"one"})) == []
    assert docker("ps", "-aq", "--filter", label).split() == []
    assert other in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()

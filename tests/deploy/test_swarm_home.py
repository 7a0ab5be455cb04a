"""Where a swarm would run the API: a node that is not this one needs a registry, however few there are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plantops.config import Config, ServeConfig
from plantops.deploy.swarm import nodes
from plantops.errors import SetupError

HERE = "node-here"


def engine(**availability: str) -> Any:
    """A manager's engine as the SDK shows it, in a swarm of these nodes."""
    swarm = {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": HERE}
    found = [
        SimpleNamespace(id=f"node-{name}", attrs={"Spec": {"Availability": one}, "Status": {"State": "ready"}})
        for name, one in availability.items()
    ]
    return SimpleNamespace(info=lambda: {"Swarm": swarm}, nodes=SimpleNamespace(list=lambda: found))


def test_this_node_alone_needs_no_registry() -> None:
    config = Config(Path(), Path("config.yaml"), serve=ServeConfig(keep=True))
    for client in (engine(here="active"), engine(here="active", there="drain")):
        nodes.check(client, config)
        assert nodes.home(client) == HERE


def test_a_manager_that_takes_no_tasks_needs_one() -> None:
    client = engine(here="drain", there="active")
    assert nodes.home(client) == ""
    with pytest.raises(SetupError, match=r"would run on another node, and docker\.registry names no registry"):
        nodes.check(client, Config(Path(), Path("config.yaml")))


def test_two_nodes_need_one() -> None:
    with pytest.raises(SetupError, match=r"the swarm has 2 nodes, and docker\.registry names no registry"):
        nodes.check(engine(here="active", there="active"), Config(Path(), Path("config.yaml")))

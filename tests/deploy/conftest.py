"""A local backend in a project of its own; nothing of it is left running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api_client import free_port, until
from bundle_factory import make_release
from deploy.leftovers import left_over
from deploy.load import MODELS
from plantops.config import DeployConfig, ServeConfig
from plantops.deploy.local import Local


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two releases with distinguishable answers."""
    folder = tmp_path_factory.mktemp("releases")
    return {name: make_release(folder / name, model) for name, model in MODELS.items()}


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    root = tmp_path / ("a-project-in-a-deep-folder-" * 5)
    root.mkdir()
    backend = Local(root, DeployConfig(port=free_port()), ServeConfig(threads=2))
    yield backend
    backend.down()
    until(lambda: not left_over(root), what="everything ending")

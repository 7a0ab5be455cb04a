"""Projects with cheap stages: nothing is left running."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_client import free_port
from conftest import ROOT, once, plantops, sh
from runs import cheap


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory, _own_home: None) -> Path:
    """A project on which nothing was run yet."""
    return once(tmp_path_factory, "ready", cheap.make)


@pytest.fixture
def project(ready: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, with a port of its own; nothing is left running."""
    folder = tmp_path / "project"
    sh("cp", "-a", ready, folder, cwd=tmp_path)
    text = (folder / "config.yaml").read_text()
    for line in text.splitlines():
        if line.strip().startswith(("port: ", "ui_port: ")):
            key = line.split(":")[0]
            text = text.replace(line, f"{key}: {free_port()}")
    (folder / "config.yaml").write_text(text)
    sh("git", "commit", "-qam", "Take other ports", cwd=folder)
    yield folder
    plantops("down", cwd=folder, check=False)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    sh(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (made,) = folder.glob("*.whl")
    return made

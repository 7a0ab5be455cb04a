"""One tiny project whose stages have run, shared by the tests that only look."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from plantops.ml import data, evaluate, export, train
from plantops.ml.frameworks import torch

from . import photos


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks this small gain nothing from two, and wait long for one another on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with all four stages done. Tests must not change it."""
    folder = photos.project(tmp_path_factory.mktemp("trained") / "project")
    with contextlib.chdir(folder):
        for stage in (data, train, evaluate, export):
            stage.main()
    return folder

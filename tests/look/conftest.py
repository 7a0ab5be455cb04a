"""A project with two classes of photos that nothing is wrong with."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ROOT
from look.scenes import RAW, fill


@pytest.fixture
def garden(tmp_path: Path) -> Path:
    """The files of a project that a look reads; DVC and git are not asked."""
    for name in ("config.yaml", "params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    fill(tmp_path / RAW)
    return tmp_path

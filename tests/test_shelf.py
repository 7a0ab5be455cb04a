"""models/production as one folder: exchanged in one step, or in three where the file system cannot."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import pytest

from bundle_factory import TinyModel, make_release
from conftest import ROOT, sh
from no_exchange import RENAMEAT2
from plantops.shelf import Shelf

PRODUCE = (
    "import sys; from pathlib import Path; from plantops.shelf import Shelf; Shelf(Path('models')).produce(sys.argv[1])"
)
EXCHANGE = (
    "import ctypes, sys; sys.exit(ctypes.CDLL(None, use_errno=True).renameat2(-100, b'one', -100, b'other', 2) != 0)"
)
filtered = pytest.mark.skipif(platform.machine() not in RENAMEAT2, reason="no filter is known for this processor")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two releases on the shelf."""
    for number, name in enumerate(("first", "second")):
        make_release(tmp_path / "models/releases" / name, TinyModel(number))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def produced(project: Path) -> str:
    """What production holds; whole, and with nothing left beside it."""
    shelf = Shelf(project / "models")
    assert sorted(one.name for one in (project / "models").iterdir()) == ["production", "releases"]
    assert contents(shelf.production) == contents(shelf.release(shelf.produced()))
    return shelf.produced()


def test_production_goes_from_one_release_to_the_next_and_back(project: Path) -> None:
    shelf = Shelf(project / "models")
    assert shelf.produced() == ""
    for name in ("first", "second", "first"):
        assert shelf.produce(name)
        assert produced(project) == name
        assert not shelf.produce(name)


def test_five_refused_ones_are_kept_and_the_newest_is_one_of_them_by_any_clock(project: Path) -> None:
    shelf = Shelf(project / "models")
    make_release(shelf.candidate)
    for run in ("20260105", "20260106", "20260107", "20260108", "20260109", "20260110", "20260101"):
        shelf.refuse(run, {"outcome": "refused"}, project / "reports")
        assert shelf.refusal(run)
    assert sorted(one.name[-2:] for one in shelf.refused.iterdir()) == ["01", "07", "08", "09", "10"]


@filtered
def test_where_folders_cannot_be_exchanged_three_renames_do_it(project: Path) -> None:
    here = [sys.executable, ROOT / "tests/no_exchange.py", sys.executable, "-c"]
    (project / "one").mkdir()
    (project / "other").mkdir()
    assert sh(*here, EXCHANGE, cwd=project, check=False).returncode == 1
    (project / "one").rmdir()
    (project / "other").rmdir()
    for name in ("first", "second", "first"):
        sh(*here, PRODUCE, name, cwd=project)
        assert produced(project) == name


@filtered
def test_what_a_killed_exchange_left_aside_is_in_nobodys_way(project: Path) -> None:
    """Killed between the renames: production is away, and comes back."""
    shelf = Shelf(project / "models")
    shelf.produce("first")
    shelf.production.rename(project / "models/.production.old")
    make_release(project / "models/.production.new")
    assert shelf.produce("second")
    assert shelf.produced() == "second"
    sh(sys.executable, ROOT / "tests/no_exchange.py", sys.executable, "-c", PRODUCE, "first", cwd=project)
    assert produced(project) == "first"


def test_names_of_files_in_any_encoding_are_kept(project: Path) -> None:
    """A photo with a Latin-1 name that went to another split."""
    (project / "models/releases/first").rename(project / "models/candidate")
    split = project / "split.csv"
    split.write_text("path,md5,split\n")
    lineage = {"went_to_another_split": {os.fsdecode(b"caf\xe9.jpg"): "train → test"}}
    staged = Shelf(project / "models").stage("third", {"release": "third"}, lineage, split, project / "reports")
    assert json.loads((staged / "lineage.json").read_text()) == lineage

"""`plantops sample` as a user types it: into the raw folder, into another, and never over photos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import plantops, sh
from runs.cheap import RAW
from runs.test_doctor import listing

pytestmark = pytest.mark.ci

FEW = ("--classes", "2", "--per-class", "4")
NAMES = ["Tomato___Early_blight", "Tomato___healthy"]


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A new project without photos."""
    plantops("init", "new", cwd=tmp_path)
    return tmp_path / "new"


def drawn(folder: Path) -> dict[str, int]:
    return {one.name: len(list(one.iterdir())) for one in folder.iterdir() if one.is_dir()}


def test_into_the_raw_folder_from_anywhere_in_the_project(empty: Path) -> None:
    told = plantops("sample", *FEW, cwd=empty / "data").stdout
    assert drawn(empty / RAW) == dict.fromkeys(NAMES, 4)
    assert f"   4  {NAMES[0]}\n" in told
    assert "drawn sample leaves (no photos) in raw/PlantVillage; next: dvc add each class" in told
    # As it says: DVC takes each class, and the project knows them for what they are.
    sh("dvc", "add", "--quiet", *sorted((empty / RAW).glob("*/")), cwd=empty)
    found = json.loads(plantops("doctor", "--json", cwd=empty, check=False).stdout)
    assert [one["says"] for one in found if one["what"] == "data"] == ["2 classes, all under DVC as they are"]
    # Typed again it draws nothing; with another seed it refuses.
    assert f"   0  {NAMES[0]}\n" in plantops("sample", *FEW, cwd=empty).stdout
    other = plantops("sample", *FEW, "--seed", "2", cwd=empty, check=False)
    assert (other.returncode, "holds another sample" in other.stderr) == (2, True)


def test_into_another_folder_outside_any_project(tmp_path: Path) -> None:
    told = plantops("sample", "some/where", *FEW, cwd=tmp_path).stdout
    assert drawn(tmp_path / "some/where") == dict.fromkeys(NAMES, 4)
    assert "in some/where; " in told
    nowhere = plantops("sample", *FEW, cwd=tmp_path, check=False)
    assert nowhere.returncode == 2
    assert "no plantops project" in nowhere.stderr


def test_photos_are_never_mixed_with_drawn_leaves(project: Path) -> None:
    before = listing(project)
    for argv in (["sample", *FEW], ["sample", str(RAW), *FEW]):
        refused = plantops(*argv, cwd=project, check=False)
        assert refused.returncode == 2
        assert "was not drawn by `plantops sample`" in refused.stderr
        assert "try: plantops sample DIR with an empty DIR" in refused.stderr
    assert listing(project) == before


def test_impossible_wishes_are_refused(empty: Path) -> None:
    for wish in (["--classes", "1"], ["--classes", "99"], ["--per-class", "3"], ["--per-class", "many"]):
        refused = plantops("sample", *wish, cwd=empty, check=False)
        assert refused.returncode == 2, wish
        assert "Traceback" not in refused.stderr
    assert drawn(empty / RAW) == {}

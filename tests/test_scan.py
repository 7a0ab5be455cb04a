"""Photos that DVC does not know as they are: found, named, and each hashed once."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from api_client import until
from conftest import photo, sh
from plantops import dirhash, dvc, pipeline, scan
from plantops.config import DataConfig, load
from plantops.errors import SetupError, StepFailed
from plantops.store import Store

RAW = Path("data/raw/PlantVillage")


def look(project: Path) -> list[str]:
    with Store(project / ".plantops") as store:
        return [one.what for one in scan.loose(project, project / RAW, store)]


def test_nothing_loose_in_a_clean_project(project: Path) -> None:
    assert look(project) == []
    assert look(project) == []


def test_a_folder_without_dvc_is_named_with_the_command(project: Path) -> None:
    photo(project / RAW / "NewClass" / "1.jpg", (1, 2, 3))
    assert look(project) == ["NewClass: 1 photo not under DVC: dvc add data/raw/PlantVillage/NewClass"]


@pytest.mark.ci
def test_photos_that_came_went_or_changed_since_dvc_add(project: Path) -> None:
    folder = project / RAW / "Potato___Late_blight"
    assert look(project) == []
    photo(folder / "new.jpg", (9, 9, 9))
    assert "3 → 4 photos since its dvc add" in look(project)[0]
    (folder / "new.jpg").unlink()
    assert look(project) == []
    photo(sorted(folder.iterdir())[0], (8, 7, 6))
    assert "other content in its 3 photos" in look(project)[0]


@pytest.mark.ci
def test_same_size_and_time_but_another_inode_is_read_again(project: Path) -> None:
    folder = project / RAW / "Potato___Late_blight"
    one = sorted(folder.iterdir())[0]
    assert look(project) == []
    data, stat = one.read_bytes(), one.stat()
    other = folder / "tmp"
    other.write_bytes(bytes(len(data)))
    os.replace(other, one)
    os.utime(one, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "other content" in look(project)[0]


def test_the_commands_can_be_typed_whatever_the_name(project: Path) -> None:
    photo(project / RAW / "Bob's leaf" / "1.jpg", (1, 2, 3))
    command = look(project)[0].partition("not under DVC: ")[2]
    assert shlex.split(command) == ["dvc", "add", f"{RAW}/Bob's leaf"]


def test_a_conflict_in_the_dvc_file_is_called_one(project: Path) -> None:
    file = f"{RAW}/Potato___Late_blight.dvc"
    (project / file).write_text(f"<<<<<<< HEAD\n{(project / file).read_text()}=======\n>>>>>>> theirs\n")
    said = f"Potato___Late_blight: its .dvc cannot be read: resolve its conflict, or git checkout HEAD -- {file}"
    assert look(project) == [said]
    with pytest.raises(SetupError, match="git checkout HEAD"), Store(project / ".plantops") as store:
        pipeline.check_loose(
            replace(load(project), data=DataConfig(untracked="add")), scan.loose(project, project / RAW, store)
        )
    sh(*shlex.split(said.partition(", or ")[2]), cwd=project)
    assert look(project) == []


def test_dvc_adds_reason_is_told(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: [\n")
    photo(project / RAW / "Bob's leaf" / "1.jpg", (1, 2, 3))
    with pytest.raises(StepFailed) as failed:
        dvc.add(project, [project / RAW / "Bob's leaf"], print)
    assert "dvc.yaml" in failed.value.message
    assert shlex.split(failed.value.hint) == ["dvc", "add", f"{RAW}/Bob's leaf"]


@pytest.mark.ci
def test_what_an_upload_renames_under_dvc_add_is_said_to_move(project: Path) -> None:
    folder = project / RAW / "Upload"
    folder.mkdir()
    (folder / "nowhere.jpg").symlink_to("none")
    with pytest.raises(StepFailed, match=r"dvc add failed:\n.*nowhere\.jpg"):
        dvc.add(project, [folder], print)
    (folder / "nowhere.jpg").unlink()
    # One file at least is half there at any time.
    upload = "import itertools, os, sys, time\nfor n in itertools.count():\n  path = f'{sys.argv[1]}/{n}'\n"
    upload += "  open(f'{path}.part', 'w').write(str(n))\n  time.sleep(.005)\n"
    upload += "  if n: os.replace(f'{before}.part', f'{before}.jpg')\n  before = path"
    with subprocess.Popen([sys.executable, "-c", upload, folder]) as uploading:
        try:
            until(lambda: list(folder.glob("*.jpg")), what="the first photo")
            with pytest.raises(StepFailed, match="photos moved while they were read, by dvc add") as failed:
                dvc.add(project, [folder], print)
        finally:
            uploading.kill()
    assert failed.value.hint == "run again when the copying is done"
    dvc.add(project, [folder], print)


@pytest.mark.ci
def test_links_to_folders_are_not_followed_as_dvc_does_not(project: Path) -> None:
    folder = project / RAW / "Potato___Late_blight"
    (folder / "round").symlink_to(".")
    (folder / "elsewhere").symlink_to("../Pepper,_bell___healthy")
    sh("dvc", "add", "--quiet", str(folder), cwd=project)
    assert "nfiles: 3\n" in (folder.parent / f"{folder.name}.dvc").read_text()
    assert look(project) == []
    for place in (folder, folder.parent):
        (place / "itself").symlink_to("itself")
    assert look(project) == []


@pytest.mark.ci
def test_a_class_folder_that_is_a_link_is_looked_into(project: Path) -> None:
    folder = project / RAW / "Potato___Late_blight"
    folder.rename(project / "potatoes")
    folder.symlink_to(project / "potatoes")
    assert look(project) == []
    photo(project / "potatoes/new.jpg", (9, 9, 9))
    assert "3 → 4 photos since its dvc add" in look(project)[0]


def test_data_that_is_not_here_says_how_to_get_it(project: Path) -> None:
    shutil.rmtree(project / RAW / "Potato___Late_blight")
    assert look(project) == [
        "Potato___Late_blight: its photos are not here: dvc checkout data/raw/PlantVillage/Potato___Late_blight.dvc"
        " or dvc pull"
    ]


@pytest.mark.ci
def test_one_dvc_file_over_all(project: Path) -> None:
    raw = project / RAW
    for pointer in raw.glob("*.dvc"):
        sh("dvc", "remove", "--quiet", str(pointer.relative_to(project)), cwd=project)
    (raw / ".gitkeep").unlink()
    sh("git", "rm", "-rq", "--cached", str(RAW), cwd=project)
    sh("dvc", "add", "--quiet", str(RAW), cwd=project)
    assert look(project) == []
    photo(raw / "Potato___Late_blight" / "late.jpg", (5, 5, 5))
    assert "6 → 7 photos" in look(project)[0]


def test_directory_hash_is_dvcs_own(project: Path) -> None:
    with Store(project / ".plantops") as store:
        assert scan.loose(project, project / RAW, store) == []
        rows = store.photos(f"{RAW.as_posix()}/Potato___Late_blight")
    recorded = (project / RAW / "Potato___Late_blight.dvc").read_text()
    assert dirhash.directory([(path, md5) for path, (_, md5) in rows.items()]) in recorded


def test_a_class_that_left_is_forgotten(project: Path) -> None:
    assert look(project) == []
    shutil.rmtree(project / RAW / "Potato___Late_blight")
    (project / RAW / "Potato___Late_blight.dvc").unlink()
    assert look(project) == []
    with Store(project / ".plantops") as store:
        assert [Path(name).name for name in store.folders()] == [
            one.stem for one in sorted((project / RAW).glob("*.dvc"))
        ]


def test_the_other_way_to_keep_photos_is_forgotten_too(project: Path) -> None:
    known = {folder.relative_to(project).as_posix() for folder in scan.classes(project / RAW)}
    with Store(project / ".plantops") as store:
        store.remember_folder(RAW.as_posix(), "of all classes, under one .dvc file", "md5", [])
        scan.loose(project, project / RAW, store)
        assert set(store.folders()) == known


def test_what_goes_while_it_is_looked_at_is_not_there(project: Path) -> None:
    """As the half-written file of an upload that is renamed when it is whole."""
    folder = project / RAW / "Upload"
    photo(folder / "whole.jpg", (1, 2, 3))
    (folder / "half.part").write_bytes(b"half")

    def renamed_meanwhile(path: Path) -> str:
        if path.name == "half.part":
            path.rename(path.with_name("half.jpg"))
        return scan.md5_of(path)

    def seen() -> set[str]:
        with Store(project / ".plantops") as store:
            found = scan.listed(project, project / RAW, store, renamed_meanwhile)
            return {inside + path for inside, one in found for path in one if inside == "Upload/"}

    assert seen() == {"Upload/whole.jpg"}
    assert seen() == {"Upload/whole.jpg", "Upload/half.jpg"}
    (folder / "half.jpg").rename(folder / "half.part")
    assert seen() == {"Upload/whole.jpg"}


@pytest.mark.ci
def test_what_hides_is_no_photo_for_dvc_either(project: Path) -> None:
    folder = project / RAW / "Potato___Late_blight"
    (folder / ".leaf.jpg.Xa3").write_bytes(b"half")
    (folder / ".partial").mkdir()
    (folder / ".partial/leaf.jpg").write_bytes(b"half")
    assert look(project) == []
    sh("dvc", "add", "--quiet", str(folder), cwd=project)
    assert look(project) == []
    assert "nfiles: 3" in folder.with_name(f"{folder.name}.dvc").read_text()


def test_a_link_to_itself_is_no_dvc_file(project: Path) -> None:
    before = list(dvc.dvc_files(project))
    (project / "loop.dvc").symlink_to("loop.dvc")
    assert list(dvc.dvc_files(project)) == before

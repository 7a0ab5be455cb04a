"""`plantops init` around photos, and in a repository of another make: nothing is overwritten or lost."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from conftest import photo, plantops, sh
from plantops import dvc
from plantops.config import load

pytestmark = pytest.mark.ci


def mushrooms(folder: Path) -> Path:
    for number, name in enumerate(("Boletus edulis", "Amanita muscaria")):
        for shot in range(3):
            photo(folder / name / f"{shot}.jpg", (60 * number + 20, 40 * shot + 30, 90))
    return folder


def listing(folder: Path) -> dict[str, str]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): hashlib.md5(one.read_bytes()).hexdigest() for one in files}


def ready(folder: Path) -> None:
    """As init says: dvc add, git add, git commit; and then it is a project with something to run."""
    raw = dvc.raw_folder(folder)
    sh("dvc", "add", "-q", *sorted(one for one in raw.iterdir() if one.is_dir()), cwd=folder)
    sh("git", "add", ".", cwd=folder)
    sh("git", "commit", "-qm", "Add photos", cwd=folder)
    assert sh("git", "status", "--porcelain", cwd=folder).stdout == ""
    assert not [one for one in sh("git", "ls-files", cwd=folder).stdout.splitlines() if one.endswith(".jpg")]
    looked = json.loads(plantops("check", "--json", cwd=folder).stdout)
    assert looked["stages"] == ["prepare_data", "train", "evaluate", "export_model"]


def test_around_photos_that_lie_elsewhere(tmp_path: Path) -> None:
    before = listing(mushrooms(tmp_path / "photos"))
    said = plantops("init", "My Mushrooms", "--photos", "photos", cwd=tmp_path).stdout
    assert f"found 6 photos of 2 classes in {tmp_path / 'photos'}" in said
    assert listing(tmp_path / "photos") == before
    project = tmp_path / "My Mushrooms"
    assert listing(project / "data/raw/my-mushrooms").keys() == {*before, ".gitkeep"}
    config = load(project)
    names = (config.project, config.mlflow.experiment, config.mlflow.model_name, config.docker.image)
    assert names == ("my-mushrooms", "my-mushrooms", "my-mushrooms", "my-mushrooms-mlops")
    ready(project)
    for file in ("config.yaml", "params.yaml", "dvc.yaml", ".gitignore", ".dvcignore"):
        told = [line.partition("#")[0] for line in (project / file).read_text().splitlines()]
        assert not re.search(r"(?i)plant(?!ops)", "\n".join(told)), file
    again = plantops("init", "My Mushrooms", cwd=tmp_path).stdout
    assert again.startswith("a plantops project already")


def test_in_the_folder_of_the_classes_they_are_moved_only_when_one_says_yes(tmp_path: Path) -> None:
    before = listing(mushrooms(tmp_path / "here"))
    refused = plantops("init", cwd=tmp_path / "here", check=False)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert listing(tmp_path / "here") == before
    plantops("init", "--yes", cwd=tmp_path / "here")
    assert listing(tmp_path / "here/data/raw/here").keys() == {*before, ".gitkeep"}
    ready(tmp_path / "here")


def test_photos_inside_stay_where_they_are(tmp_path: Path) -> None:
    mushrooms(tmp_path / "project/pictures/all")
    plantops("init", "project", "--name", "fungi", cwd=tmp_path)
    project = tmp_path / "project"
    assert dvc.raw_folder(project) == project / "pictures/all"
    assert load(project).project == "fungi"
    ready(project)
    wrong = plantops("init", "other", "--name", "Not a name", cwd=tmp_path, check=False)
    assert (wrong.returncode, "--name not-a-name" in wrong.stderr) == (2, True)
    few = plantops("init", "other", "--photos", "project/pictures", cwd=tmp_path, check=False)
    assert (few.returncode, (tmp_path / "other").exists()) == (2, False)


def test_a_repository_of_the_guides_kind(tmp_path: Path) -> None:
    project = tmp_path / "old"
    mushrooms(project / "data/raw/Fungi")
    for name, text in {
        "scripts/train.py": "print('trained')\n",
        "dvc.yaml": "stages:\n  train:\n    cmd: python scripts/train.py\n    deps: [data/raw/Fungi, config.yaml]\n",
        "config.yaml": "data:\n  raw_dir: data/raw\nmlflow: {uri: 'http://localhost:5000'}\n",
        "docker/docker-compose.yml": "services: {}\n",
        ".gitignore": "secrets.txt",
        "README.md": "mine\n",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    sh("git", "init", "-q", cwd=project)
    sh("git", "add", "scripts", "dvc.yaml", "config.yaml", "docker", ".gitignore", "README.md", cwd=project)
    sh("git", "commit", "-qm", "Theirs", cwd=project)
    before = listing(project)

    refused = plantops("init", cwd=project, check=False)
    assert (refused.returncode, listing(project)) == (2, before)
    assert re.search(r"would stay as it is: .*README.md, data, scripts", refused.stdout)
    assert re.search(r"would be replaced: .*config.yaml, dvc.yaml, docker/docker-compose.yml", refused.stdout)

    plantops("init", "--yes", cwd=project)
    after = listing(project)
    aside = next((project / ".before-plantops").iterdir()).relative_to(project).as_posix()
    for name, digest in before.items():
        if name in ("config.yaml", "dvc.yaml", "docker/docker-compose.yml"):
            assert after[f"{aside}/{name}"] == digest
        elif name != ".gitignore" and not name.startswith(".git/"):
            assert after[name] == digest
    assert (project / ".gitignore").read_text().startswith("secrets.txt\n")
    assert dvc.raw_folder(project) == project / "data/raw/Fungi"
    ready(project)


def test_the_parts_of_a_split_are_no_classes(tmp_path: Path) -> None:
    mushrooms(tmp_path / "photos/train")
    mushrooms(tmp_path / "photos/test")
    (tmp_path / "other").mkdir()
    for argv, cwd in ((("init", "--photos", "../photos"), "other"), (("init",), "photos")):
        refused = plantops(*argv, cwd=tmp_path / cwd, check=False)
        assert refused.returncode == 2
        assert f"6 photos of 2 classes in {tmp_path / 'photos/test'}" in refused.stderr
        assert f"plantops init --photos {tmp_path / 'photos/test'}" in refused.stderr
    assert not list((tmp_path / "other").iterdir())
    said = plantops("init", "--photos", "../photos/train", cwd=tmp_path / "other").stdout
    assert "found 6 photos of 2 classes" in said


def test_names_that_shells_and_yaml_read_otherwise(tmp_path: Path) -> None:
    mushrooms(tmp_path / "My Project/My Photos")
    (tmp_path / "My Project/My Photos/Boletus edulis/gone.jpg").symlink_to("nowhere")
    said = plantops("init", "My Project", cwd=tmp_path).stdout
    add = next(line for line in said.splitlines() if line.startswith("next: ")).removeprefix("next: ")
    assert add == "cd 'My Project' && dvc add 'My Photos'/*/"
    mushrooms(tmp_path / "odd/Photos #1")
    refused = plantops("init", "odd", cwd=tmp_path, check=False)
    assert (refused.returncode, "'Photos #1' would be read as something else" in refused.stderr) == (2, True)
    assert [one.name for one in (tmp_path / "odd").iterdir()] == ["Photos #1"]
    plantops("init", "elsewhere", "--photos", "My Project/My Photos", cwd=tmp_path)  # with a link that leads nowhere
    assert len(list((tmp_path / "elsewhere").rglob("*.jpg"))) == 6


def test_nothing_is_moved_aside_before_it_is_known_which_photos(tmp_path: Path) -> None:
    for name in ("one", "two"):
        mushrooms(tmp_path / name)
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  all:\n    cmd: 'true'\n")
    before = listing(tmp_path)
    refused = plantops("init", "--yes", cwd=tmp_path, check=False)
    assert (refused.returncode, listing(tmp_path)) == (2, before)
    assert f"plantops init --photos {tmp_path / 'one'}" in refused.stderr
    (tmp_path / "dvc.yaml").write_text("stages:\n  all:\n    cmd: 'true'\n    deps: [two]\n")
    plantops("init", "--yes", cwd=tmp_path)
    assert dvc.raw_folder(tmp_path) == tmp_path / "two"

"""The wheel is enough: installed beside the dependencies, it makes a project like the clone and runs it."""

from __future__ import annotations

import json
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT, plantops, sh
from plantops import __version__
from runs.cheap import RAW, answering
from runs.installed import run

pytestmark = pytest.mark.ci
# As a first run finds them, whatever has been run in the clone.
OWN = {"dvc.lock", ".dvc/config", ".dvc/.gitignore"}


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a venv with this wheel alone, which sees the dependencies that are installed here."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    sh(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin/python"
    sh(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=ROOT)
    inside = sh(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip()
    # A path in a .pth file is searched, and the .pth files in there are not read: the editable plantops stays unseen.
    (Path(inside) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"plantops", f"plantops-{__version__}.dist-info"}
    code = {name.removeprefix("plantops/") for name in names if name.endswith(".py") and "/templates/" not in name}
    source = {str(one.relative_to(ROOT / "src/plantops")) for one in (ROOT / "src/plantops").rglob("*.py")}
    assert code == source
    assert {"plantops/py.typed", "plantops/pipelines/github.yml", "plantops/pipelines/gitlab.yml"} <= set(names)


def test_the_wheel_holds_what_git_knows_of_docker_and_no_passwords_beside_it(wheel: Path) -> None:
    names = {one.removeprefix("plantops/templates/") for one in zipfile.ZipFile(wheel).namelist()}
    inside = {one for one in names if one.startswith("docker/")}
    assert inside == set(sh("git", "ls-files", "docker", cwd=ROOT).stdout.splitlines())


def test_init_makes_the_files_of_the_clone(programs: Path, tmp_path: Path) -> None:
    where = run(programs, "python", "-c", "import plantops; print(plantops.__file__)", cwd=tmp_path).stdout
    assert where.startswith(str(programs.parent))
    project = tmp_path / "empty"
    project.mkdir()
    told = run(programs, "plantops", "init", cwd=project).stdout
    assert "committed it" in told
    assert sh("git", "status", "--porcelain", cwd=project).stdout == ""
    files = set(sh("git", "ls-files", cwd=project).stdout.splitlines())
    assert files >= {"config.yaml", "params.yaml", "dvc.yaml", "training_code.yaml", ".gitignore", ".dvcignore"}
    assert files <= set(sh("git", "ls-files", "--cached", "--others", cwd=ROOT).stdout.splitlines())
    differing = [one for one in files - OWN if (project / one).read_bytes() != (ROOT / one).read_bytes()]
    assert differing == []
    assert run(programs, "plantops", "init", cwd=project).stdout.startswith("a plantops project already")

    # A first look, and DVC's first stage by hand.
    run(programs, "plantops", "sample", "--classes", "2", "--per-class", "24", cwd=project)
    run(programs, "dvc", "add", "--quiet", *sorted((project / RAW).glob("*/")), cwd=project)
    looked = json.loads(run(programs, "plantops", "check", "--json", cwd=project).stdout)
    assert (looked["first"], looked["stages"]) == (True, ["prepare_data", "train", "evaluate", "export_model"])
    run(programs, "dvc", "repro", "prepare_data", cwd=project)
    assert json.loads((project / "data/prepared/meta.json").read_text())["sample_data"] is True


def test_a_whole_run_from_the_wheel(programs: Path, project: Path) -> None:
    try:
        assert "released: " in run(programs, "plantops", "run", cwd=project).stdout
        one = answering(project)
        assert one
        # The clone's plantops, with the same code, finds nothing to do.
        assert "no changes" in plantops("run", cwd=project).stdout
        assert answering(project) == one
    finally:
        run(programs, "plantops", "down", cwd=project, check=False)
